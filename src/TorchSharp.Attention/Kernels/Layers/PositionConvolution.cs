using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// A k×k convolution of one or two maps into one, with a batch norm of fixed statistics: too small a task for a general
/// convolution, whose preparation costs more than its arithmetic. Inference, float32.
/// </summary>
internal static unsafe class PositionConvolution
{
    /// <summary>Floats of padded rows on the stack of a thread.</summary>
    internal const int LargestScratch = 12 * 1024;

    /// <summary>The side of the largest kernel of which a row fits there.</summary>
    private const int LargestKernel = 110;

    /// <summary>The logits, (N, 1, H, W), of pooled positions, (N, 2, H, W); null where libtorch must convolve.</summary>
    public static Tensor? TryRun(Tensor pooled, SpatialMapOrder order, Conv2d convolution, BatchNorm2d? norm)
    {
        if (!AttentionKernels.Enabled || is_grad_enabled() || pooled.dtype != ScalarType.Float32
            || pooled.device_type != DeviceType.CPU)
        {
            return null;
        }

        if (!pooled.is_contiguous()
            || !TryDescribe(pooled.size(0), pooled.size(2), pooled.size(3), order, convolution, norm, out Arguments a))
        {
            return null;
        }

        int batch = (int)pooled.size(0), height = a.Height, width = a.Width;
        Tensor logits = MapView.New([batch, 1, height, width]);
        a.Input = MapView.Pointer(pooled);
        a.Output = MapView.Pointer(logits);
        Run(ref a, batch);
        KernelCheck.Verify();
        GC.KeepAlive(pooled);
        GC.KeepAlive(convolution);
        GC.KeepAlive(norm);
        return logits;
    }

    /// <summary>All samples.</summary>
    public static void Run(ref Arguments arguments, int batch)
    {
        fixed (Arguments* a = &arguments)
        {
            delegate*<Arguments*, int, int, void> body =
                Vector512.IsHardwareAccelerated ? &Run<Simd512> : Vector256.IsHardwareAccelerated ? &Run<Simd256> : &Run<Simd128>;
            NativeTeam.Run(body, a, batch * a->Blocks, (long)batch * a->Height * a->Width * a->Kernel * a->Kernel);
        }
    }

    /// <summary>The convolution of maps of a size, without its input and output; false where libtorch must convolve.</summary>
    public static bool TryDescribe(
        long batch, long height, long width, SpatialMapOrder order, Conv2d convolution, BatchNorm2d? norm, out Arguments a)
    {
        a = default;
        if (Math.Max(batch, Math.Max(height, width)) > MapView.MostCounted || batch * height > MapView.MostCounted
            || batch * height * width > MapView.MostCounted)
        {
            return false;
        }

        if (Hooks.Any(convolution) || (norm is not null && (norm.training || Hooks.Any(norm)))) return false;
        Tensor weight = convolution.weight!;
        if (weight.size(2) > LargestKernel) return false;
        int kernel = (int)weight.size(2), maps = (int)weight.size(1);
        if (weight.device_type != DeviceType.CPU || weight.dtype != ScalarType.Float32 || !weight.is_contiguous()) return false;
        if (norm is not null && !AreFloats(norm.weight, norm.bias, norm.running_mean, norm.running_var)) return false;

        a = new Arguments
        {
            Maps = maps,
            Kernel = kernel,
            Height = (int)height,
            Width = (int)width,
            Pitch = (int)width + kernel - 1,
            InputStride = (nint)(2 * height * width),
            OutputStride = (nint)(height * width),
            Order = order,
            Scale = 1,
        };
        a.RowsOfBlock = Math.Min(a.Height, (LargestScratch / (maps * a.Pitch)) - (kernel - 1) - 1);
        if (a.RowsOfBlock < 1) return false;
        if (norm is not null) FoldNorm(norm, ref a);
        a.Weights = MapView.Pointer(weight);

        // Small blocks let all threads work on a batch of one.
        int threads = get_num_threads();
        if (batch < threads) a.RowsOfBlock = Math.Min(a.RowsOfBlock, Math.Max(8, (a.Height + threads - 1) / threads));
        a.Blocks = (a.Height + a.RowsOfBlock - 1) / a.RowsOfBlock;
        return true;
    }

    private static bool AreFloats(params Tensor?[] tensors)
        => Array.TrueForAll(
            tensors, one => one is null || (one.dtype == ScalarType.Float32 && one.device_type == DeviceType.CPU));

    private static void FoldNorm(BatchNorm2d norm, ref Arguments a)
    {
        float gain = norm.weight is null ? 1 : *MapView.Pointer(norm.weight), shift = norm.bias is null
            ? 0
            : *MapView.Pointer(norm.bias);
        a.Scale = gain / MathF.Sqrt(*MapView.Pointer(norm.running_var!) + (float)norm.eps);
        a.Shift = shift - (*MapView.Pointer(norm.running_mean!) * a.Scale);
    }

    /// <summary>Items are blocks of rows of all samples.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run<TVector>(Arguments* a, int from, int to)
        where TVector : unmanaged, ISimd<TVector>
    {
        float* scratch = stackalloc float[LargestScratch + 64];
        float* sums = stackalloc float[LargestScratch + 64];
        for (int item = from; item < to; item++)
        {
            int sample = item / a->Blocks, first = item % a->Blocks * a->RowsOfBlock,
                rows = Math.Min(a->RowsOfBlock, a->Height - first);
            int plane = (rows + a->Kernel - 1) * a->Pitch;
            Pad(a, scratch, sample, first, rows);

            // Padded rows lie one after the other: a tap is one shift of the whole block. Sums of the padding in between are
            // dropped.
            int count = ((rows - 1) * a->Pitch) + a->Width;
            float* output = a->Output + ((long)sample * a->OutputStride) + ((long)first * a->Width);
            for (int i = 0; i < count; i += 4 * TVector.Lanes)
            {
                TVector sum0 = TVector.All(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
                float* weight = a->Weights;
                for (int map = 0; map < a->Maps; map++)
                {
                    for (int y = 0; y < a->Kernel; y++)
                    {
                        float* row = scratch + (map * plane) + (y * a->Pitch) + i;
                        for (int x = 0; x < a->Kernel; x++, row++, weight++)
                        {
                            TVector tap = TVector.All(*weight);
                            sum0 = TVector.MultiplyAdd(tap, TVector.Load(row), sum0);
                            sum1 = TVector.MultiplyAdd(tap, TVector.Load(row + TVector.Lanes), sum1);
                            sum2 = TVector.MultiplyAdd(tap, TVector.Load(row + (2 * TVector.Lanes)), sum2);
                            sum3 = TVector.MultiplyAdd(tap, TVector.Load(row + (3 * TVector.Lanes)), sum3);
                        }
                    }
                }

                TVector scale = TVector.All(a->Scale), shift = TVector.All(a->Shift);
                ((sum0 * scale) + shift).Store(sums + i);
                ((sum1 * scale) + shift).Store(sums + i + TVector.Lanes);
                ((sum2 * scale) + shift).Store(sums + i + (2 * TVector.Lanes));
                ((sum3 * scale) + shift).Store(sums + i + (3 * TVector.Lanes));
            }

            for (int y = 0; y < rows; y++)
            {
                new ReadOnlySpan<float>(
                    sums + (y * a->Pitch), a->Width).CopyTo(new Span<float>(output + ((long)y * a->Width), a->Width));
            }
        }
    }

    /// <summary>Copies the rows that a block reads, with zeros around the map, in the weights' order of maps.</summary>
    internal static void Pad(Arguments* a, float* scratch, int sample, int first, int rows)
    {
        int padding = a->Kernel / 2, padded = rows + a->Kernel - 1;
        long positions = (long)a->Height * a->Width;
        float* mean = a->Input + ((long)sample * a->InputStride), maximum = mean + positions;
        new Span<float>(
            scratch, LargestScratch + 64).Slice(0, Math.Min(LargestScratch + 64, (a->Maps * padded * a->Pitch) + 64)).Clear();
        for (int map = 0; map < a->Maps; map++)
        {
            float* source = (map == 0) == (a->Order != SpatialMapOrder.MaxMean) ? mean : maximum;
            for (int y = 0; y < padded; y++)
            {
                int row = first + y - padding;
                if (row < 0 || row >= a->Height) continue;
                float* into = scratch + (((map * padded) + y) * a->Pitch) + padding;
                long start = (long)row * a->Width;
                new ReadOnlySpan<float>(source + start, a->Width).CopyTo(new Span<float>(into, a->Width));
                if (a->Order != SpatialMapOrder.Average) continue;
                for (int x = 0; x < a->Width; x++) into[x] = (into[x] + maximum[start + x]) * 0.5f;
            }
        }
    }

    internal struct Arguments
    {
        public float* Input;
        public float* Weights;
        public float* Output;
        public int Maps;
        public int Kernel;
        public int Height;
        public int Width;
        public int Pitch;
        public nint InputStride;
        public nint OutputStride;
        public int RowsOfBlock;
        public int Blocks;
        public SpatialMapOrder Order;
        public float Scale;
        public float Shift;
    }
}
