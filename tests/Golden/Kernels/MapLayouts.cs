using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>How a feature map lies in memory.</summary>
internal enum MapPlace
{
    /// <summary>Contiguous, (N, C, H, W).</summary>
    Planes,

    /// <summary>Channels last.</summary>
    Pixels,

    /// <summary>Contiguous, the later samples of a larger batch.</summary>
    LaterPlanes,

    /// <summary>Channels last, the later samples of a larger batch.</summary>
    LaterPixels,

    /// <summary>Contiguous, one value behind the start of its memory: no vector is aligned.</summary>
    Misaligned,

    /// <summary>Every other column of a wider map.</summary>
    EveryOtherColumn,

    /// <summary>Some columns of a wider map.</summary>
    Columns,

    /// <summary>Half of the channels of a map.</summary>
    Channels,

    /// <summary>Every other sample of a batch.</summary>
    EveryOtherSample,

    /// <summary>Rows and columns exchanged.</summary>
    Transposed,

    /// <summary>One sample seen as a whole batch.</summary>
    ExpandedBatch,

    /// <summary>One channel seen as all channels.</summary>
    ExpandedChannels,

    /// <summary>One position seen as a whole map.</summary>
    ExpandedPositions,
}

/// <summary>Maps in every layout.</summary>
internal static class MapLayouts
{
    private static readonly MapPlace[] Common = [MapPlace.Planes, MapPlace.Pixels, MapPlace.Pixels];
    private static readonly MapPlace[] Writable =
    [
        MapPlace.Planes, MapPlace.Pixels, MapPlace.LaterPlanes, MapPlace.LaterPixels, MapPlace.Misaligned, MapPlace.EveryOtherColumn, MapPlace.Transposed,
    ];

    /// <summary>A layout; contiguous and channels last are drawn most.</summary>
    public static MapPlace Draw(Random random, bool writable)
    {
        if (random.NextDouble() < 0.78) return random.Pick(Common);
        return writable ? random.Pick(Writable) : random.Pick(Enum.GetValues<MapPlace>());
    }

    /// <summary>The values in a layout; an expanded one repeats the first of them.</summary>
    public static Tensor Make(Tensor values, MapPlace place)
    {
        long n = values.size(0), c = values.size(1), h = values.size(2), w = values.size(3);
        return place switch
        {
            MapPlace.Planes => values.clone(),
            MapPlace.Pixels => Pixels(values.clone()),
            MapPlace.LaterPlanes => cat([values.narrow(0, 0, 1), values], 0).narrow(0, 1, n),
            MapPlace.LaterPixels => Pixels(cat([values.narrow(0, 0, 1), values], 0)).narrow(0, 1, n),
            MapPlace.Misaligned => cat([values.flatten().narrow(0, 0, 1), values.flatten()], 0).narrow(0, 1, values.numel()).view(n, c, h, w),
            MapPlace.EveryOtherColumn => stack([values, values.neg()], 4).flatten(3).slice(3, 0, 2 * w, 2),
            MapPlace.Columns => cat([values, values, values], 3).narrow(3, w, w),
            MapPlace.Channels => cat([values.neg(), values], 1).narrow(1, c, c),
            MapPlace.EveryOtherSample => stack([values, values.neg()], 1).flatten(0, 1).slice(0, 0, 2 * n, 2),
            MapPlace.Transposed => values.clone().transpose(2, 3).contiguous().transpose(2, 3),
            MapPlace.ExpandedBatch => values.narrow(0, 0, 1).clone().expand(n, c, h, w),
            MapPlace.ExpandedChannels => values.narrow(1, 0, 1).clone().expand(n, c, h, w),
            _ => values.narrow(2, 0, 1).narrow(3, 0, 1).clone().expand(n, c, h, w),
        };
    }

    private static Tensor Pixels(Tensor map) => map.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
}
