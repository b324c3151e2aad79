using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>The loop around an elementwise map; it may write over what it reads.</summary>
internal static unsafe class Elementwise<TVector, TStorage, TLayout, TMap>
    where TVector : unmanaged, ISimd<TVector>
    where TStorage : struct, IStorage
    where TLayout : struct, IMapLayout
    where TMap : struct, IElementwise
{
    /// <summary>Items are the rows of all matrices.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows(MapArguments* a, int from, int to)
    {
        int lanes = TVector.Lanes;
        nint columns = a->Columns, tail = columns - (columns % lanes);
        for (nint row = from; row < to; row++)
        {
            nint x = row * columns, start = row / a->Rows * columns, k = 0;
            for (; k <= columns - (2 * lanes); k += 2 * lanes)
            {
                TVector near = TMap.At<TVector, TStorage, TLayout>(a, x + k, row, start, k);
                TVector far = TMap.At<TVector, TStorage, TLayout>(a, x + k + lanes, row, start, k + lanes);
                TStorage.Store(near, a->Y, x + k);
                TStorage.Store(far, a->Y, x + k + lanes);
            }

            for (; k < tail; k += lanes)
            {
                TStorage.Store(TMap.At<TVector, TStorage, TLayout>(a, x + k, row, start, k), a->Y, x + k);
            }

            if (k < columns) Tail(a, x, row, start, k, columns);
        }
    }

    /// <summary>The last values of a row, one by one; apart, for the compiler inlines only so much into one method.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Tail(MapArguments* a, nint x, nint row, nint start, nint column, nint columns)
    {
        for (nint k = column; k < columns; k++)
        {
            TStorage.Store(TMap.At<Simd1, TStorage, TLayout>(a, x + k, row, start, k), a->Y, x + k);
        }
    }
}
