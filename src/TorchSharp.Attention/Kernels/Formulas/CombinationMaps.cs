using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>y = x · g, g = offset + scale · m(x, f, s).</summary>
internal readonly unsafe struct Combined<TMix> : IElementwise
    where TMix : struct, ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element);
        Combine<TMix>.Factors<TVector, TLayout>(a, row, start, column, out TVector first, out TVector second);
        return x * Combine<TMix>.Gate<TVector, TLayout>(a, x, first, second, column);
    }
}

/// <summary>dx = dy · g + dy · x · ∂g/∂x, and what the poolings send back.</summary>
internal readonly unsafe struct CombinedInputGradient<TMix, TPooled> : IElementwise
    where TMix : struct, ICombination
    where TPooled : struct, IPooled
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element), dy = TStorage.Load<TVector>(a->GradY, element);
        Combine<TMix>.Factors<TVector, TLayout>(a, row, start, column, out TVector first, out TVector second);
        TVector gate = Combine<TMix>.Gate<TVector, TLayout>(a, x, first, second, column);
        if (TMix.DependsOnInput) gate += x * TMix.ByInput(x, first, second) * TVector.All(a->MixScale);
        return (dy * gate) + TPooled.At<TVector, TLayout>(a, x, row, start, column);
    }
}

/// <summary>The factors' gradients: the sums of dy · x · ∂g/∂f and of dy · x · ∂g/∂s.</summary>
internal readonly unsafe struct FactorGradients<TMix> : IReduction
    where TMix : struct, ICombination
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element), dg = Combine<TMix>.GateGradient<TVector, TStorage>(a, x, element);
        Combine<TMix>.Factors<TVector, TLayout>(a, row, start, column, out TVector f, out TVector s);
        first += dg * TMix.ByFirst(x, f, s);
        second += dg * TMix.BySecond(x, f, s);
    }
}

/// <summary>The first factor's gradient, and how many elements share the channel's maximum.</summary>
internal readonly unsafe struct FirstGradient<TMix> : IReduction
    where TMix : struct, ICombination
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element), dg = Combine<TMix>.GateGradient<TVector, TStorage>(a, x, element);
        Combine<TMix>.Factors<TVector, TLayout>(a, row, start, column, out TVector f, out TVector s);
        first += dg * TMix.ByFirst(x, f, s);
        if (a->ChannelMax is not null) second += TVector.WhereEqual(x, TLayout.Channel<TVector>(a->ChannelMax, row, start, column), TVector.All(1));
    }
}

/// <summary>The second factor's gradient, and how many elements share the position's maximum.</summary>
internal readonly unsafe struct SecondGradient<TMix> : IReduction
    where TMix : struct, ICombination
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element), dg = Combine<TMix>.GateGradient<TVector, TStorage>(a, x, element);
        Combine<TMix>.Factors<TVector, TLayout>(a, row, start, column, out TVector f, out TVector s);
        first += dg * TMix.BySecond(x, f, s);
        if (a->PositionMax is not null) second += TVector.WhereEqual(x, TLayout.Position<TVector>(a->PositionMax, row, start, column), TVector.All(1));
    }
}

/// <summary>The third factor's gradient, of positions, and how many elements share the position's maximum.</summary>
internal readonly unsafe struct ThirdGradient : IReduction
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
        first += x * TStorage.Load<TVector>(a->GradY, element) * TVector.All(a->MixScale);
        second += TVector.WhereEqual(x, TLayout.Position<TVector>(a->PositionMax, row, start, column), TVector.All(1));
    }
}

/// <summary>In strips, how many elements share the row's maximum, and how many the column's.</summary>
internal readonly unsafe struct SharedMaxima : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element), one = TVector.All(1);
        first += TVector.WhereEqual(x, TLayout.Channel<TVector>(a->ChannelMax, row, start, column), one);
        second += TVector.WhereEqual(x, TLayout.Position<TVector>(a->PositionMax, row, start, column), one);
    }
}

/// <summary>For the gradient of the scale: the sums of dy · x · m and of dy · x.</summary>
internal readonly unsafe struct CombinationTotals<TMix> : IReduction
    where TMix : struct, ICombination
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element), product = x * TStorage.Load<TVector>(a->GradY, element);
        Combine<TMix>.Factors<TVector, TLayout>(a, row, start, column, out TVector f, out TVector s);
        first += product * Combine<TMix>.Pure<TVector, TLayout>(a, x, f, s, column);
        second += product;
    }
}

/// <summary>What the maps of a mix have in common.</summary>
internal static unsafe class Combine<TMix>
    where TMix : struct, ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Factors<TVector, TLayout>(MapArguments* a, nint row, nint start, nint column, out TVector first, out TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
    {
        first = TLayout.Channel<TVector>(a->FirstFactor, row, start, column);
        second = TMix.OfChannels
            ? TLayout.Channel<TVector>(a->SecondFactor, row, start, column)
            : TLayout.Position<TVector>(a->SecondFactor, row, start, column);
    }

    /// <summary>m with the third factor, if there is one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Pure<TVector, TLayout>(MapArguments* a, TVector x, TVector first, TVector second, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
    {
        TVector mix = TMix.Gate(x, first, second);
        return TMix.HasThird ? mix + TLayout.Third<TVector>(a->ThirdFactor, a->Third, column) : mix;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector, TLayout>(MapArguments* a, TVector x, TVector first, TVector second, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout
        => TVector.All(a->MixOffset) + (TVector.All(a->MixScale) * Pure<TVector, TLayout>(a, x, first, second, column));

    /// <summary>dy · x · scale, the gradient of m.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector GateGradient<TVector, TStorage>(MapArguments* a, TVector x, nint element)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        => x * TStorage.Load<TVector>(a->GradY, element) * TVector.All(a->MixScale);
}
