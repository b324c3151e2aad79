using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// The small convolution of pooled positions where a backward pass may follow: its forward, and its gradients by kernels.
/// </summary>
internal static unsafe class PositionConvolutionGradients
{
    /// <summary>Taps whose sums stay in registers while a row is read.</summary>
    private const int TapsAtOnce = 8;

    /// <summary>
    /// The logits before any norm, (N, 1, H, W), of pooled positions, (N, 2, H, W); null where libtorch must convolve.
    /// </summary>
    public static Tensor? TryRun(Tensor pooled, SpatialMapOrder order, Conv2d convolution)
    {
        Tensor weight = convolution.weight!;
        if (!AttentionKernels.Enabled || !is_grad_enabled() || !(pooled.requires_grad || weight.requires_grad)) return null;
        if (pooled.dtype != ScalarType.Float32 || pooled.device_type != DeviceType.CPU || pooled.numel() == 0
            || !pooled.is_contiguous())
        {
            return null;
        }

        if (!PositionConvolution.TryDescribe(
            pooled.size(0), pooled.size(2), pooled.size(3), order, convolution, null, out PositionConvolution.Arguments a))
        {
            return null;
        }

        ConvolutionPass pass = new(order, pooled.requires_grad, weight.requires_grad) { Arguments = a };
        return ConvolvePositionsFunction.apply(pooled, weight, pass);
    }

    public static Tensor Forward(PositionConvolution.Arguments a, Tensor pooled, Tensor weight)
    {
        int batch = (int)pooled.size(0);
        Tensor logits = MapView.New([batch, 1, a.Height, a.Width]);
        a.Input = MapView.Pointer(pooled);
        a.Weights = MapView.Pointer(weight);
        a.Output = MapView.Pointer(logits);
        PositionConvolution.Run(ref a, batch);
        KernelCheck.Verify();
        GC.KeepAlive(pooled);
        GC.KeepAlive(weight);
        return logits;
    }

    /// <summary>
    /// The gradient of the pooled positions: dy convolved with the weights turned by half a circle, map by map.
    /// </summary>
    public static Tensor OfPooled(PositionConvolution.Arguments a, Tensor weight, Tensor gradient)
    {
        int batch = (int)gradient.size(0), taps = a.Kernel * a.Kernel;
        nint positions = (nint)a.Height * a.Width;
        bool average = a.Order == SpatialMapOrder.Average;
        Tensor result = MapView.New([batch, 2, a.Height, a.Width]);
        float* from = MapView.Pointer(weight), into = MapView.Pointer(result);
        float* turned = stackalloc float[taps];
        for (int slot = 0; slot < 2; slot++)
        {
            int map = average ? 0 : a.Order == SpatialMapOrder.MaxMean ? 1 - slot : slot;
            for (int tap = 0; tap < taps; tap++) turned[tap] = from[((map + 1) * taps) - 1 - tap];
            PositionConvolution.Arguments one = a with
            {
                Maps = 1,
                Order = SpatialMapOrder.MeanMax,
                Input = MapView.Pointer(gradient),
                InputStride = positions,
                Weights = turned,
                Output = into + (slot * positions),
                OutputStride = 2 * positions,
                Scale = average ? 0.5f : 1,
            };
            PositionConvolution.Run(ref one, batch);
        }

        GC.KeepAlive(weight);
        GC.KeepAlive(gradient);
        return result;
    }

    /// <summary>
    /// The gradient of the weights: for each tap the sum of dy · shifted map, block by block and then over
    /// blocks, so that threads change nothing.
    /// </summary>
    public static Tensor OfWeight(PositionConvolution.Arguments a, Tensor pooled, Tensor weight, Tensor gradient)
    {
        int batch = (int)pooled.size(0), taps = a.Maps * a.Kernel * a.Kernel, items = batch * a.Blocks;
        Tensor result = MapView.New(weight.shape);
        using Tensor parts = MapView.New([items, taps]);
        a.Input = MapView.Pointer(pooled);
        Sums sums = new() { Convolution = a, Gradient = MapView.Pointer(gradient), Parts = MapView.Pointer(parts) };
        delegate*<Sums*, int, int, void> body =
            Vector512.IsHardwareAccelerated ? &Run<Simd512> : Vector256.IsHardwareAccelerated ? &Run<Simd256> : &Run<Simd128>;
        NativeTeam.Run(body, &sums, items, (long)batch * a.Height * a.Width * a.Kernel * a.Kernel);
        float* into = MapView.Pointer(result);
        for (int tap = 0; tap < taps; tap++)
        {
            double sum = 0;
            for (int item = 0; item < items; item++) sum += sums.Parts[((long)item * taps) + tap];
            into[tap] = (float)sum;
        }

        GC.KeepAlive(pooled);
        GC.KeepAlive(gradient);
        return result;
    }

    /// <summary>Both gradients by libtorch's operations, which can be differentiated again.</summary>
    public static (Tensor Pooled, Tensor Weight) Composed(SpatialMapOrder order, Tensor pooled, Tensor weight, Tensor gradient)
    {
        long padding = weight.size(2) / 2;
        Tensor maps = order switch
        {
            SpatialMapOrder.Average => pooled.mean([1], keepdim: true),
            SpatialMapOrder.MaxMean => pooled.flip(1),
            _ => pooled,
        };
        Tensor toMaps = nn.functional.conv_transpose2d(gradient, weight, padding: [padding, padding]);
        Tensor toWeight = nn.functional.conv2d(
            maps.transpose(0, 1), gradient.transpose(0, 1), padding: [padding, padding]).transpose(0, 1);
        Tensor toPooled = order switch
        {
            SpatialMapOrder.Average => toMaps.div(Two).expand(-1, 2, -1, -1),
            SpatialMapOrder.MaxMean => toMaps.flip(1),
            _ => toMaps,
        };
        return (toPooled, toWeight);
    }

    private static readonly Scalar Two = 2.0.ToScalar();

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Run<TVector>(Sums* sums, int from, int to)
        where TVector : unmanaged, ISimd<TVector>
    {
        PositionConvolution.Arguments* a = &sums->Convolution;
        float* scratch = stackalloc float[PositionConvolution.LargestScratch + 64];
        float* gradient = stackalloc float[PositionConvolution.LargestScratch + 64];
        int taps = a->Maps * a->Kernel * a->Kernel;
        for (int item = from; item < to; item++)
        {
            int sample = item / a->Blocks, first = item % a->Blocks * a->RowsOfBlock,
                rows = Math.Min(a->RowsOfBlock, a->Height - first);
            PositionConvolution.Pad(a, scratch, sample, first, rows);
            float* dy = sums->Gradient + ((long)sample * a->OutputStride) + ((long)first * a->Width),
                part = sums->Parts + ((long)item * taps);
            Flat<TVector>(a, scratch, gradient, dy, rows, part);

            // In the gaps between rows a zero of dy meets a value of the map, and zero times infinity is none.
            if (!AreFinite(part, taps)) Exact(a, scratch, dy, rows, part);
        }
    }

    /// <summary>Rows of dy with the pitch of the padded map's: a tap is one sum over the whole block.</summary>
    private static void Flat<TVector>(
        PositionConvolution.Arguments* a, float* scratch, float* gradient, float* dy, int rows, float* part)
        where TVector : unmanaged, ISimd<TVector>
    {
        int plane = (rows + a->Kernel - 1) * a->Pitch, count = ((rows - 1) * a->Pitch) + a->Width,
            end = (count + TVector.Lanes - 1) / TVector.Lanes * TVector.Lanes;
        new Span<float>(gradient, end).Clear();
        for (int y = 0; y < rows; y++)
        {
            new ReadOnlySpan<float>(
                dy + ((long)y * a->Width), a->Width).CopyTo(new Span<float>(gradient + (y * a->Pitch), a->Width));
        }

        for (int map = 0; map < a->Maps; map++)
        {
            for (int y = 0; y < a->Kernel; y++)
            {
                for (int x = 0; x < a->Kernel; x += TapsAtOnce)
                {
                    float* row = scratch + (map * plane) + (y * a->Pitch) + x;
                    TVector sum0 = TVector.All(
                        0), sum1 = sum0, sum2 = sum0, sum3 = sum0, sum4 = sum0, sum5 = sum0, sum6 = sum0, sum7 = sum0;
                    for (int i = 0; i < end; i += TVector.Lanes)
                    {
                        TVector g = TVector.Load(gradient + i);
                        sum0 = TVector.MultiplyAdd(g, TVector.Load(row + i), sum0);
                        sum1 = TVector.MultiplyAdd(g, TVector.Load(row + i + 1), sum1);
                        sum2 = TVector.MultiplyAdd(g, TVector.Load(row + i + 2), sum2);
                        sum3 = TVector.MultiplyAdd(g, TVector.Load(row + i + 3), sum3);
                        sum4 = TVector.MultiplyAdd(g, TVector.Load(row + i + 4), sum4);
                        sum5 = TVector.MultiplyAdd(g, TVector.Load(row + i + 5), sum5);
                        sum6 = TVector.MultiplyAdd(g, TVector.Load(row + i + 6), sum6);
                        sum7 = TVector.MultiplyAdd(g, TVector.Load(row + i + 7), sum7);
                    }

                    ReadOnlySpan<TVector> results = [sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7];
                    for (int tap = 0; tap < Math.Min(TapsAtOnce, a->Kernel - x); tap++) part[tap] = results[tap].Sum();
                    part += Math.Min(TapsAtOnce, a->Kernel - x);
                }
            }
        }
    }

    private static void Exact(PositionConvolution.Arguments* a, float* scratch, float* dy, int rows, float* part)
    {
        int plane = (rows + a->Kernel - 1) * a->Pitch, padding = a->Kernel / 2;
        for (int map = 0; map < a->Maps; map++)
        {
            for (int ky = 0; ky < a->Kernel; ky++)
            {
                for (int kx = 0; kx < a->Kernel; kx++, part++)
                {
                    float sum = 0;
                    for (int y = 0; y < rows; y++)
                    {
                        float* row = scratch + (map * plane) + ((y + ky) * a->Pitch) + kx;
                        for (int x = Math.Max(0, padding - kx); x < Math.Min(a->Width, a->Width + padding - kx); x++)
                        {
                            sum += dy[((long)y * a->Width) + x] * row[x];
                        }
                    }

                    *part = sum;
                }
            }
        }
    }

    private static bool AreFinite(float* values, int count)
    {
        for (int i = 0; i < count; i++)
        {
            if (!float.IsFinite(values[i])) return false;
        }

        return true;
    }

    private struct Sums
    {
        public PositionConvolution.Arguments Convolution;
        public float* Gradient;
        public float* Parts;
    }
}
