using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>A map made of a map, element by element.</summary>
internal unsafe interface IElementwise
{
    static abstract TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout;
}

/// <summary>y = x · c.</summary>
internal readonly unsafe struct ApplyChannel : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => TLayout.X<TVector, TStorage>(a, element, row, start, column) * TLayout.Channel<TVector>(a->ChannelGate, row, start, column);
}

/// <summary>y = x · c · s.</summary>
internal readonly unsafe struct ApplyBoth : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => ApplyChannel.At<TVector, TStorage, TLayout>(a, element, row, start, column)
            * TLayout.Position<TVector>(a->PositionGate, row, start, column);
}

/// <summary>y = max(f(x) + residual, 0), f one of the above: the end of a residual block.</summary>
internal readonly unsafe struct AddRectified<TApply> : IElementwise
    where TApply : struct, IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => TVector.Rectify(
            TApply.At<TVector, TStorage, TLayout>(a, element, row, start, column) + TStorage.Load<TVector>(a->Residual, element));
}

/// <summary>Backward of a channel gate: dx = dy · c, and what the poolings over positions send back.</summary>
internal readonly unsafe struct InputGradient : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => (TStorage.Load<TVector>(a->GradY, element) * TLayout.Channel<TVector>(a->ChannelGate, row, start, column))
            + TLayout.Channel<TVector>(a->ChannelShift, row, start, column);
}

/// <summary>Backward of a channel gate where more than a mean was pooled.</summary>
internal readonly unsafe struct PooledInputGradient<TPooled> : IElementwise
    where TPooled : struct, IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => (TStorage.Load<TVector>(a->GradY, element) * TLayout.Channel<TVector>(a->ChannelGate, row, start, column))
            + TPooled.At<TVector, TLayout>(a, TLayout.X<TVector, TStorage>(a, element, row, start, column), row, start, column);
}

/// <summary>Backward of a channel and a spatial gate: dx = du · c, and what the poolings over positions send back.</summary>
internal readonly unsafe struct GatedInputGradient<TPooled> : IElementwise
    where TPooled : struct, IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TLayout.X<TVector, TStorage>(a, element, row, start, column), gate = TLayout.Channel<TVector>(a->ChannelGate, row, start, column);
        TVector du = Gradient.OfGated<TVector, TStorage, TLayout>(a, x * gate, element, row, start, column);
        return (du * gate) + TPooled.At<TVector, TLayout>(a, x, row, start, column);
    }
}

/// <summary>The loop around an elementwise map; it may write over what it reads.</summary>
internal static unsafe class Elementwise<TVector, TStorage, TLayout, TMap>
    where TVector : unmanaged, ISimd<TVector>
    where TStorage : struct, IStorage
    where TLayout : struct, IMapLayout
    where TMap : struct, IElementwise
{
    /// <summary>Items are the rows of all matrices.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows(MapArguments* a, int from, int to)
    {
        int lanes = TVector.Lanes;
        nint columns = a->Columns, tail = columns - (columns % lanes);
        for (nint row = from; row < to; row++)
        {
            nint x = row * columns, start = row / a->Rows * columns, k = 0;
            for (; k <= columns - (2 * lanes); k += 2 * lanes)
            {
                TVector near = TMap.At<TVector, TStorage, TLayout>(a, x + k, row, start, k);
                TVector far = TMap.At<TVector, TStorage, TLayout>(a, x + k + lanes, row, start, k + lanes);
                TStorage.Store(near, a->Y, x + k);
                TStorage.Store(far, a->Y, x + k + lanes);
            }

            for (; k < tail; k += lanes) TStorage.Store(TMap.At<TVector, TStorage, TLayout>(a, x + k, row, start, k), a->Y, x + k);
            if (k < columns) Tail(a, x, row, start, k, columns);
        }
    }

    /// <summary>The last values of a row, one by one; apart, for the compiler inlines only so much into one method.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Tail(MapArguments* a, nint x, nint row, nint start, nint column, nint columns)
    {
        for (nint k = column; k < columns; k++) TStorage.Store(TMap.At<Simd1, TStorage, TLayout>(a, x + k, row, start, k), a->Y, x + k);
    }
}
