using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>Backward, of channels, of a deferred norm: Σ dy · (z − μ) and Σ dy.</summary>
internal readonly unsafe struct CentredDot : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector dy = TStorage.Load<TVector>(a->GradY, element);
        first += dy * (TStorage.Load<TVector>(a->X, element) - TLayout.Channel<TVector>(a->NormCentre, row, start, column));
        second += dy;
    }
}

/// <summary>Writes a map and takes, of channels, its Σ dx · (z − μ) and Σ dx on the way.</summary>
internal readonly unsafe struct Written<TMap> : IReduction
    where TMap : struct, IElementwise
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector dx = TMap.At<TVector, TStorage, TLayout>(a, element, row, start, column);
        TStorage.Store(dx, a->Y, element);
        first += dx * (TStorage.Load<TVector>(a->X, element) - TLayout.Channel<TVector>(a->NormCentre, row, start, column));
        second += dx;
    }
}
