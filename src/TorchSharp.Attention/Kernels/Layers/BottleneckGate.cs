using System.Runtime.Intrinsics;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// The gate σ(W₂ h + k b₂) of pooled channels in training, h = ReLU(W₁ p + b₁), as one function with its gradients. Of two
/// branches, mean and maximum, h is the sum over both and k is 2. For the few rows of a small batch libtorch's fifteen small
/// operations cost more than they compute.
/// </summary>
internal static unsafe class BottleneckGate
{
    /// <summary>
    /// Samples a branch up to which the function was not slower than the layers; beyond, libtorch's matrix
    /// products win. See docs/decisions.md.
    /// </summary>
    private const int MostSamplesOfBranch = 4;

    /// <summary>
    /// The gate, (N, C, 1, 1), of what the kernels pooled, (branches, N, C, 1, 1); null where the layers must run.
    /// </summary>
    public static Tensor? TryRun(Tensor pooled, Conv2d first, GateActivation activation, Conv2d second, GateFunction gate)
    {
        if (!AttentionKernels.Enabled || !is_grad_enabled() || activation != GateActivation.ReLU || gate != GateFunction.Sigmoid)
        {
            return null;
        }

        if (pooled.size(1) > MostSamplesOfBranch * pooled.size(0) || !Holds(pooled) || Hooks.Any(first) || Hooks.Any(second))
        {
            return null;
        }

        if (pooled.numel() > MapView.MostCounted || pooled.size(0) * pooled.size(1) * first.weight!.size(0) > MapView.MostCounted)
        {
            return null;
        }

        if (!Holds(first.weight) || !Holds(second.weight) || (first.bias is not null && !Holds(first.bias))
            || (second.bias is not null && !Holds(second.bias)))
        {
            return null;
        }

        bool weights = first.weight!.requires_grad || second.weight!.requires_grad || first.bias is { requires_grad: true }
            || second.bias is { requires_grad: true };
        if (!weights && !pooled.requires_grad) return null;
        BottleneckPass pass = new(pooled.requires_grad, weights, first.bias, second.bias);
        return BottleneckFunction.apply(pooled, first.weight!, first.bias!, second.weight!, second.bias!, pass);
    }

    /// <summary>The gate, and h of all branches, (branches · N, H).</summary>
    public static (Tensor Gate, Tensor Hidden) Forward(
        Tensor pooled, Tensor first, Tensor? firstBias, Tensor second, Tensor? secondBias)
    {
        Layers layers = Layers.Of(pooled, first, second);
        Tensor hidden = MapView.New([layers.Rows, layers.Reduced]), gate = MapView.New([layers.Samples, layers.Channels, 1, 1]);
        using Tensor? sums = layers.Rows == layers.Samples ? null : MapView.New([layers.Samples, layers.Reduced]);
        layers.Hidden = MapView.Pointer(hidden);
        layers.Sums = MapView.Pointer(sums ?? hidden);
        layers.Gate = MapView.Pointer(gate);
        layers.FirstBias = firstBias is null ? null : MapView.Pointer(firstBias);
        layers.SecondBias = secondBias is null ? null : MapView.Pointer(secondBias);
        if (Vector512.IsHardwareAccelerated) Bottleneck<Simd512>.Forward(&layers);
        else if (Vector256.IsHardwareAccelerated) Bottleneck<Simd256>.Forward(&layers);
        else Bottleneck<Simd128>.Forward(&layers);
        GC.KeepAlive(pooled);
        GC.KeepAlive(first);
        GC.KeepAlive(firstBias);
        GC.KeepAlive(second);
        GC.KeepAlive(secondBias);
        return (gate, hidden);
    }

    /// <summary>The gradients of the pooled channels, of both weights and of both biases; null where nobody asks.</summary>
    public static Tensor?[] Backward(BottleneckPass pass, List<Tensor> saved, Tensor gradient)
    {
        (Tensor pooled, Tensor first, Tensor second, Tensor hidden, Tensor gate) =
            (saved[0], saved[1], saved[2], saved[3], saved[4]);
        (bool forPooled, bool forWeights) = (pass.PooledNeedsGradient, pass.WeightsNeedGradient);
        using DisposeScope scope = NewDisposeScope();
        Layers layers = Layers.Of(pooled, first, second);
        Tensor contiguous = gradient.contiguous();
        Tensor sums = layers.Rows == layers.Samples ? hidden : MapView.New([layers.Samples, layers.Reduced]);
        Tensor logits = MapView.New([layers.Samples, layers.Channels]),
            sumsGradient = MapView.New([layers.Samples, layers.Reduced]),
            hiddenGradient = MapView.New([layers.Rows, layers.Reduced]);
        Tensor?[] gradients =
        [
            forPooled ? MapView.New(pooled.shape) : null,
            forWeights ? MapView.New(first.shape) : null,
            forWeights && pass.FirstBias is not null ? MapView.New([layers.Reduced]) : null,
            forWeights ? MapView.New(second.shape) : null,
            forWeights && pass.SecondBias is not null ? MapView.New([layers.Channels]) : null,
        ];
        layers.Hidden = MapView.Pointer(hidden);
        layers.Sums = MapView.Pointer(sums);
        layers.Gate = MapView.Pointer(gate);
        layers.GateGradient = MapView.Pointer(contiguous);
        layers.Logits = MapView.Pointer(logits);
        layers.SumsGradient = MapView.Pointer(sumsGradient);
        layers.HiddenGradient = MapView.Pointer(hiddenGradient);
        layers.PooledGradient = PointerOrNull(gradients[0]);
        layers.FirstGradient = PointerOrNull(gradients[1]);
        layers.FirstBiasGradient = PointerOrNull(gradients[2]);
        layers.SecondGradient = PointerOrNull(gradients[3]);
        layers.SecondBiasGradient = PointerOrNull(gradients[4]);
        if (Vector512.IsHardwareAccelerated) Bottleneck<Simd512>.Backward(&layers);
        else if (Vector256.IsHardwareAccelerated) Bottleneck<Simd256>.Backward(&layers);
        else Bottleneck<Simd128>.Backward(&layers);
        GC.KeepAlive(saved);
        GC.KeepAlive(contiguous);
        foreach (Tensor? result in gradients) result?.MoveToOuterDisposeScope();
        return gradients;
    }

    /// <summary>Computes the gradients by libtorch's operations, which can be differentiated again.</summary>
    public static Tensor?[] Derive(BottleneckPass pass, List<Tensor> saved, Tensor gradient)
    {
        (Tensor? firstBias, Tensor? secondBias) = (pass.FirstBias, pass.SecondBias);
        long batch = saved[0].size(1), channels = saved[0].size(2), branches = saved[0].size(0);
        Tensor pooled = saved[0].view(branches * batch, channels), first = saved[1].view(-1, channels),
            second = saved[2].view(channels, -1);
        Tensor hidden = nn.functional.linear(pooled, first, firstBias).relu();
        Tensor sums = hidden.view(branches, batch, -1).sum([0L]);
        Tensor bias = secondBias is null
            ? zeros_like(second.select(1, 0))
            : branches == 2 ? secondBias.Plus(secondBias) : secondBias;
        Tensor gate = nn.functional.linear(sums, second, bias).sigmoid();
        CheckBiases(saved[4].view(gate.shape), gate);
        Tensor toLogits = gradient.view(batch, channels).mul(gate).mul(gate.neg().Plus(Scalars.One));
        Tensor off;
        using (no_grad()) off = hidden.le(Scalars.Zero);
        Tensor toHidden = toLogits.mm(second).repeat(branches, 1).masked_fill(off, Scalars.Zero);
        Tensor toBias = toLogits.sum([0L]);
        return
        [
            toHidden.mm(first).view(saved[0].shape),
            toHidden.transpose(0, 1).mm(pooled).view(saved[1].shape),
            firstBias is null ? null : toHidden.sum([0L]),
            toLogits.transpose(0, 1).mm(sums).view(saved[2].shape),
            secondBias is null ? null : branches == 2 ? toBias.Plus(toBias) : toBias,
        ];
    }

    /// <summary>
    /// To compare with; nothing where a bias is no longer what it was, which the first derivative does not mind.
    /// </summary>
    public static Tensor?[] DeriveWhereBiasesStand(BottleneckPass pass, List<Tensor> saved, Tensor gradient)
    {
        try
        {
            return Derive(pass, saved, gradient);
        }
        catch (InvalidOperationException)
        {
            return new Tensor?[5];
        }
    }

    /// <summary>A second derivative computes the gate anew, which takes the biases as they were.</summary>
    private static void CheckBiases(Tensor before, Tensor now)
    {
        using IDisposable quiet = no_grad();
        if (now.detach().allclose(before, 1e-4, 1e-5, equal_nan: true)) return;
        throw new InvalidOperationException(
            "one of the variables needed for gradient computation has been modified by an inplace operation: " +
            "a bias of the gate's layers, which a second derivative needs.");
    }

    private static float* PointerOrNull(Tensor? tensor) => tensor is null ? null : MapView.Pointer(tensor);

    private static bool Holds(Tensor? tensor)
        => tensor is not null && tensor.dtype == ScalarType.Float32 && tensor.device_type == DeviceType.CPU
            && tensor.is_contiguous() && tensor.numel() > 0;

    /// <summary>Sizes and addresses; matrices lie row after row.</summary>
    internal struct Layers
    {
        public int Rows;
        public int Samples;
        public int Channels;
        public int Reduced;

        /// <summary>p, (rows, C); W₁, (H, C); W₂, (C, H).</summary>
        public float* Pooled;
        public float* First;
        public float* Second;
        public float* FirstBias;
        public float* SecondBias;

        /// <summary>h of every row; its sum over branches; the gate.</summary>
        public float* Hidden;
        public float* Sums;
        public float* Gate;

        /// <summary>
        /// Gradients of the gate and, made on the way back, of the logits, of the sums and of every row's W₁ p + b₁.
        /// </summary>
        public float* GateGradient;
        public float* Logits;
        public float* SumsGradient;
        public float* HiddenGradient;
        public float* PooledGradient;
        public float* FirstGradient;
        public float* FirstBiasGradient;
        public float* SecondGradient;
        public float* SecondBiasGradient;

        public readonly int Branches => Rows / Samples;

        public readonly long WeightBytes => sizeof(float) * (long)Channels * Reduced;

        public static Layers Of(Tensor pooled, Tensor first, Tensor second) => new()
        {
            Rows = (int)(pooled.size(0) * pooled.size(1)),
            Samples = (int)pooled.size(1),
            Channels = (int)pooled.size(2),
            Reduced = (int)first.size(0),
            Pooled = MapView.Pointer(pooled),
            First = MapView.Pointer(first),
            Second = MapView.Pointer(second),
        };
    }
}
