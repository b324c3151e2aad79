using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>The loops around a reduction: along rows, and down columns.</summary>
internal static unsafe class Reduce<TVector, TStorage, TLayout, TReduction>
    where TVector : unmanaged, ISimd<TVector>
    where TStorage : struct, IStorage
    where TLayout : struct, IMapLayout
    where TReduction : struct, IReduction
{
    private static float Start
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => TReduction.Second == SecondResult.Maximum ? float.NegativeInfinity : 0;
    }

    /// <summary>One result per row; items are the rows of all matrices.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows(MapArguments* a, int from, int to)
    {
        int lanes = TVector.Lanes;
        nint columns = a->Columns;
        for (nint row = from; row < to; row++)
        {
            nint matrix = row / a->Rows, x = row * columns, start = matrix * columns, k = 0;
            TVector first0 = TVector.All(0), first1 = first0, first2 = first0, first3 = first0;
            TVector second0 = TVector.All(Start), second1 = second0, second2 = second0, second3 = second0;
            for (; k <= columns - (4 * lanes); k += 4 * lanes)
            {
                TReduction.At<TVector, TStorage, TLayout>(a, x + k, row, start, k, ref first0, ref second0);
                TReduction.At<TVector, TStorage, TLayout>(a, x + k + lanes, row, start, k + lanes, ref first1, ref second1);
                TReduction.At<TVector, TStorage, TLayout>(
                    a, x + k + (2 * lanes), row, start, k + (2 * lanes), ref first2, ref second2);
                TReduction.At<TVector, TStorage, TLayout>(
                    a, x + k + (3 * lanes), row, start, k + (3 * lanes), ref first3, ref second3);
            }

            for (; k <= columns - lanes; k += lanes)
            {
                TReduction.At<TVector, TStorage, TLayout>(a, x + k, row, start, k, ref first0, ref second0);
            }

            (float firstTail, float secondTail) = k < columns ? Tail(a, x, row, start, k, columns) : (0, Start);
            float first = (first0 + first1 + (first2 + first3)).Sum() + firstTail;
            nint result = (matrix * a->ResultStride) + row - (matrix * a->Rows);
            a->First[result] = first * a->Scale;
            if (TReduction.Second == SecondResult.None) continue;
            a->Second[result] = TReduction.Second == SecondResult.Sum
                ? (second0 + second1 + (second2 + second3)).Sum() + secondTail
                : float.IsNaN(first)
                    ? LargestOf(a, x, 1, row, start, 0, (int)columns)
                    : Math.Max(
                        TVector.Larger(TVector.Larger(second0, second1), TVector.Larger(second2, second3)).Largest(), secondTail);
        }
    }

    /// <summary>The last values of a row, one by one; apart, for the compiler inlines only so much into one method.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static (float First, float Second) Tail(MapArguments* a, nint x, nint row, nint start, nint column, nint columns)
    {
        Simd1 first = Simd1.All(0), second = Simd1.All(Start);
        for (nint k = column; k < columns; k++)
        {
            TReduction.At<Simd1, TStorage, TLayout>(a, x + k, row, start, k, ref first, ref second);
        }

        return (first.Sum(), TReduction.Second == SecondResult.Maximum ? second.Largest() : second.Sum());
    }

    /// <summary>One result per column; items are tiles of columns.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Columns(MapArguments* a, int from, int to)
    {
        int lanes = TVector.Lanes, tiles = (a->Columns + a->Tile - 1) / a->Tile;
        for (int item = from; item < to; item++)
        {
            nint matrix = item / tiles, begin = (nint)(item % tiles) * a->Tile, end = Math.Min(begin + a->Tile, a->Columns);
            nint whole = begin + ((end - begin) / lanes * lanes);
            WholeVectors(a, matrix, begin, whole);
            if (whole < end)
            {
                // The rest of the tile is read as one vector that ends with it; columns read twice get the same value twice.
                if (end - begin >= lanes) Strip<TVector>(a, matrix, end - lanes);
                else for (nint k = whole; k < end; k++) Strip<Simd1>(a, matrix, k);
            }

            Finish(a, matrix, begin, end);
        }
    }

    /// <summary>Four rows at a time over the tile, which stays in the nearest cache.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WholeVectors(MapArguments* a, nint matrix, nint begin, nint end)
    {
        nint columns = a->Columns, start = matrix / a->Parts * columns, row = matrix * a->Rows, last = row + a->Rows;
        float* first = a->First + (matrix * a->ResultStride), second = a->Second + (matrix * a->ResultStride);
        for (nint k = begin; k < end; k += TVector.Lanes)
        {
            TVector.All(0).Store(first + k);
            if (TReduction.Second != SecondResult.None) TVector.All(Start).Store(second + k);
        }

        for (; row <= last - 4; row += 4)
        {
            nint x = row * columns;
            for (nint k = begin; k < end; k += TVector.Lanes)
            {
                TVector sum = TVector.Load(
                    first + k), other = TReduction.Second == SecondResult.None ? default : TVector.Load(second + k);
                TReduction.At<TVector, TStorage, TLayout>(a, x + k, row, start, k, ref sum, ref other);
                TReduction.At<TVector, TStorage, TLayout>(a, x + columns + k, row + 1, start, k, ref sum, ref other);
                TReduction.At<TVector, TStorage, TLayout>(a, x + (2 * columns) + k, row + 2, start, k, ref sum, ref other);
                TReduction.At<TVector, TStorage, TLayout>(a, x + (3 * columns) + k, row + 3, start, k, ref sum, ref other);
                sum.Store(first + k);
                if (TReduction.Second != SecondResult.None) other.Store(second + k);
            }
        }

        for (; row < last; row++)
        {
            for (nint k = begin; k < end; k += TVector.Lanes)
            {
                TVector sum = TVector.Load(
                    first + k), other = TReduction.Second == SecondResult.None ? default : TVector.Load(second + k);
                TReduction.At<TVector, TStorage, TLayout>(a, (row * columns) + k, row, start, k, ref sum, ref other);
                sum.Store(first + k);
                if (TReduction.Second != SecondResult.None) other.Store(second + k);
            }
        }
    }

    /// <summary>All rows of one vector of columns.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Strip<TStrip>(MapArguments* a, nint matrix, nint column)
        where TStrip : unmanaged, ISimd<TStrip>
    {
        nint columns = a->Columns, start = matrix / a->Parts * columns;
        TStrip sum = TStrip.All(0), other = TStrip.All(Start);
        for (nint row = matrix * a->Rows; row < (matrix + 1) * a->Rows; row++)
        {
            TReduction.At<TStrip, TStorage, TLayout>(a, (row * columns) + column, row, start, column, ref sum, ref other);
        }

        sum.Store(a->First + (matrix * a->ResultStride) + column);
        if (TReduction.Second != SecondResult.None) other.Store(a->Second + (matrix * a->ResultStride) + column);
    }

    /// <summary>
    /// Scales sums. One that is not a number tells of a NaN, which a maximum must pass on, or of opposite infinities.
    /// </summary>
    private static void Finish(MapArguments* a, nint matrix, nint begin, nint end)
    {
        nint columns = a->Columns, row = matrix * a->Rows;
        float* first = a->First + (matrix * a->ResultStride), second = a->Second + (matrix * a->ResultStride);
        for (nint k = begin; k < end; k++)
        {
            float sum = first[k];
            first[k] = sum * a->Scale;
            if (TReduction.Second != SecondResult.Maximum || !float.IsNaN(sum)) continue;
            second[k] = LargestOf(a, (row * columns) + k, columns, row, matrix / a->Parts * columns, k, a->Rows);
        }
    }

    private static float LargestOf(MapArguments* a, nint element, nint stride, nint row, nint start, nint column, int count)
    {
        float largest = float.NegativeInfinity;
        for (int i = 0; i < count; i++)
        {
            Simd1 value = Simd1.All(0), unused = default;
            bool along = stride == 1;
            TReduction.At<Simd1, TStorage, TLayout>(
                a, element + (i * stride), along ? row : row + i, start, along ? column + i : column, ref value, ref unused);
            largest = MathF.Max(largest, value.Sum());
        }

        return largest;
    }
}
