using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

internal enum SecondResult
{
    None,
    Sum,
    Maximum,
}

/// <summary>A pair of quantities, one of each element of a map, to be reduced over channels or over positions.</summary>
internal unsafe interface IReduction
{
    /// <summary>What the second quantity is.</summary>
    static abstract SecondResult Second { get; }

    static abstract void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout;
}

/// <summary>Sum and maximum of x.</summary>
internal readonly unsafe struct Pooling : IReduction
{
    public static SecondResult Second => SecondResult.Maximum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TLayout.X<TVector, TStorage>(a, element, row, start, column);
        first += x;
        second = TVector.Larger(x, second);
    }
}

/// <summary>Sum of x.</summary>
internal readonly unsafe struct Summing : IReduction
{
    public static SecondResult Second => SecondResult.None;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => first += TStorage.Load<TVector>(a->X, element);
}

/// <summary>Sum of x − o and of (x − o)², o an element of the channel: moments without cancellation.</summary>
internal readonly unsafe struct Moments : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element) - TLayout.Channel<TVector>(a->ChannelShift, row, start, column);
        first += x;
        second = TVector.MultiplyAdd(x, x, second);
    }
}

/// <summary>Sum of x and of x².</summary>
internal readonly unsafe struct SquareSums : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element);
        first += x;
        second = TVector.MultiplyAdd(x, x, second);
    }
}

/// <summary>Sum of x and of |x|.</summary>
internal readonly unsafe struct Magnitudes : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element);
        first += x;
        second += TVector.Larger(x, TVector.All(0) - x);
    }
}

/// <summary>Sum and maximum of x · c.</summary>
internal readonly unsafe struct GatedPooling : IReduction
{
    public static SecondResult Second => SecondResult.Maximum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector u = TLayout.X<TVector, TStorage>(a, element, row, start, column) * TLayout.Channel<TVector>(a->ChannelGate, row, start, column);
        first += u;
        second = TVector.Larger(u, second);
    }
}

/// <summary>Backward, of positions: the spatial gate's gradient, Σ dy · x · c, and how many channels share the maximum.</summary>
internal readonly unsafe struct PositionGradient : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector u = TLayout.X<TVector, TStorage>(a, element, row, start, column) * TLayout.Channel<TVector>(a->ChannelGate, row, start, column);
        first += u * TStorage.Load<TVector>(a->GradY, element);
        second += TVector.WhereEqual(u, TLayout.Position<TVector>(a->PositionMax, row, start, column), TVector.All(1));
    }
}

/// <summary>Backward, of channels, no spatial gate: the channel gate's gradient, Σ dy · x.</summary>
internal readonly unsafe struct ChannelDot : IReduction
{
    public static SecondResult Second => SecondResult.None;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => first += TLayout.X<TVector, TStorage>(a, element, row, start, column) * TStorage.Load<TVector>(a->GradY, element);
}

/// <summary>
/// Backward, of channels, no spatial gate: the channel gate's gradient, Σ dy · x, and how many positions share the channel's maximum.
/// </summary>
internal readonly unsafe struct ChannelGradient : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TLayout.X<TVector, TStorage>(a, element, row, start, column);
        first += x * TStorage.Load<TVector>(a->GradY, element);
        second += TVector.WhereEqual(x, TLayout.Channel<TVector>(a->ChannelMax, row, start, column), TVector.All(1));
    }
}

/// <summary>Backward, of channels, below a spatial gate: the same with du, the gradient of x · c, in place of dy.</summary>
internal readonly unsafe struct GatedChannelGradient : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TLayout.X<TVector, TStorage>(a, element, row, start, column);
        TVector u = x * TLayout.Channel<TVector>(a->ChannelGate, row, start, column);
        first += x * Gradient.OfGated<TVector, TStorage, TLayout>(a, u, element, row, start, column);
        second += TVector.WhereEqual(x, TLayout.Channel<TVector>(a->ChannelMax, row, start, column), TVector.All(1));
    }
}

/// <summary>
/// Backward of the end of a residual block, max(x · g + residual, 0), on the way of another reduction: writes the gradient before the ReLU,
/// which that reduction reads.
/// </summary>
internal readonly unsafe struct ThroughAddRelu<TReduction> : IReduction
    where TReduction : struct, IReduction
{
    public static SecondResult Second => TReduction.Second;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector gradient = TVector.ReluBackward(TStorage.Load<TVector>(a->End, element), TStorage.Load<TVector>(a->GradEnd, element));
        TStorage.Store(gradient, a->GradY, element);
        TReduction.At<TVector, TStorage, TLayout>(a, element, row, start, column, ref first, ref second);
    }
}

internal static unsafe class Gradient
{
    /// <summary>du for u = x · c: dy · s, and what the poolings over channels send back.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector OfGated<TVector, TStorage, TLayout>(MapArguments* a, TVector u, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => (TStorage.Load<TVector>(a->GradY, element) * TLayout.Position<TVector>(a->PositionGate, row, start, column))
            + TLayout.Position<TVector>(a->PositionShift, row, start, column)
            + TVector.WhereEqual(
                u,
                TLayout.Position<TVector>(a->PositionMax, row, start, column),
                TLayout.Position<TVector>(a->PositionPeak, row, start, column));
}

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
                TReduction.At<TVector, TStorage, TLayout>(a, x + k + (2 * lanes), row, start, k + (2 * lanes), ref first2, ref second2);
                TReduction.At<TVector, TStorage, TLayout>(a, x + k + (3 * lanes), row, start, k + (3 * lanes), ref first3, ref second3);
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
                    : Math.Max(TVector.Larger(TVector.Larger(second0, second1), TVector.Larger(second2, second3)).Largest(), secondTail);
        }
    }

    /// <summary>The last values of a row, one by one; apart, for the compiler inlines only so much into one method.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static (float First, float Second) Tail(MapArguments* a, nint x, nint row, nint start, nint column, nint columns)
    {
        Simd1 first = Simd1.All(0), second = Simd1.All(Start);
        for (nint k = column; k < columns; k++) TReduction.At<Simd1, TStorage, TLayout>(a, x + k, row, start, k, ref first, ref second);
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
                TVector sum = TVector.Load(first + k), other = TReduction.Second == SecondResult.None ? default : TVector.Load(second + k);
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
                TVector sum = TVector.Load(first + k), other = TReduction.Second == SecondResult.None ? default : TVector.Load(second + k);
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

    /// <summary>Scales sums. One that is not a number tells of a NaN, which a maximum must pass on, or of opposite infinities.</summary>
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
