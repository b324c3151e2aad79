using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>The loops that reduce rows and columns of each channel in one read of a map.</summary>
internal static unsafe class StripReduction<TVector, TStorage, TLayout, TReduction>
    where TVector : unmanaged, ISimd<TVector>
    where TStorage : struct, IStorage
    where TLayout : struct, IMapLayout
    where TReduction : struct, IReduction
{
    private static bool Peaks
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => TReduction.Second == SecondResult.Maximum;
    }

    private static float Start
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Peaks ? float.NegativeInfinity : 0;
    }

    /// <summary>Items are the planes of all channels; a vector is no wider than a row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void InPlanes(MapArguments* a, int from, int to)
    {
        MapArguments own = *a;
        int lanes = TVector.Lanes;
        nint height = a->Height, width = a->Width, rest = width % lanes, whole = width - rest, last = width - lanes;
        float* buffer = stackalloc float[lanes];
        for (int i = 0; i < lanes; i++) buffer[i] = i < lanes - rest ? 0 : 1;
        TVector counted = TVector.Load(buffer), one = TVector.All(1);
        for (nint plane = from; plane < to; plane++)
        {
            nint strips = plane * (height + width), columns = strips + height;
            float* sums = a->First + columns, peaks = Peaks ? a->Second + columns : null;
            Begin(sums, peaks, whole);
            TVector endSum = TVector.All(0), endPeak = TVector.All(Start);
            for (nint y = 0; y < height; y++)
            {
                nint element = ((plane * height) + y) * width;
                own.Third = ((plane / a->Channels * height) + y) * width;
                TVector sum = TVector.All(0), peak = TVector.All(Start);
                for (nint k = 0; k < whole; k += lanes)
                {
                    TVector first = TVector.All(0), second = TVector.All(Start);
                    TReduction.At<TVector, TStorage, TLayout>(&own, element + k, strips + y, columns, k, ref first, ref second);
                    sum += first;
                    (TVector.Load(sums + k) + OfColumns(first, second)).Store(sums + k);
                    if (!Peaks) continue;
                    peak = TVector.Larger(second, peak);
                    TVector.Larger(second, TVector.Load(peaks + k)).Store(peaks + k);
                }

                if (rest > 0)
                {
                    // A vector that ends with the row; its first lanes were counted above.
                    TVector first = TVector.All(0), second = TVector.All(Start);
                    TReduction.At<TVector, TStorage, TLayout>(
                        &own, element + last, strips + y, columns, last, ref first, ref second);
                    sum += TVector.WhereEqual(counted, one, first);
                    endSum += OfColumns(first, second);
                    if (Peaks)
                    {
                        peak = TVector.Larger(second, peak);
                        endPeak = TVector.Larger(second, endPeak);
                    }
                }

                float total = sum.Sum();
                a->First[strips + y] = total * a->Scale;
                if (Peaks) a->Second[strips + y] = float.IsNaN(total) ? LargestOf(a, element, 1, width) : peak.Largest();
            }

            if (rest > 0)
            {
                endSum.Store(buffer);
                for (nint i = lanes - rest; i < lanes; i++) sums[last + i] = buffer[i];
                if (Peaks) endPeak.Store(buffer);
                for (nint i = lanes - rest; Peaks && i < lanes; i++) peaks[last + i] = buffer[i];
            }

            Finish(a, sums, peaks, width, a->ColumnScale, plane * height * width, width, height);
        }
    }

    /// <summary>Items are tiles of channels of all samples.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void InPixels(MapArguments* a, int from, int to)
    {
        nint channels = a->Channels, tiles = (channels + a->Tile - 1) / a->Tile;
        for (nint item = from; item < to; item++)
        {
            nint sample = item / tiles, begin = item % tiles * a->Tile, end = Math.Min(begin + a->Tile, channels);
            nint whole = begin + ((end - begin) / TVector.Lanes * TVector.Lanes);
            if (begin < whole) Tile<TVector>(a, sample, begin, whole);
            if (whole < end) Tile<Simd1>(a, sample, whole, end);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile<TPart>(MapArguments* a, nint sample, nint begin, nint end)
        where TPart : unmanaged, ISimd<TPart>
    {
        MapArguments own = *a;
        nint channels = a->Channels, height = a->Height, width = a->Width, tile = end - begin, strips = sample * (height + width);
        for (nint strip = strips; strip < strips + height + width; strip++)
        {
            nint start = (strip * channels) + begin;
            Begin(a->First + start, Peaks ? a->Second + start : null, tile);
        }

        for (nint y = 0; y < height; y++)
        {
            nint row = (strips + y) * channels;
            for (nint x = 0; x < width; x++)
            {
                nint pixel = (((sample * height) + y) * width) + x, column = (strips + height + x) * channels;
                own.Third = pixel;
                for (nint k = begin; k < end; k += TPart.Lanes)
                {
                    TPart first = TPart.All(0), second = TPart.All(Start);
                    TReduction.At<TPart, TStorage, TLayout>(&own, (pixel * channels) + k, row, column, k, ref first, ref second);
                    (TPart.Load(a->First + row + k) + first).Store(a->First + row + k);
                    TPart down = TReduction.Second == SecondResult.Sum ? second : first;
                    (TPart.Load(a->First + column + k) + down).Store(a->First + column + k);
                    if (!Peaks) continue;
                    TPart.Larger(second, TPart.Load(a->Second + row + k)).Store(a->Second + row + k);
                    TPart.Larger(second, TPart.Load(a->Second + column + k)).Store(a->Second + column + k);
                }
            }
        }

        nint map = sample * height * width;
        for (nint y = 0; y < height; y++)
        {
            nint start = ((strips + y) * channels) + begin;
            Finish(
                a, a->First + start, a->Second + start, tile, a->Scale, ((map + (y * width)) * channels) + begin, channels,
                width);
        }

        for (nint x = 0; x < width; x++)
        {
            nint start = ((strips + height + x) * channels) + begin;
            Finish(
                a, a->First + start, a->Second + start, tile, a->ColumnScale, ((map + x) * channels) + begin, width * channels,
                height);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector OfColumns(TVector first, TVector second) => TReduction.Second == SecondResult.Sum ? second : first;

    private static void Begin(float* sums, float* peaks, nint count)
    {
        new Span<float>(sums, (int)count).Clear();
        if (Peaks) new Span<float>(peaks, (int)count).Fill(Start);
    }

    /// <summary>
    /// Scales sums. One that is not a number tells of a NaN, which a maximum must pass on, or of opposite infinities.
    /// </summary>
    private static void Finish(
        MapArguments* a, float* sums, float* peaks, nint count, float scale, nint element, nint stride, nint length)
    {
        for (nint i = 0; i < count; i++)
        {
            float sum = sums[i];
            sums[i] = sum * scale;
            if (Peaks && float.IsNaN(sum)) peaks[i] = LargestOf(a, element + i, stride, length);
        }
    }

    /// <summary>The maximum of x along a strip, NaN if there is one.</summary>
    private static float LargestOf(MapArguments* a, nint element, nint stride, nint count)
    {
        float largest = float.NegativeInfinity;
        for (nint i = 0; i < count; i++) largest = MathF.Max(largest, TStorage.Load<Simd1>(a->X, element + (i * stride)).Sum());
        return largest;
    }
}
