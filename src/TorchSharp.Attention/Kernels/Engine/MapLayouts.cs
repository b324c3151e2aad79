using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>Where the values of a channel and of a position stand for an element of a matrix.</summary>
internal unsafe interface IMapLayout
{
    /// <summary>The map's value of an element.</summary>
    static abstract TVector X<TVector, TStorage>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage;

    /// <summary>
    /// A channel's value at (row, column); <paramref name="start"/> is the matrix's first column among all matrices'.
    /// </summary>
    static abstract TVector Channel<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>;

    static abstract TVector Position<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>;

    /// <summary>In strips, a position's value; <paramref name="third"/> is that of the strip's first.</summary>
    static abstract TVector Third<TVector>(float* values, nint third, nint column)
        where TVector : unmanaged, ISimd<TVector>;
}

/// <summary>NCHW: rows are channels.</summary>
internal readonly unsafe struct Nchw : IMapLayout
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector X<TVector, TStorage>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        => TStorage.Load<TVector>(a->X, element);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Channel<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(values[row]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Position<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.Load(values + start + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Third<TVector>(float* values, nint third, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.Load(values + third + column);
}

/// <summary>NCHW, the map being what a deferred norm makes of X.</summary>
internal readonly unsafe struct NormedNchw : IMapLayout
{
    /// <summary>
    /// Multiplied and added in two steps whatever the vector, so that equal values stay equal in a row's last elements.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector X<TVector, TStorage>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        => ((TStorage.Load<TVector>(a->X, element) - TVector.All(a->NormCentre[row])) * TVector.All(a->NormFactor[row]))
            + TVector.All(a->NormShift[row]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Channel<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => Nchw.Channel<TVector>(values, row, start, column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Position<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => Nchw.Position<TVector>(values, row, start, column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Third<TVector>(float* values, nint third, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => Nchw.Third<TVector>(values, third, column);
}

/// <summary>Channels last: rows are positions.</summary>
internal readonly unsafe struct ChannelsLast : IMapLayout
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector X<TVector, TStorage>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        => TStorage.Load<TVector>(a->X, element);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Channel<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.Load(values + start + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Position<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(values[row]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Third<TVector>(float* values, nint third, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(values[third]);
}

/// <summary>
/// Channels last in strips: a pixel's row and its column are where their values of all channels begin. Planes in strips are
/// <see cref="Nchw"/> themselves, the row's value being the channel's and the column's the position's.
/// </summary>
internal readonly unsafe struct PixelStrips : IMapLayout
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector X<TVector, TStorage>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        => TStorage.Load<TVector>(a->X, element);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Channel<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.Load(values + row + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Position<TVector>(float* values, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.Load(values + start + column);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Third<TVector>(float* values, nint third, nint column)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(values[third]);
}
