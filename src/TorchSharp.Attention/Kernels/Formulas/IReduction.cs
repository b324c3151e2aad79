namespace TorchSharp.Attention.Kernels;

/// <summary>A pair of quantities, one of each element of a map, to be reduced over channels or over positions.</summary>
internal unsafe interface IReduction
{
    /// <summary>What the second quantity is.</summary>
    static abstract SecondResult Second { get; }

    static abstract void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout;
}
