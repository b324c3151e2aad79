using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// y = x Wᵀ for a range of outputs and all rows of x, four outputs at a time: W is read once, its four rows from
/// the nearest cache for all rows of x.
/// </summary>
internal static unsafe class DenseRows<TVector>
    where TVector : unmanaged, ISimd<TVector>
{
    /// <summary>
    /// x is (rows, inputs), W (outputs, inputs), y (rows, outputs); columns <paramref name="from"/>
    /// to <paramref name="to"/> of y are set.
    /// </summary>
    public static void Run(float* x, int rows, float* w, int inputs, float* y, int outputs, int from, int to)
    {
        int output = from;
        for (; output <= to - 4; output += 4)
        {
            int row = 0;
            float* weights = w + ((long)output * inputs);
            for (; row <= rows - 4; row += 4)
            {
                FourOutputs<Four>(x + ((long)row * inputs), weights, inputs, y + ((long)row * outputs) + output, outputs);
            }

            if (row <= rows - 2)
            {
                FourOutputs<Two>(x + ((long)row * inputs), weights, inputs, y + ((long)row * outputs) + output, outputs);
                row += 2;
            }

            if (row < rows)
            {
                FourOutputs<One>(x + ((long)row * inputs), weights, inputs, y + ((long)row * outputs) + output, outputs);
            }
        }

        for (; output < to; output++)
        {
            for (int row = 0; row < rows; row++)
            {
                y[((long)row * outputs) + output] = Dot(x + ((long)row * inputs), w + ((long)output * inputs), inputs);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FourOutputs<TRows>(float* x, float* w, int inputs, float* y, nint pitch)
        where TRows : struct, IRows
    {
        nint n = inputs;
        TVector zero = TVector.All(0);
        TVector a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
        TVector c0 = zero, c1 = zero, c2 = zero, c3 = zero, d0 = zero, d1 = zero, d2 = zero, d3 = zero;
        nint i = 0;
        for (; i <= n - TVector.Lanes; i += TVector.Lanes)
        {
            TVector w0 = TVector.Load(w + i), w1 = TVector.Load(w + n + i), w2 = TVector.Load(w + (2 * n) + i),
                w3 = TVector.Load(w + (3 * n) + i);
            TVector value = TVector.Load(x + i);
            a0 = TVector.MultiplyAdd(value, w0, a0);
            a1 = TVector.MultiplyAdd(value, w1, a1);
            a2 = TVector.MultiplyAdd(value, w2, a2);
            a3 = TVector.MultiplyAdd(value, w3, a3);
            if (TRows.Count < 2) continue;
            value = TVector.Load(x + n + i);
            b0 = TVector.MultiplyAdd(value, w0, b0);
            b1 = TVector.MultiplyAdd(value, w1, b1);
            b2 = TVector.MultiplyAdd(value, w2, b2);
            b3 = TVector.MultiplyAdd(value, w3, b3);
            if (TRows.Count < 4) continue;
            value = TVector.Load(x + (2 * n) + i);
            c0 = TVector.MultiplyAdd(value, w0, c0);
            c1 = TVector.MultiplyAdd(value, w1, c1);
            c2 = TVector.MultiplyAdd(value, w2, c2);
            c3 = TVector.MultiplyAdd(value, w3, c3);
            value = TVector.Load(x + (3 * n) + i);
            d0 = TVector.MultiplyAdd(value, w0, d0);
            d1 = TVector.MultiplyAdd(value, w1, d1);
            d2 = TVector.MultiplyAdd(value, w2, d2);
            d3 = TVector.MultiplyAdd(value, w3, d3);
        }

        Finish(x, w, n, i, y, a0, a1, a2, a3);
        if (TRows.Count < 2) return;
        Finish(x + n, w, n, i, y + pitch, b0, b1, b2, b3);
        if (TRows.Count < 4) return;
        Finish(x + (2 * n), w, n, i, y + (2 * pitch), c0, c1, c2, c3);
        Finish(x + (3 * n), w, n, i, y + (3 * pitch), d0, d1, d2, d3);
    }

    /// <summary>Four outputs of a row: their lanes' sums and what is left of the inputs.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Finish(
        float* x, float* w, nint n, nint i, float* y, TVector sum0, TVector sum1, TVector sum2, TVector sum3)
    {
        float y0 = sum0.Sum(), y1 = sum1.Sum(), y2 = sum2.Sum(), y3 = sum3.Sum();
        for (; i < n; i++)
        {
            float value = x[i];
            y0 += value * w[i];
            y1 += value * w[n + i];
            y2 += value * w[(2 * n) + i];
            y3 += value * w[(3 * n) + i];
        }

        y[0] = y0;
        y[1] = y1;
        y[2] = y2;
        y[3] = y3;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Dot(float* x, float* w, int inputs)
    {
        TVector sum = TVector.All(0);
        nint i = 0;
        for (; i <= inputs - TVector.Lanes; i += TVector.Lanes)
        {
            sum = TVector.MultiplyAdd(TVector.Load(x + i), TVector.Load(w + i), sum);
        }

        float rest = 0;
        for (; i < inputs; i++) rest += x[i] * w[i];
        return sum.Sum() + rest;
    }

    private interface IRows
    {
        static abstract int Count { get; }
    }

    private readonly struct One : IRows
    {
        public static int Count => 1;
    }

    private readonly struct Two : IRows
    {
        public static int Count => 2;
    }

    private readonly struct Four : IRows
    {
        public static int Count => 4;
    }
}
