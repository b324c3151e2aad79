using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>The loops around an elementwise map in strips; it may write over what it reads.</summary>
internal static unsafe class StripElementwise<TVector, TStorage, TLayout, TMap>
    where TVector : unmanaged, ISimd<TVector>
    where TStorage : struct, IStorage
    where TLayout : struct, IMapLayout
    where TMap : struct, IElementwise
{
    /// <summary>Items are the planes of all channels.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void InPlanes(MapArguments* a, int from, int to)
    {
        MapArguments own = *a;
        nint height = a->Height, width = a->Width;
        for (nint plane = from; plane < to; plane++)
        {
            nint strips = plane * (height + width);
            for (nint y = 0; y < height; y++)
            {
                own.Third = ((plane / a->Channels * height) + y) * width;
                Strip(&own, ((plane * height) + y) * width, strips + y, strips + height, width);
            }
        }
    }

    /// <summary>Items are pixels.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void InPixels(MapArguments* a, int from, int to)
    {
        MapArguments own = *a;
        nint channels = a->Channels, height = a->Height, width = a->Width;
        nint x = from % width, line = from / width, y = line % height, sample = line / height;
        for (nint pixel = from; pixel < to; pixel++)
        {
            nint strips = sample * (height + width);
            own.Third = pixel;
            Strip(&own, pixel * channels, (strips + y) * channels, (strips + height + x) * channels, channels);
            if (++x < width) continue;
            x = 0;
            if (++y < height) continue;
            y = 0;
            sample++;
        }
    }

    /// <summary>
    /// What is left after the last whole vector is computed first, as a vector that ends with the strip: the loop may write over
    /// it.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Strip(MapArguments* a, nint element, nint row, nint start, nint length)
    {
        int lanes = TVector.Lanes;
        nint last = length - lanes, k = 0;
        bool rest = length % lanes != 0;
        TVector end = rest ? TMap.At<TVector, TStorage, TLayout>(a, element + last, row, start, last) : default;
        for (; k <= last; k += lanes)
        {
            TStorage.Store(TMap.At<TVector, TStorage, TLayout>(a, element + k, row, start, k), a->Y, element + k);
        }

        if (rest) TStorage.Store(end, a->Y, element + last);
    }
}
