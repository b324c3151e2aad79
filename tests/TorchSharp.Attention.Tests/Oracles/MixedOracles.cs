using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>c(x) · s(x · c(x)), or s(x) · c(x · s(x)), or c(x) · s(x).</summary>
internal static class CbamOracle
{
    public static DenseMap Gate(CbamOptions options, DenseMap x, OracleState state, bool training)
    {
        switch (options.Order)
        {
            case CbamOrder.SpatialFirst:
                DenseMap spatial = Spatial(x);
                return spatial.Times(Channel(x.Times(spatial)));
            case CbamOrder.ChannelFirst:
                DenseMap channel = Channel(x);
                return channel.Times(Spatial(x.Times(channel)));
            default:
                return Channel(x).Times(Spatial(x));
        }

        DenseMap Channel(DenseMap map)
        {
            int width = ReducedWidth(map.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
            ChannelAttentionOptions half = new()
            {
                ReducedChannels = width,
                Bias = options.Bias,
                Activation = options.Activation,
                Gate = options.Gate,
            };
            return Oracle.Blend(ChannelAttentionOracle.Gate(half, map, state.Child("channel")), state.Child("channel"));
        }

        DenseMap Spatial(DenseMap map)
        {
            SpatialAttentionOptions half = new()
            {
                KernelSize = options.KernelSize,
                Norm = options.SpatialNorm,
                NormMomentum = options.SpatialNormMomentum,
                MapOrder = options.MapOrder,
                Gate = options.Gate,
            };
            return Oracle.Blend(SpatialAttentionOracle.Gate(half, map, state.Child("spatial"), training), state.Child("spatial"));
        }
    }
}

/// <summary>c(x) · s(x · c(x)), each half from the average of mean and maximum.</summary>
internal static class LightCbamOracle
{
    public static DenseMap Gate(LightCbamOptions options, DenseMap x, OracleState state, bool training)
    {
        OracleState first = state.Child("channel");
        OracleState second = state.Child("spatial");
        DenseMap z = MeanOverPositions(x).Plus(MaxOverPositions(x)).Select(v => v / 2);
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap channel = Oracle.Blend(
            Mlp.Run(z, first, width, options.Bias, options.Activation).Select(v => Functions.Of(options.Gate, v)), first);
        DenseMap refined = x.Times(channel);
        DenseMap pooled = DenseMap.Of(x.N, 1, x.H, x.W, (n, _, y, column) =>
        {
            double[] values = [.. Enumerable.Range(0, x.C).Select(c => refined[n, c, y, column])];
            return (values.Average() + values.Max()) / 2;
        });
        DenseMap logits = Convolve(pooled, second.Child("conv").Child("conv"), 1, bias: false, options.KernelSize);
        if (options.SpatialNorm) logits = Normalize(logits, second.Child("conv").Child("bn"), training, options.SpatialNormMomentum);
        return channel.Times(Oracle.Blend(logits.Select(v => Functions.Of(options.Gate, v)), second));
    }
}

/// <summary>(x − μ)² / (4 (v + λ)) + ½ through the sigmoid, v the unbiased variance over positions.</summary>
internal static class SimAmOracle
{
    public static DenseMap Gate(SimAmOptions options, DenseMap x)
    {
        DenseMap squares = x.Minus(MeanOverPositions(x)).Select(v => v * v);
        double positions = x.H * x.W;
        DenseMap variance = MeanOverPositions(squares).Select(v => positions > 1 ? v * positions / (positions - 1) : 0);
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column)
            => Functions.Sigmoid((squares[n, c, y, column] / (4 * (variance[n, c, 0, 0] + options.Lambda))) + 0.5));
    }
}

/// <summary>1 + σ(c ∘ s): c a bottleneck of the mean over positions, s a 1×1, dilated 3×3 and 1×1 convolutions.</summary>
internal static class BamOracle
{
    public static DenseMap Gate(BamOptions options, DenseMap x, OracleState state, bool training)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap channel = Channel();
        DenseMap spatial = Spatial();
        DenseMap logits = options.Merge == BamMerge.Multiply ? channel.Times(spatial) : channel.Plus(spatial);
        return logits.Select(v => 1 + Functions.Sigmoid(v));

        DenseMap Channel()
        {
            OracleState branch = state.Child("channel");
            DenseMap hidden = Convolve(MeanOverPositions(x), branch.Child("fc1"), width, bias: true);
            DenseMap raised = Convolve(Hidden(hidden, branch), branch.Child("fc2"), x.C, bias: true);
            return Output(raised, branch);
        }

        DenseMap Spatial()
        {
            OracleState branch = state.Child("spatial");
            OracleState reduce = branch.Child("reduce");
            DenseMap map = Hidden(Convolve(x, reduce.Child("conv"), width, bias: true), reduce);
            for (int i = 0; i < options.DilatedConvolutions; i++)
            {
                OracleState layer = branch.Child("dilated").Child($"{i}");
                map = Hidden(Convolve(map, layer.Child("conv"), width, bias: true, kernel: 3, options.Dilation), layer);
            }

            return Output(Convolve(map, branch.Child("final"), 1, bias: true), branch);
        }

        DenseMap Hidden(DenseMap map, OracleState layer)
            => (options.Norm == BamNorm.Hidden ? Normalize(map, layer.Child("bn"), training) : map).Select(Functions.ReLU);

        DenseMap Output(DenseMap map, OracleState branch)
            => options.Norm == BamNorm.Output ? Normalize(map, branch.Child("bn_out"), training) : map;
    }
}
