namespace TorchSharp.Attention.Kernels;

/// <summary>A map made of a map, element by element.</summary>
internal unsafe interface IElementwise
{
    static abstract TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout;
}
