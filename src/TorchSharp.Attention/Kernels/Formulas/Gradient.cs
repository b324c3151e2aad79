using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

internal static unsafe class Gradient
{
    /// <summary>du for u = x · c: dy · s, and what the poolings over channels send back.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector OfGated<TVector, TStorage, TLayout>(
        MapArguments* a, TVector u, nint element, nint row, nint start, nint column)
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
