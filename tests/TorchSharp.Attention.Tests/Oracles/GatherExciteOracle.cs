using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// σ(up(E(ξ(x)))): gathered means, or depthwise convolutions and norms; nothing or a bottleneck; the nearest gathered place.
/// </summary>
internal static class GatherExciteOracle
{
    public static DenseMap Gate(GatherExciteOptions options, DenseMap x, OracleState state, bool training)
    {
        DenseMap gathered = options.GatherParameters ? Convolutions() : Pool();
        if (options.Mlp)
        {
            int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
            gathered = Mlp.Run(gathered, state.Child("mlp"), width, bias: true, options.Activation);
        }

        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column)
            => Functions.Of(options.Gate, gathered[n, c, y * gathered.H / x.H, column * gathered.W / x.W]));

        DenseMap Convolutions()
        {
            OracleState gather = state.Child("gather");
            if (options.PadWholeMap) return Normalize(Padded(gather.Child("conv1")), gather.Child("norm1"), training);
            if (options.Extent == 0)
            {
                double[] weight = gather.Child("conv1").Get("weight", x.C * x.H * x.W);
                DenseMap whole = DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _) =>
                {
                    double sum = 0;
                    for (int i = 0; i < x.H * x.W; i++) sum += weight[(c * x.H * x.W) + i] * x[n, c, i / x.W, i % x.W];
                    return sum;
                });
                return Normalize(whole, gather.Child("norm1"), training);
            }

            DenseMap map = x;
            for ((int step, int reach) = (1, 2); reach <= options.Extent; step++, reach *= 2)
            {
                if (step > 1) map = map.Select(v => Functions.Of(options.Activation, v));
                map = Normalize(Halve(map, gather.Child($"conv{step}")), gather.Child($"norm{step}"), training);
            }

            return map;
        }

        // A depthwise convolution of zeros on ⌊(k − 1) / 2⌋ places on each side.
        DenseMap Padded(OracleState conv)
        {
            (int h, int w) = (options.MapHeight!.Value, options.MapWidth!.Value);
            double[] weight = conv.Get("weight", x.C * h * w);
            return DenseMap.Of(x.N, x.C, x.H - ((h + 1) % 2), x.W - ((w + 1) % 2), (n, c, y, column) =>
            {
                double sum = 0;
                for (int i = 0; i < x.H; i++)
                    for (int j = 0; j < x.W; j++)
                    {
                        (int row, int col) = (i - y + ((h - 1) / 2), j - column + ((w - 1) / 2));
                        if (row >= 0 && row < h && col >= 0 && col < w) sum += weight[(((c * h) + row) * w) + col] * x[n, c, i, j];
                    }

                return sum;
            });
        }

        DenseMap Pool()
        {
            int extent = options.Extent;
            (int height, int width) = extent == 0 ? (1, 1) : ((x.H + extent - 1) / extent, (x.W + extent - 1) / extent);
            return DenseMap.Of(x.N, x.C, height, width, (n, c, y, column) =>
            {
                List<double> values = [];
                for (int i = 0; i < x.H; i++)
                    for (int j = 0; j < x.W; j++)
                    {
                        bool near = extent == 0 || (Math.Abs(i - (y * extent)) < extent && Math.Abs(j - (column * extent)) < extent);
                        if (near) values.Add(x[n, c, i, j]);
                    }

                double mean = values.Average();
                return options.MaxPool ? (mean + values.Max()) / 2 : mean;
            });
        }
    }

    /// <summary>A depthwise 3×3 convolution around every other place.</summary>
    private static DenseMap Halve(DenseMap x, OracleState state)
    {
        DenseMap full = ConvolveGroups(x, state, x.C, bias: false, x.C, (3, 3));
        return DenseMap.Of(x.N, x.C, (x.H + 1) / 2, (x.W + 1) / 2, (n, c, y, column) => full[n, c, 2 * y, 2 * column]);
    }
}
