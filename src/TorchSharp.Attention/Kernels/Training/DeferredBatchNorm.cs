using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// A batch norm in training whose output is never written: the kernels of the gate behind it read the norm's input z and make x =
/// (z − μ) · w / √(σ² + ε) + b of it on the way, in the forward and in the backward pass. A gate then costs no map of its own to
/// keep, and fewer passes over memory than norm, gate, addition and ReLU one by one.
/// </summary>
internal static unsafe class DeferredBatchNorm
{
    /// <summary>Arrays of (N, C) values that describe a norm to the kernels.</summary>
    public const int Arrays = 6;

    private const int Centre = 0, Factor = 1, Shift = 2, Deviation = 3, Extreme = 4, Inverse = 5;

    private static long _begun;

    /// <summary>How many norms have begun so, for tests.</summary>
    internal static long Begun => Interlocked.Read(ref _begun);

    /// <summary>Whether the norm is one that the kernels can stand in for, and nobody listens to it.</summary>
    public static bool Fits(BatchNorm2d norm, in MapView view)
        => norm.training && norm.momentum is not null && !view.IsBFloat16 && !view.IsChannelsLast
            && (long)view.Batch * view.Positions > 1
            && norm.weight is not null && norm.bias is not null && Holds(norm.weight, view) && Holds(norm.bias, view)
            && norm.track_running_stats && norm.num_batches_tracked is not null
            && norm.running_mean is not null && norm.running_var is not null && Holds(norm.running_mean, view)
            && Holds(norm.running_var, view)
            && !Hooks.Any(norm);

    /// <summary>Whether the norm's output has a gradient.</summary>
    public static bool Learns(BatchNorm2d norm, Tensor input)
        => input.requires_grad || norm.weight is { requires_grad: true } || norm.bias is { requires_grad: true };

    /// <summary>Where the kernels find the norm.</summary>
    public static void Describe(in MapView view, ref MapArguments a)
    {
        a.NormCentre = At(view, Centre);
        a.NormFactor = At(view, Factor);
        a.NormShift = At(view, Shift);
    }

    /// <summary>
    /// Takes the batch's statistics, updates the norm's running ones and fills in the arrays; with <paramref name="extremes"/>,
    /// also the largest value of each channel of x.
    /// </summary>
    public static void Begin(BatchNorm2d norm, in MapView view, bool extremes)
    {
        int channels = view.Channels, batch = view.Batch, planes = batch * channels;
        Interlocked.Increment(ref _begun);
        ScratchLayout layout = new(KernelCheck.Guard);
        Section first = layout.AddDoubles(planes), second = layout.AddDoubles(planes);
        using Scratch scratch = new(layout);
        double* means = scratch.Doubles(first), squares = scratch.Doubles(second);
        float* weight = MapView.Pointer(norm.weight!);
        float* extreme = At(view, Extreme);
        NormStatistics.Run(view, new()
        {
            Values = (float*)view.Values,
            Positions = view.Positions,
            Channels = channels,
            Means = means,
            Squares = squares,
            Extremes = extremes ? extreme : null,
            Signs = weight,
        });
        Merging merging = new()
        {
            Means = means,
            Squares = squares,
            Arrays = view.Norm,
            Weight = weight,
            Bias = MapView.Pointer(norm.bias!),
            RunningMean = MapView.Pointer(norm.running_mean!),
            RunningVariance = MapView.Pointer(norm.running_var!),
            Batch = batch,
            Channels = channels,
            Positions = view.Positions,
            Epsilon = norm.eps,
            Share = norm.momentum!.Value,
        };
        NativeTeam.Run(&Merge, &merging, channels, sizeof(double) * (2L + Arrays) * planes);
        scratch.Check();
        for (int i = 0; extremes && i < planes; i++) extreme[i] = Normed(view, i, extreme[i]);
        norm.num_batches_tracked!.Plus_(Scalars.Once);
        GC.KeepAlive(norm);
    }

    /// <summary>The means of x and, where the gate reads them, its maxima: (1 or 2, N, C).</summary>
    public static void Pool(in MapView view, ChannelStatistics reads, float* results)
    {
        int planes = view.Batch * view.Channels;
        float* deviation = At(view, Deviation), factor = At(view, Factor), shift = At(view, Shift), extreme = At(view, Extreme);
        for (int i = 0; i < planes; i++) results[i] = (deviation[i] * factor[i]) + shift[i];
        if (reads.HasFlag(ChannelStatistics.Maximum))
        {
            new ReadOnlySpan<float>(extreme, planes).CopyTo(new Span<float>(results + planes, planes));
        }
    }

    /// <summary>Σ dy · x of each channel from Σ dy · (z − μ) and Σ dy.</summary>
    public static void Dot(in MapView view, float* centred, float* sums, float* results)
    {
        float* factor = At(view, Factor), shift = At(view, Shift);
        for (int i = 0; i < view.Batch * view.Channels; i++) results[i] = (centred[i] * factor[i]) + (sums[i] * shift[i]);
    }

    /// <summary>
    /// Σ dx and Σ dx · (z − μ) of each channel where dx = dy · gate + shift, from the same sums of dy.
    /// </summary>
    public static void SumsOfGated(in MapView view, float* gate, float* shift, float* sums, float* centred)
    {
        float* deviation = At(view, Deviation);
        for (int i = 0; i < view.Batch * view.Channels; i++)
        {
            float all = shift[i] * view.Positions;
            sums[i] = (sums[i] * gate[i]) + all;
            centred[i] = (centred[i] * gate[i]) + (all * deviation[i]);
        }
    }

    /// <summary>
    /// The norm's backward pass from Σ dx and Σ dx · (z − μ) of each channel and sample: dz = dx · f + shift + slope · (z − μ),
    /// whose factors are written over the sums; returns the gradients of weight and bias.
    /// </summary>
    public static NormGradients Backward(in MapView view, float* sums, float* centred)
    {
        int channels = view.Channels, planes = view.Batch * channels;
        double count = (double)view.Batch * view.Positions;
        float* factor = At(view, Factor), inverse = At(view, Inverse);
        NormGradients gradients = new(new float[channels], new float[channels]);
        for (int c = 0; c < channels; c++)
        {
            double sum = 0, dot = 0;
            for (int i = c; i < planes; i += channels)
            {
                sum += sums[i];
                dot += centred[i];
            }

            gradients.Weight[c] = (float)(dot * inverse[c]);
            gradients.Bias[c] = (float)sum;
            float shift = (float)(-factor[c] * sum / count), slope = (float)(-factor[c] * dot * inverse[c] * inverse[c] / count);
            for (int i = c; i < planes; i += channels)
            {
                sums[i] = shift;
                centred[i] = slope;
            }
        }

        return gradients;
    }

    /// <summary>dz = (dy · gate + shift) · f + rest in one step: returns gate · f and adds shift · f to the rest.</summary>
    public static Tensor Through(in MapView view, float* gate, float* shift, float* rest)
    {
        Tensor product = MapView.New([view.Batch, view.Channels]);
        float* result = MapView.Pointer(product), factor = At(view, Factor);
        for (int i = 0; i < view.Batch * view.Channels; i++)
        {
            result[i] = gate[i] * factor[i];
            rest[i] += shift[i] * factor[i];
        }

        return product;
    }

    /// <summary>The factor w / √(σ² + ε) of each channel and sample.</summary>
    public static float* Factors(in MapView view) => At(view, Factor);

    /// <summary>Values as a tensor.</summary>
    public static Tensor New(float[] values)
    {
        Tensor tensor = MapView.New([values.Length]);
        values.CopyTo(new Span<float>(MapView.Pointer(tensor), values.Length));
        return tensor;
    }

    /// <summary>dz, dw and db by libtorch's operations, which can be differentiated again.</summary>
    public static Tensor[] Derive(Tensor input, Tensor weight, double epsilon, Tensor gradient)
    {
        using Scalar small = epsilon.ToScalar();
        long[] all = [0, 2, 3], shape = [1, -1, 1, 1];
        Tensor centred = input.sub(input.mean(all, keepdim: true));
        Tensor inverse = centred.Squared().mean(all, keepdim: true).Plus(small).rsqrt();
        Tensor normed = centred.mul(inverse), product = gradient.mul(normed);
        Tensor rest = gradient.sub(gradient.mean(all, keepdim: true)).sub(normed.mul(product.mean(all, keepdim: true)));
        return [rest.mul(inverse.mul(weight.view(shape))), product.sum(all), gradient.sum(all)];
    }

    /// <summary>x as a map of its own.</summary>
    public static Tensor Write(in MapView view, Tensor input)
    {
        MapArguments a = view.Arguments();
        a.Y = view.Like(input, out Tensor normed).Values;
        MapKernels.Write<Itself>(view, a);
        GC.KeepAlive(input);
        return normed;
    }

    /// <summary>Statistics of some channels from those of their planes, the running ones, and the arrays.</summary>
    private static void Merge(Merging* a, int from, int to)
    {
        int channels = a->Channels, planes = a->Batch * channels;
        double count = (double)a->Batch * a->Positions;
        float* centre = a->Arrays + (Centre * (nint)planes), factor = a->Arrays + (Factor * (nint)planes),
            shift = a->Arrays + (Shift * (nint)planes);
        float* deviation = a->Arrays + (Deviation * (nint)planes), inverse = a->Arrays + (Inverse * (nint)planes);
        for (int c = from; c < to; c++)
        {
            double mean = 0, sum = 0;
            for (int i = c; i < planes; i += channels) mean += a->Means[i];
            mean /= a->Batch;
            for (int i = c; i < planes; i += channels)
            {
                sum += a->Squares[i] + (a->Positions * (a->Means[i] - mean) * (a->Means[i] - mean));
            }

            float middle = (float)mean, weight = a->Weight[c], bias = a->Bias[c];
            double root = 1 / Math.Sqrt((sum / count) + a->Epsilon);
            for (int i = c; i < planes; i += channels)
            {
                centre[i] = middle;
                inverse[i] = (float)root;
                factor[i] = (float)(root * weight);
                shift[i] = bias;
                deviation[i] = (float)(a->Means[i] - middle);
            }

            a->RunningMean[c] = (float)((a->Share * mean) + ((1 - a->Share) * a->RunningMean[c]));
            a->RunningVariance[c] = (float)((a->Share * sum / (count - 1)) + ((1 - a->Share) * a->RunningVariance[c]));
        }
    }

    private struct Merging
    {
        public double* Means;
        public double* Squares;
        public float* Arrays;
        public float* Weight;
        public float* Bias;
        public float* RunningMean;
        public float* RunningVariance;
        public int Batch;
        public int Channels;
        public int Positions;
        public double Epsilon;

        /// <summary>Of the new batch in the running statistics.</summary>
        public double Share;
    }

    /// <summary>A value after the deferred norm: (value − centre) · factor + shift of its channel.</summary>
    private static float Normed(in MapView view, int plane, float value)
        => ((value - At(view, Centre)[plane]) * At(view, Factor)[plane]) + At(view, Shift)[plane];

    private static float* At(in MapView view, int array) => view.Norm + ((long)array * view.Batch * view.Channels);

    private static bool Holds(Tensor tensor, in MapView view)
        => tensor.dtype == ScalarType.Float32 && tensor.device_type == DeviceType.CPU && tensor.is_contiguous()
            && tensor.numel() == view.Channels;
}
