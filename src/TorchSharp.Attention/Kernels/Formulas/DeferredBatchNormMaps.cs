using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>y = x.</summary>
internal readonly unsafe struct Itself : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => TLayout.X<TVector, TStorage>(a, element, row, start, column);
}

/// <summary>Backward of a deferred norm: dz = dy · c + shift + slope · (z − μ).</summary>
internal readonly unsafe struct NormInputGradient : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => InputGradient.At<TVector, TStorage, TLayout>(a, element, row, start, column)
            + (TLayout.Channel<TVector>(a->ChannelSlope, row, start, column)
                * (TStorage.Load<TVector>(a->X, element) - TLayout.Channel<TVector>(a->NormCentre, row, start, column)));
}
