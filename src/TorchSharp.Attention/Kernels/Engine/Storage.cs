using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>How a map's values lie in memory; arithmetic is float32 always.</summary>
internal unsafe interface IStorage
{
    static abstract int Bytes { get; }

    static abstract TVector Load<TVector>(void* values, nint index)
        where TVector : unmanaged, ISimd<TVector>;

    static abstract void Store<TVector>(TVector vector, void* values, nint index)
        where TVector : unmanaged, ISimd<TVector>;
}

internal readonly unsafe struct Float32 : IStorage
{
    public static int Bytes => sizeof(float);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector>(void* values, nint index)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.Load((float*)values + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TVector>(TVector vector, void* values, nint index)
        where TVector : unmanaged, ISimd<TVector>
        => vector.Store((float*)values + index);
}

internal readonly unsafe struct BFloat16 : IStorage
{
    public static int Bytes => sizeof(ushort);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector>(void* values, nint index)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.LoadBFloat16((ushort*)values + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TVector>(TVector vector, void* values, nint index)
        where TVector : unmanaged, ISimd<TVector>
        => vector.StoreBFloat16((ushort*)values + index);
}
