using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// Mean and Σ(x − mean)² of every plane of an NCHW map, and its largest value where that is asked for: one read from memory,
/// since a plane stays in the nearest caches.
/// </summary>
internal static unsafe class NormStatistics
{
    /// <summary>What the kernel reads and writes: results are (N, C).</summary>
    public struct Planes
    {
        public float* Values;
        public int Positions;
        public int Channels;
        public double* Means;
        public double* Squares;

        /// <summary>
        /// The largest value of a plane, the smallest where <see cref="Signs"/> has a negative value for
        /// the channel; null where nobody asks.
        /// </summary>
        public float* Extremes;
        public float* Signs;
    }

    private const int ValuesAtOnce = 4096;

    public static void Run(in MapView map, Planes planes)
    {
        Planes* a = &planes;
        delegate*<Planes*, int, int, void> body =
            Vector512.IsHardwareAccelerated ? &Rows<Simd512>
            : Vector256.IsHardwareAccelerated ? &Rows<Simd256>
            : &Rows<Simd128>;
        NativeTeam.Run(body, a, map.Batch * map.Channels, map.Bytes);
    }

    private static void Rows<TVector>(Planes* a, int from, int to)
        where TVector : unmanaged, ISimd<TVector>
    {
        for (int row = from; row < to; row++)
        {
            float* values = a->Values + ((nint)row * a->Positions);
            (double sum, _) = Sums<TVector>(values, a->Positions, 0);
            float near = (float)(sum / a->Positions);

            // The rest makes up for what the mean lost in rounding.
            (double rest, double squares) = Sums<TVector>(values, a->Positions, near);
            a->Means[row] = near + (rest / a->Positions);
            a->Squares[row] = Math.Max(0, squares - (rest * rest / a->Positions));
            if (a->Extremes is null) continue;
            float sign = a->Signs is not null && a->Signs[row % a->Channels] < 0 ? -1 : 1;
            a->Extremes[row] = sign * Largest<TVector>(values, a->Positions, sign);
        }
    }

    /// <summary>Σ(x − origin) and Σ(x − origin)², in float32 over so few values that rounding does not add up.</summary>
    private static (double Sum, double Squares) Sums<TVector>(float* values, int count, float origin)
        where TVector : unmanaged, ISimd<TVector>
    {
        double sum = 0, squares = 0;
        for (int from = 0; from < count; from += ValuesAtOnce)
        {
            (float some, float someSquares) = SumsOfSome<TVector>(values + from, Math.Min(ValuesAtOnce, count - from), origin);
            sum += some;
            squares += someSquares;
        }

        return (sum, squares);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static (float Sum, float Squares) SumsOfSome<TVector>(float* values, int count, float origin)
        where TVector : unmanaged, ISimd<TVector>
    {
        int lanes = TVector.Lanes;
        nint k = 0;
        TVector from = TVector.All(origin), sum0 = TVector.All(0), sum1 = sum0, sum2 = sum0, sum3 = sum0, squares0 = sum0,
            squares1 = sum0, squares2 = sum0, squares3 = sum0;
        for (; k <= count - (4 * lanes); k += 4 * lanes)
        {
            Add(TVector.Load(values + k) - from, ref sum0, ref squares0);
            Add(TVector.Load(values + k + lanes) - from, ref sum1, ref squares1);
            Add(TVector.Load(values + k + (2 * lanes)) - from, ref sum2, ref squares2);
            Add(TVector.Load(values + k + (3 * lanes)) - from, ref sum3, ref squares3);
        }

        for (; k <= count - lanes; k += lanes) Add(TVector.Load(values + k) - from, ref sum0, ref squares0);
        float sum = (sum0 + sum1 + (sum2 + sum3)).Sum(), squares = (squares0 + squares1 + (squares2 + squares3)).Sum();
        for (; k < count; k++)
        {
            float value = values[k] - origin;
            sum += value;
            squares += value * value;
        }

        return (sum, squares);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<TVector>(TVector value, ref TVector sum, ref TVector squares)
        where TVector : unmanaged, ISimd<TVector>
    {
        sum += value;
        squares = TVector.MultiplyAdd(value, value, squares);
    }

    /// <summary>The largest of sign · x; NaN are passed over, the mean tells of them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Largest<TVector>(float* values, int count, float sign)
        where TVector : unmanaged, ISimd<TVector>
    {
        int lanes = TVector.Lanes;
        nint k = 0;
        TVector factor = TVector.All(sign), largest0 = TVector.All(float.NegativeInfinity), largest1 = largest0;
        for (; k <= count - (2 * lanes); k += 2 * lanes)
        {
            largest0 = TVector.Larger(TVector.Load(values + k) * factor, largest0);
            largest1 = TVector.Larger(TVector.Load(values + k + lanes) * factor, largest1);
        }

        float largest = TVector.Larger(largest0, largest1).Largest();
        for (; k < count; k++) largest = values[k] * sign > largest ? values[k] * sign : largest;
        return largest;
    }
}
