using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>Sum and maximum of x.</summary>
internal readonly unsafe struct Pooling : IReduction
{
    public static SecondResult Second => SecondResult.Maximum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TLayout.X<TVector, TStorage>(a, element, row, start, column);
        first += x;
        second = TVector.Larger(x, second);
    }
}

/// <summary>Sum of x.</summary>
internal readonly unsafe struct Summing : IReduction
{
    public static SecondResult Second => SecondResult.None;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => first += TStorage.Load<TVector>(a->X, element);
}

/// <summary>Sum of x − o and of (x − o)², o an element of the channel: moments without cancellation.</summary>
internal readonly unsafe struct Moments : IReduction
{
    public static SecondResult Second => SecondResult.Sum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector x = TStorage.Load<TVector>(a->X, element) - TLayout.Channel<TVector>(a->ChannelShift, row, start, column);
        first += x;
        second = TVector.MultiplyAdd(x, x, second);
    }
}

/// <summary>Sum of x and of x².</summary>
internal readonly unsafe struct SquareSums : IReduction
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
        first += x;
        second = TVector.MultiplyAdd(x, x, second);
    }
}

/// <summary>Sum of x and of |x|.</summary>
internal readonly unsafe struct Magnitudes : IReduction
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
        first += x;
        second += TVector.Larger(x, TVector.All(0) - x);
    }
}

/// <summary>Sum and maximum of x · c.</summary>
internal readonly unsafe struct GatedPooling : IReduction
{
    public static SecondResult Second => SecondResult.Maximum;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void At<TVector, TStorage, TLayout>(
        MapArguments* a, nint element, nint row, nint start, nint column, ref TVector first, ref TVector second)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
    {
        TVector u = TLayout.X<TVector, TStorage>(a, element, row, start, column)
            * TLayout.Channel<TVector>(a->ChannelGate, row, start, column);
        first += u;
        second = TVector.Larger(u, second);
    }
}
