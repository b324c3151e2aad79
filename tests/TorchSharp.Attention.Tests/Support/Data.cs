namespace TorchSharp.Attention.Tests;

/// <summary>Batch, size of the map and size of the guide.</summary>
internal sealed record MapShape(int N, int H, int W, int GuideH, int GuideW)
{
    /// <summary>Batches of 1 and 3, odd, flat and tall maps, a single position; guides of the same, a smaller and a larger size.</summary>
    public static IReadOnlyList<MapShape> Several { get; } =
    [
        new(1, 5, 7, 5, 7), new(3, 4, 3, 2, 2), new(1, 1, 1, 2, 3), new(3, 1, 1, 1, 1), new(2, 3, 9, 7, 4), new(3, 6, 2, 1, 5),
    ];

    public DenseMap Input(Row row, int seed) => Data.Random(N, row.Channels, H, W, seed);

    public DenseMap? Guide(Row row, int seed) => row.GuideChannels == 0 ? null : Data.Random(N, row.GuideChannels, GuideH, GuideW, seed + 1);
}

/// <summary>Seeded data, and the way between the oracles' arrays and tensors.</summary>
internal static class Data
{
    public static double Normal(this Random random)
        => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    public static DenseMap Random(int n, int c, int h, int w, int seed)
    {
        Random random = new(seed);
        return DenseMap.Of(n, c, h, w, (_, _, _, _) => random.Normal());
    }

    public static Tensor Tensor(this DenseMap map, ScalarType dtype = ScalarType.Float64)
        => tensor(map.Values, [map.N, map.C, map.H, map.W], dtype: dtype);

    public static DenseMap Map(this Tensor tensor)
        => new((int)tensor.size(0), (int)tensor.size(1), (int)tensor.size(2), (int)tensor.size(3), tensor.Doubles());

    public static double[] Doubles(this Tensor tensor)
    {
        using DisposeScope scope = NewDisposeScope();
        return tensor.detach().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
    }
}
