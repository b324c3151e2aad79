namespace TorchSharp.Attention.Kernels;

/// <summary>
/// What an element gets back from the poolings that it took part in. In strips, rows stand for channels and columns for
/// positions. Nothing is multiplied by zero: an infinite x would make that NaN.
/// </summary>
internal unsafe interface IPooled
{
    static abstract TVector At<TVector, TLayout>(MapArguments* a, TVector x, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TLayout : struct, IMapLayout;
}
