using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// x Wᵀ + b for a few rows of x. In a network each such layer's weights come from memory, not from a cache; a general matrix product reads
/// them on one thread, this one on all. Inference, float32.
/// </summary>
internal static unsafe class FewRowsProduct
{
    /// <summary>From here on a general matrix product is as fast.</summary>
    private const int MostRows = 4;

    /// <summary>(rows, outputs) of (rows, inputs) and (outputs, inputs, …); null where libtorch must multiply.</summary>
    public static Tensor? TryRun(Tensor input, long rows, Tensor weight, Tensor? bias)
    {
        if (rows > MostRows || is_grad_enabled() || input.dtype != ScalarType.Float32 || weight.dtype != ScalarType.Float32) return null;
        if (input.device_type != DeviceType.CPU || weight.device_type != DeviceType.CPU || bias is { device_type: not DeviceType.CPU }) return null;
        if (!input.is_contiguous() || !weight.is_contiguous() || (bias is not null && bias.dtype != ScalarType.Float32)) return null;
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
        GC.KeepAlive(input);
        GC.KeepAlive(weight);
        GC.KeepAlive(bias);
        return output;
    }

    /// <summary>Items are outputs.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Run<TVector>(Arguments* a, int from, int to)
        where TVector : unmanaged, ISimd<TVector>
    {
        int lanes = TVector.Lanes, inputs = a->Inputs;
        for (int output = from; output < to; output++)
        {
            float* weight = a->Weight + ((long)output * inputs);
            for (int row = 0; row < a->Rows; row++)
            {
                float* input = a->Input + ((long)row * inputs);
                TVector sum0 = TVector.All(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
                int i = 0;
                for (; i <= inputs - (4 * lanes); i += 4 * lanes)
                {
                    sum0 = TVector.MultiplyAdd(TVector.Load(weight + i), TVector.Load(input + i), sum0);
                    sum1 = TVector.MultiplyAdd(TVector.Load(weight + i + lanes), TVector.Load(input + i + lanes), sum1);
                    sum2 = TVector.MultiplyAdd(TVector.Load(weight + i + (2 * lanes)), TVector.Load(input + i + (2 * lanes)), sum2);
                    sum3 = TVector.MultiplyAdd(TVector.Load(weight + i + (3 * lanes)), TVector.Load(input + i + (3 * lanes)), sum3);
                }

                for (; i <= inputs - lanes; i += lanes) sum0 = TVector.MultiplyAdd(TVector.Load(weight + i), TVector.Load(input + i), sum0);
                float tail = a->Bias is null ? 0 : a->Bias[output];
                for (; i < inputs; i++) tail += weight[i] * input[i];
                a->Output[((long)row * a->Outputs) + output] = (sum0 + sum1 + (sum2 + sum3)).Sum() + tail;
            }
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
