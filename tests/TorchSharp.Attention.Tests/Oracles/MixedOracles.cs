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
