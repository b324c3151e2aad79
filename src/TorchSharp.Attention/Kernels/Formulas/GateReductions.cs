using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

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
        TVector u = TLayout.X<TVector, TStorage>(a, element, row, start, column)
            * TLayout.Channel<TVector>(a->ChannelGate, row, start, column);
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
/// Backward, of channels, no spatial gate: the channel gate's gradient, Σ dy · x, and how many
/// positions share the channel's maximum.
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
/// Backward of the end of a residual block, max(x · g + residual, 0), on the way of another reduction: writes the gradient before
/// the ReLU, which that reduction reads.
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
        TVector gradient = TVector.ReluBackward(
            TStorage.Load<TVector>(a->End, element), TStorage.Load<TVector>(a->GradEnd, element));
        TStorage.Store(gradient, a->GradY, element);
        TReduction.At<TVector, TStorage, TLayout>(a, element, row, start, column, ref first, ref second);
    }
}
