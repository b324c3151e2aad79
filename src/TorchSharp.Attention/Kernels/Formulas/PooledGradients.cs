using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>Nothing was pooled.</summary>
internal readonly unsafe struct NothingPooled : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => TVector.All(0);
}

/// <summary>Means of channels.</summary>
internal readonly unsafe struct ChannelMeans : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => TLayout.Channel<TVector>(a->ChannelShift, row, start, column);
}

/// <summary>Means and second moments of channels.</summary>
internal readonly unsafe struct ChannelMoments : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => ChannelMeans.At<TVector, TLayout>(a, x, row, start, column)
            + (TLayout.Channel<TVector>(a->ChannelSlope, row, start, column) * x);
}

/// <summary>Means of channels and Σ |x|: it sends back the sign of x, nothing where x is zero.</summary>
internal readonly unsafe struct ChannelMagnitudes : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
    {
        TVector zero = TVector.All(0), slope = TLayout.Channel<TVector>(a->ChannelSlope, row, start, column);
        return ChannelMeans.At<TVector, TLayout>(a, x, row, start, column)
            + TVector.WhereLess(zero, x, slope, TVector.WhereLess(x, zero, zero - slope, zero));
    }
}

/// <summary>Means and maxima of channels.</summary>
internal readonly unsafe struct ChannelPeaks : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => ChannelMeans.At<TVector, TLayout>(a, x, row, start, column) + Peak<TVector, TLayout>(a, x, row, start, column);

    /// <summary>What the maximum alone sends back.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Peak<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => TVector.WhereEqual(
            x,
            TLayout.Channel<TVector>(a->ChannelMax, row, start, column),
            TLayout.Channel<TVector>(a->ChannelPeak, row, start, column));
}

/// <summary>Means of channels and of positions.</summary>
internal readonly unsafe struct MeansOfBoth : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => ChannelMeans.At<TVector, TLayout>(a, x, row, start, column)
            + TLayout.Position<TVector>(a->PositionShift, row, start, column);
}

/// <summary>Means and maxima of channels and of positions.</summary>
internal readonly unsafe struct PeaksOfBoth : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => MeansOfBoth.At<TVector, TLayout>(a, x, row, start, column)
            + ChannelPeaks.Peak<TVector, TLayout>(a, x, row, start, column)
            + TVector.WhereEqual(
                x,
                TLayout.Position<TVector>(a->PositionMax, row, start, column),
                TLayout.Position<TVector>(a->PositionPeak, row, start, column));
}

/// <summary>Means and maxima of rows, of columns, and over channels.</summary>
internal readonly unsafe struct PeaksOfThree : IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => PeaksOfBoth.At<TVector, TLayout>(a, x, row, start, column)
            + TLayout.Third<TVector>(a->ThirdShift, a->Third, column)
            + TVector.WhereEqual(
                x, TLayout.Third<TVector>(a->ThirdMax, a->Third, column), TLayout.Third<TVector>(a->ThirdPeak, a->Third, column));
}
