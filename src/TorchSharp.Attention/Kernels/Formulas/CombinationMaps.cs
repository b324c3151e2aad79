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
