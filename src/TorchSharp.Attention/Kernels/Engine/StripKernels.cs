using System.Runtime.Intrinsics;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// Runs kernels on maps read in strips, each row and each column of each channel being one. Strips' values lie together: in
/// planes (N, C, H + W), with channels last (N, H + W, C), float32.
/// </summary>
internal static unsafe class StripKernels
{
    /// <summary>Bytes of results that a tile of channels may sum up into.</summary>
    private const int LargestTile = 24 * 1024;

    /// <summary>A whole map, element by element.</summary>
    public static void Write<TMap>(in MapView map, MapArguments arguments, int maps = 2)
        where TMap : struct, IElementwise
    {
        MapArguments* a = &arguments;
        delegate*<MapArguments*, int, int, void> body = Lanes(map, a) switch
        {
            16 => Writer<Simd512, TMap>(map),
            8 => Writer<Simd256, TMap>(map),
            4 => Writer<Simd128, TMap>(map),
            _ => Writer<Simd1, TMap>(map),
        };
        NativeTeam.Run(body, a, map.IsChannelsLast ? map.Batch * map.Positions : map.Batch * map.Channels, map.Bytes * maps);
    }

    /// <summary>
    /// Results of rows and columns in one read. A maximum: sums, times scale, and maxima, of both. Two sums: rows get the first,
    /// columns the second, in one array. One sum: both get it.
    /// </summary>
    public static void Reduce<TReduction>(in MapView map, MapArguments arguments, int maps = 1)
        where TReduction : struct, IReduction
    {
        MapArguments* a = &arguments;
        delegate*<MapArguments*, int, int, void> body = Lanes(map, a) switch
        {
            16 => Reducer<Simd512, TReduction>(map),
            8 => Reducer<Simd256, TReduction>(map),
            4 => Reducer<Simd128, TReduction>(map),
            _ => Reducer<Simd1, TReduction>(map),
        };
        int items = map.Batch * map.Channels;
        if (map.IsChannelsLast)
        {
            int tile = Math.Max(16, LargestTile / sizeof(float) / a->Width / 16 * 16), threads = torch.get_num_threads();
            while (tile > 32 && (long)map.Batch * ((map.Channels + tile - 1) / tile) < threads)
            {
                tile = ((tile / 2) + 15) / 16 * 16;
            }

            a->Tile = tile;
            items = map.Batch * ((map.Channels + tile - 1) / tile);
        }

        NativeTeam.Run(body, a, items, map.Bytes * maps);
    }

    /// <summary>Lanes of a vector that is no longer than what lies side by side, and no wider than the machine's.</summary>
    private static int Lanes(in MapView map, MapArguments* a)
    {
        int length = map.IsChannelsLast ? a->Channels : a->Width;
        int widest = Vector512.IsHardwareAccelerated ? 16 : Vector256.IsHardwareAccelerated ? 8 : 4;
        return length >= 16 && widest >= 16 ? 16 : length >= 8 && widest >= 8 ? 8 : length >= 4 ? 4 : 1;
    }

    private static delegate*<MapArguments*, int, int, void> Writer<TVector, TMap>(in MapView map)
        where TVector : unmanaged, ISimd<TVector>
        where TMap : struct, IElementwise
        => (map.IsBFloat16, map.IsChannelsLast) switch
        {
            (false, false) => &StripElementwise<TVector, Float32, Nchw, TMap>.InPlanes,
            (false, true) => &StripElementwise<TVector, Float32, PixelStrips, TMap>.InPixels,
            (true, false) => &StripElementwise<TVector, BFloat16, Nchw, TMap>.InPlanes,
            _ => &StripElementwise<TVector, BFloat16, PixelStrips, TMap>.InPixels,
        };

    private static delegate*<MapArguments*, int, int, void> Reducer<TVector, TReduction>(in MapView map)
        where TVector : unmanaged, ISimd<TVector>
        where TReduction : struct, IReduction
        => (map.IsBFloat16, map.IsChannelsLast) switch
        {
            (false, false) => &StripReduction<TVector, Float32, Nchw, TReduction>.InPlanes,
            (false, true) => &StripReduction<TVector, Float32, PixelStrips, TReduction>.InPixels,
            (true, false) => &StripReduction<TVector, BFloat16, Nchw, TReduction>.InPlanes,
            _ => &StripReduction<TVector, BFloat16, PixelStrips, TReduction>.InPixels,
        };
}
