using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>Results down columns of rows that several threads own, added up, or the largest taken.</summary>
internal static unsafe class PartSums<TVector>
    where TVector : unmanaged, ISimd<TVector>
{
    /// <summary>For this thread's range of columns, all samples; parts are pairs of sums and maxima.</summary>
    public static void Merge<TPlaces>(float* origin, in RegionShare share, TPlaces places, int columns, float scale)
        where TPlaces : struct, IPlaces
    {
        (int from, int to) = share.Of(columns);
        if (from == to) return;
        for (int sample = 0; sample < share.Samples; sample++)
        {
            (int first, int last) = share.Owners(sample);
            float* part = origin + share.Part(sample, first);
            nint pitch = (nint)share.PartPitch;
            bool known = Add(part, last - first + 1, pitch, origin + places.Sums(share, sample), scale, from, to);
            if (places.HasMaxima)
            {
                Largest(part + columns, last - first + 1, pitch, origin + places.Maxima(share, sample), from, to, known);
            }
        }
    }

    /// <summary>Whether all sums are numbers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Add(float* part, int count, nint pitch, float* result, float scale, nint from, nint to)
    {
        TVector all = TVector.All(0);
        float rest = 0;
        nint i = from;
        for (; i <= to - TVector.Lanes; i += TVector.Lanes)
        {
            TVector sum = TVector.Load(part + i);
            for (nint next = 1; next < count; next++) sum += TVector.Load(part + (next * pitch) + i);
            all += sum;
            (sum * TVector.All(scale)).Store(result + i);
        }

        for (; i < to; i++)
        {
            float sum = part[i];
            for (nint next = 1; next < count; next++) sum += part[(next * pitch) + i];
            rest += sum;
            result[i] = sum * scale;
        }

        return !float.IsNaN(all.Sum() + rest);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Largest(float* part, int count, nint pitch, float* result, nint from, nint to, bool numbers)
    {
        nint i = from;
        for (; numbers && i <= to - TVector.Lanes; i += TVector.Lanes)
        {
            TVector largest = TVector.Load(part + i);
            for (nint next = 1; next < count; next++) largest = TVector.Larger(TVector.Load(part + (next * pitch) + i), largest);
            largest.Store(result + i);
        }

        for (; i < to; i++)
        {
            float largest = part[i];
            for (nint next = 1; next < count; next++) largest = MathF.Max(largest, part[(next * pitch) + i]);
            result[i] = largest;
        }
    }
}
