using System.Runtime.Intrinsics;

namespace TorchSharp.Attention.Kernels;

/// <summary>Picks the vector width, storage and layout of a kernel and runs it on all threads.</summary>
internal static unsafe class MapKernels
{
    /// <summary>Columns of a tile: the results being summed up stay in the nearest cache.</summary>
    internal const int LargestTile = 1024;

    /// <summary>One pair of results per channel, over its positions.</summary>
    public static void OverPositions<TReduction>(in MapView map, MapArguments arguments, int maps = 1)
        where TReduction : struct, IReduction
        => Reduce<TReduction>(map, &arguments, alongRows: !map.IsChannelsLast, maps);

    /// <summary>One pair of results per position, over its channels.</summary>
    public static void OverChannels<TReduction>(in MapView map, MapArguments arguments, int maps = 1)
        where TReduction : struct, IReduction
        => Reduce<TReduction>(map, &arguments, alongRows: map.IsChannelsLast, maps);

    /// <summary>A whole map, element by element.</summary>
    public static void Write<TMap>(in MapView map, MapArguments arguments, int maps = 2)
        where TMap : struct, IElementwise
    {
        MapArguments* a = &arguments;
        delegate*<MapArguments*, int, int, void> body =
            Vector512.IsHardwareAccelerated ? Writer<Simd512, TMap>(map)
            : Vector256.IsHardwareAccelerated ? Writer<Simd256, TMap>(map)
            : Writer<Simd128, TMap>(map);
        NativeTeam.Run(body, a, a->Matrices * a->Rows, map.Bytes * maps);
    }

    private static void Reduce<TReduction>(in MapView map, MapArguments* a, bool alongRows, int maps)
        where TReduction : struct, IReduction
    {
        delegate*<MapArguments*, int, int, void> body =
            Vector512.IsHardwareAccelerated ? Reducer<Simd512, TReduction>(map, alongRows)
            : Vector256.IsHardwareAccelerated ? Reducer<Simd256, TReduction>(map, alongRows)
            : Reducer<Simd128, TReduction>(map, alongRows);
        int items = a->Matrices * a->Rows, threads = torch.get_num_threads();
        if (!alongRows && map.IsChannelsLast
            && PartsPlan.TryMake(a->Matrices, a->Rows, a->Columns, threads, KernelCheck.Guard, out PartsPlan plan))
        {
            ReduceInParts(body, a, TReduction.Second, plan, map.Bytes * maps);
            return;
        }

        if (!alongRows)
        {
            // Enough tiles for every thread even in a batch of one, each of whole vectors.
            int tiles = Math.Max((a->Columns + LargestTile - 1) / LargestTile, (threads + a->Matrices - 1) / a->Matrices);
            int tile = (a->Columns + tiles - 1) / tiles;
            a->Tile = (tile + 15) / 16 * 16;
            items = a->Matrices * ((a->Columns + a->Tile - 1) / a->Tile);
        }

        NativeTeam.Run(body, a, items, map.Bytes * maps);
    }

    /// <summary>
    /// A few samples of channels-last: each thread sums the rows that it will write later, which lie in
    /// its own cache, and the sums are added.
    /// </summary>
    private static void ReduceInParts(
        delegate*<MapArguments*, int, int, void> body, MapArguments* a, SecondResult second, in PartsPlan plan, long bytes)
    {
        using Scratch scratch = new(plan.Layout);
        MapArguments cut = *a;
        cut.Matrices = plan.Matrices;
        cut.Rows = plan.Rows;
        cut.Parts = plan.Parts;
        cut.Tile = plan.Tile;
        cut.ResultStride = plan.Pitch;
        cut.First = scratch.At(plan.First);
        cut.Second = scratch.At(plan.Second);
        NativeTeam.Run(body, &cut, cut.Matrices, bytes);
        scratch.Check();
        for (int sample = 0; sample < a->Matrices; sample++)
        {
            long part = plan.Of(sample, 0);
            Merge(cut.First + part, plan, a->First + (sample * a->ResultStride), SecondResult.Sum);
            if (second != SecondResult.None) Merge(cut.Second + part, plan, a->Second + (sample * a->ResultStride), second);
        }
    }

    /// <summary>Adds up the parts' results of a sample, or takes the largest; a NaN stays one.</summary>
    private static void Merge(float* part, in PartsPlan plan, float* result, SecondResult kind)
    {
        int columns = plan.Columns;
        new ReadOnlySpan<float>(part, columns).CopyTo(new Span<float>(result, columns));
        for (int i = 1; i < plan.Parts; i++)
        {
            float* next = part + plan.Of(0, i);
            for (int column = 0; column < columns; column++)
            {
                result[column] = kind == SecondResult.Maximum
                    ? MathF.Max(result[column], next[column])
                    : result[column] + next[column];
            }
        }
    }

    internal static delegate*<MapArguments*, int, int, void> Writer<TVector, TMap>(in MapView map)
        where TVector : unmanaged, ISimd<TVector>
        where TMap : struct, IElementwise
        => (map.IsBFloat16, map.IsChannelsLast) switch
        {
            (false, false) when map.Norm is not null => &Elementwise<TVector, Float32, NormedNchw, TMap>.Rows,
            (false, false) => &Elementwise<TVector, Float32, Nchw, TMap>.Rows,
            (false, true) => &Elementwise<TVector, Float32, ChannelsLast, TMap>.Rows,
            (true, false) => &Elementwise<TVector, BFloat16, Nchw, TMap>.Rows,
            _ => &Elementwise<TVector, BFloat16, ChannelsLast, TMap>.Rows,
        };

    internal static delegate*<MapArguments*, int, int, void> Reducer<TVector, TReduction>(in MapView map, bool alongRows)
        where TVector : unmanaged, ISimd<TVector>
        where TReduction : struct, IReduction
        => (map.IsBFloat16, map.IsChannelsLast, alongRows) switch
        {
            (false, false, true) when map.Norm is not null => &Reduce<TVector, Float32, NormedNchw, TReduction>.Rows,
            (false, false, false) when map.Norm is not null => &Reduce<TVector, Float32, NormedNchw, TReduction>.Columns,
            (false, false, true) => &Reduce<TVector, Float32, Nchw, TReduction>.Rows,
            (false, true, true) => &Reduce<TVector, Float32, ChannelsLast, TReduction>.Rows,
            (true, false, true) => &Reduce<TVector, BFloat16, Nchw, TReduction>.Rows,
            (true, true, true) => &Reduce<TVector, BFloat16, ChannelsLast, TReduction>.Rows,
            (false, false, false) => &Reduce<TVector, Float32, Nchw, TReduction>.Columns,
            (false, true, false) => &Reduce<TVector, Float32, ChannelsLast, TReduction>.Columns,
            (true, false, false) => &Reduce<TVector, BFloat16, Nchw, TReduction>.Columns,
            _ => &Reduce<TVector, BFloat16, ChannelsLast, TReduction>.Columns,
        };
}
