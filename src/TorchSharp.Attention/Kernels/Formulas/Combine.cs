using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>What the maps of a mix have in common.</summary>
internal static unsafe class Combine<TMix>
    where TMix : struct, ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Factors<TVector, TLayout>(
        MapArguments* a, nint row, nint start, nint column, out TVector first, out TVector second)
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
