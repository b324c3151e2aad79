using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// x Wᵀ + b for a few rows of x. In a network each such layer's weights come from memory, not from a cache; a general matrix
/// product reads them on one thread, this one on all. Inference, float32.
/// </summary>
internal static unsafe class FewRowsProduct
{
    /// <summary>From here on a general matrix product is as fast.</summary>
    private const int MostRows = 4;

    /// <summary>(rows, outputs) of (rows, inputs) and (outputs, inputs, …); null where libtorch must multiply.</summary>
    public static Tensor? TryRun(Tensor input, long rows, Tensor weight, Tensor? bias)
    {
        if (rows > MostRows || is_grad_enabled() || input.dtype != ScalarType.Float32 || weight.dtype != ScalarType.Float32)
        {
            return null;
        }

        if (input.device_type != DeviceType.CPU || weight.device_type != DeviceType.CPU
            || bias is { device_type: not DeviceType.CPU })
        {
            return null;
        }

        if (!input.is_contiguous() || !weight.is_contiguous()
            || (bias is not null && (bias.dtype != ScalarType.Float32 || !bias.is_contiguous())))
        {
            return null;
        }

        if (Math.Max(weight.size(0), weight.size(1)) > MapView.MostCounted) return null;
        int outputs = (int)weight.size(0), inputs = (int)weight.size(1);
        Tensor output = MapView.New([rows, outputs, 1, 1]);
        Arguments a = new()
        {
            Input = MapView.Pointer(input),
            Weight = MapView.Pointer(weight),
            Bias = bias is null ? null : MapView.Pointer(bias),
            Output = MapView.Pointer(output),
            Rows = (int)rows,
            Inputs = inputs,
            Outputs = outputs,
        };
        delegate*<Arguments*, int, int, void> body =
            Vector512.IsHardwareAccelerated ? &Run<Simd512> : Vector256.IsHardwareAccelerated ? &Run<Simd256> : &Run<Simd128>;
        NativeTeam.Run(body, &a, outputs, sizeof(float) * (long)outputs * inputs);
        KernelCheck.Verify();
        GC.KeepAlive(input);
        GC.KeepAlive(weight);
        GC.KeepAlive(bias);
        return output;
    }

    /// <summary>Items are outputs.</summary>
    private static void Run<TVector>(Arguments* a, int from, int to)
        where TVector : unmanaged, ISimd<TVector>
    {
        DenseRows<TVector>.Run(a->Input, a->Rows, a->Weight, a->Inputs, a->Output, a->Outputs, from, to);
        if (a->Bias is null) return;
        for (int row = 0; row < a->Rows; row++)
        {
            float* output = a->Output + ((long)row * a->Outputs);
            for (int i = from; i < to; i++) output[i] += a->Bias[i];
        }
    }

    private struct Arguments
    {
        public float* Input;
        public float* Weight;
        public float* Bias;
        public float* Output;
        public int Rows;
        public int Inputs;
        public int Outputs;
    }
}
