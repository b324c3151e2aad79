using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>c(x) + s(x), or c(x) · s(x · c(x)): one softmax each, over positions or channels, and a sigmoid.</summary>
internal static class PolarizedSelfAttentionOracle
{
    public static DenseMap Gate(PolarizedSelfAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap channel = Channel(x);
        return options.Layout == PolarizedLayout.Parallel
            ? channel.Plus(Spatial(x))
            : channel.Times(Spatial(x.Times(channel)));

        DenseMap Channel(DenseMap map)
        {
            DenseMap shares = OverPositions(Convolve(map, state.Child("conv_q_right"), 1, bias: false));
            DenseMap values = Convolve(map, state.Child("conv_v_right"), width, bias: false);
            DenseMap gathered = MeanOverPositions(values.Times(shares)).Select(v => v * map.H * map.W);
            return Excite(gathered, map.C).Select(v => Functions.Of(options.Gate, v));
        }

        DenseMap Excite(DenseMap gathered, int channels)
        {
            OracleState up = state.Child("conv_up");
            switch (options.Excitation)
            {
                case PolarizedExcitation.Plain:
                    return Convolve(gathered, up, channels, bias: false);
                case PolarizedExcitation.Norm:
                    return NormalizeGroups(Convolve(gathered, up.Child("0"), channels, bias: false), up.Child("1"), 1);
                default:
                    DenseMap hidden = NormalizeGroups(Convolve(gathered, up.Child("0"), width / 4, bias: true), up.Child("1"), 1);
                    return Convolve(hidden.Select(Functions.ReLU), up.Child("3"), channels, bias: true);
            }
        }

        DenseMap Spatial(DenseMap map)
        {
            DenseMap query = MeanOverPositions(Convolve(map, state.Child("conv_q_left"), width, bias: false));
            DenseMap values = Convolve(map, state.Child("conv_v_left"), width, bias: false);
            if (options.SpatialSoftmax == PolarizedSoftmax.Query) query = OverChannels(query);
            if (options.SpatialSoftmax == PolarizedSoftmax.Values) values = OverPositions(values);
            DenseMap logits = DenseMap.Of(map.N, 1, map.H, map.W, (n, _, y, column)
                => Enumerable.Range(0, width).Sum(m => query[n, m, 0, 0] * values[n, m, y, column]));
            if (options.SpatialSoftmax == PolarizedSoftmax.Product) logits = OverPositions(logits);
            return logits.Select(v => Functions.Of(options.Gate, v));
        }
    }

    private static DenseMap OverPositions(DenseMap x)
    {
        DenseMap powers = x.Select(Math.Exp);
        DenseMap means = MeanOverPositions(powers);
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column) => powers[n, c, y, column] / (means[n, c, 0, 0] * x.H * x.W));
    }

    private static DenseMap OverChannels(DenseMap x) => DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _)
        => Math.Exp(x[n, c, 0, 0]) / Enumerable.Range(0, x.C).Sum(m => Math.Exp(x[n, m, 0, 0])));
}
