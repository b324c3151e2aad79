using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

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
        if (a->ChannelMax is not null)
        {
            second += TVector.WhereEqual(x, TLayout.Channel<TVector>(a->ChannelMax, row, start, column), TVector.All(1));
        }
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
        if (a->PositionMax is not null)
        {
            second += TVector.WhereEqual(x, TLayout.Position<TVector>(a->PositionMax, row, start, column), TVector.All(1));
        }
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
