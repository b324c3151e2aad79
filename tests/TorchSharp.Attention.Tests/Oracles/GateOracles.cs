using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>What x is multiplied with to give x · c + x · s, or max(x · c, x · s).</summary>
internal static class ConcurrentSqueezeExcitationOracle
{
    public static DenseMap Gate(ConcurrentSqueezeExcitationOptions options, DenseMap x, OracleState state)
    {
        if (options.Parts == ScseParts.Spatial) return Spatial();
        if (options.Parts == ScseParts.Channel) return Channel();
        DenseMap channel = Channel();
        DenseMap spatial = Spatial();
        if (options.Merge == ScseMerge.Add) return channel.Plus(spatial);
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column) =>
        {
            double value = x[n, c, y, column];
            (double one, double other) = (channel[n, c, 0, 0], spatial[n, 0, y, column]);
            return value * one >= value * other ? one : other;
        });

        DenseMap Channel()
        {
            int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
            return Mlp.Run(MeanOverPositions(x), state.Child("cSE"), width, options.Bias, options.Activation)
                .Select(v => Functions.Of(options.Gate, v));
        }

        DenseMap Spatial() => Convolve(x, state.Child("sSE").Child("conv"), 1, options.Bias).Select(v => Functions.Of(options.Gate, v));
    }
}

/// <summary>1 + tanh(γ s / n + β), s = α ‖x‖ over positions, n the norm of s over channels.</summary>
internal static class GatedChannelTransformationOracle
{
    public static DenseMap Gate(GatedChannelTransformationOptions options, DenseMap x, OracleState state)
    {
        bool squares = options.Norm == GctNorm.L2;
        double[] alpha = state.Get("embedding", x.C);
        double[] gamma = state.Get("gamma", x.C);
        double[] beta = state.Get("beta", x.C);
        int positions = x.H * x.W;
        DenseMap sums = MeanOverPositions(x.Select(v => squares ? v * v : Math.Abs(v))).Select(v => v * positions);
        DenseMap embedding = DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _)
            => alpha[c] * (squares ? Math.Sqrt(sums[n, c, 0, 0] + options.Epsilon) : sums[n, c, 0, 0]));
        return DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _) =>
        {
            double mean = Enumerable.Range(0, x.C).Select(k => embedding[n, k, 0, 0]).Average(s => squares ? s * s : Math.Abs(s));
            double norm = squares ? Math.Sqrt(mean + options.Epsilon) : mean + options.Epsilon;
            return 1 + Math.Tanh((gamma[c] * embedding[n, c, 0, 0] / norm) + beta[c]);
        });
    }
}

/// <summary>σ(norm(w₁ μ + w₂ s)), s² the variance over positions, unbiased or not, and a little.</summary>
internal static class StyleRecalibrationOracle
{
    public static DenseMap Gate(StyleRecalibrationOptions options, DenseMap x, OracleState state, bool training)
    {
        double[] weight = state.Get("cfc", 2 * x.C);
        double positions = x.H * x.W;
        DenseMap mean = MeanOverPositions(x);
        DenseMap spread = MeanOverPositions(x.Minus(mean).Select(v => v * v));
        DenseMap style = DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _) =>
        {
            double variance = options.Unbiased && positions > 1 ? spread[n, c, 0, 0] * positions / (positions - 1) : spread[n, c, 0, 0];
            return (weight[2 * c] * mean[n, c, 0, 0]) + (weight[(2 * c) + 1] * Math.Sqrt(variance + 1e-5));
        });
        return Normalize(style, state.Child("bn"), training, options.NormMomentum).Select(v => Functions.Of(options.Gate, v));
    }
}

/// <summary>The mean of CBAM's spatial gate (maximum first) of the map seen from three sides.</summary>
internal static class TripletAttentionOracle
{
    public static DenseMap Gate(TripletAttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        SpatialAttentionOptions branch = new()
        {
            KernelSize = options.KernelSize,
            Norm = true,
            NormMomentum = options.NormMomentum,
            MapOrder = SpatialMapOrder.MaxMean,
            Gate = options.Gate,
        };
        DenseMap overHeight = DenseMap.Of(x.N, x.H, x.C, x.W, (n, y, c, column) => x[n, c, y, column]);
        DenseMap overWidth = DenseMap.Of(x.N, x.W, x.H, x.C, (n, column, y, c) => x[n, c, y, column]);
        DenseMap cw = SpatialAttentionOracle.Gate(branch, overHeight, state.Child("cw"), training);
        DenseMap hc = SpatialAttentionOracle.Gate(branch, overWidth, state.Child("hc"), training);
        DenseMap? hw = options.Spatial ? SpatialAttentionOracle.Gate(branch, x, state.Child("hw"), training) : null;
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column) =>
        {
            double sum = cw[n, 0, c, column] + hc[n, 0, y, c];
            return hw is null ? sum / 2 : (sum + hw[n, 0, y, column]) / 3;
        });
    }
}

/// <summary>W (d ∗ (k ∗ x)), each depthwise convolution perhaps a row and a column.</summary>
internal static class LargeKernelAttentionOracle
{
    public static DenseMap Gate(LargeKernelAttentionOptions options, DenseMap x, OracleState state)
    {
        (int local, int wide) = (options.KernelSize, options.DilatedKernelSize);
        DenseMap map = x;
        if (options.SeparableKernels)
        {
            Step("conv0h", (1, local), 1);
            Step("conv0v", (local, 1), 1);
            Step("conv_spatial_h", (1, wide), options.Dilation);
            Step("conv_spatial_v", (wide, 1), options.Dilation);
        }
        else
        {
            Step("conv0", (local, local), 1);
            Step("conv_spatial", (wide, wide), options.Dilation);
        }

        return Convolve(map, state.Child("conv1"), x.C, options.Bias);

        void Step(string name, (int, int) kernel, int dilation)
            => map = ConvolveGroups(map, state.Child(name), x.C, options.Bias, x.C, kernel, dilation);
    }
}

/// <summary>Of each group of channels the first half gated by channel, the second by position.</summary>
internal static class ShuffleAttentionOracle
{
    public static DenseMap Gate(ShuffleAttentionOptions options, DenseMap x, OracleState state)
    {
        int half = x.C / (2 * options.Groups);
        double[] channelWeight = state.Get("cweight", half);
        double[] channelBias = state.Get("cbias", half);
        double[] spatialWeight = state.Get("sweight", half);
        double[] spatialBias = state.Get("sbias", half);
        double[] scale = state.Child("gn").Get("weight", half);
        double[] shift = state.Child("gn").Get("bias", half);
        DenseMap mean = MeanOverPositions(x);
        DenseMap variance = MeanOverPositions(x.Minus(mean).Select(v => v * v));
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column) =>
        {
            int place = c % (2 * half);
            int i = place % half;
            if (place < half) return Functions.Of(options.Gate, (channelWeight[i] * mean[n, c, 0, 0]) + channelBias[i]);
            double normal = (x[n, c, y, column] - mean[n, c, 0, 0]) / Math.Sqrt(variance[n, c, 0, 0] + 1e-5);
            return Functions.Of(options.Gate, (spatialWeight[i] * ((normal * scale[i]) + shift[i])) + spatialBias[i]);
        });
    }

    /// <summary>The output: gated, and channel i of the halves' i-th places after each other where it is shuffled.</summary>
    public static DenseMap Shuffled(DenseMap refined) => DenseMap.Of(refined.N, refined.C, refined.H, refined.W, (n, c, y, column)
        => refined[n, (c / 2) + (c % 2 * (refined.C / 2)), y, column]);
}

/// <summary>σ(W (r ∗ (c ∗ [mean x; max x]))), pooled over channels.</summary>
internal static class SeparableSpatialAttentionOracle
{
    public static DenseMap Gate(SeparableSpatialAttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        DenseMap map = ChannelPools.MeanMax(x);
        map = ConvolveGroups(map, state.Child("conv_v"), 2, bias: false, 2, (options.KernelSize, 1));
        map = ConvolveGroups(map, state.Child("conv_h"), 2, bias: false, 2, (1, options.KernelSize));
        DenseMap logits = Convolve(map, state.Child("conv_pw"), 1, bias: false);
        if (options.Norm) logits = Normalize(logits, state.Child("bn"), training, options.NormMomentum);
        return logits.Select(v => Functions.Of(options.Gate, v));
    }
}

/// <summary>Σ π σ(f([mean x; max x])), π = softmax of the fusion's logits.</summary>
internal static class MultiScaleSpatialAttentionOracle
{
    public static DenseMap Gate(MultiScaleSpatialAttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        double[] shares = [.. state.Get("fusion", options.KernelSizes.Count).Select(Math.Exp)];
        DenseMap pooled = ChannelPools.MeanMax(x);
        DenseMap sum = new(x.N, 1, x.H, x.W);
        for (int i = 0; i < shares.Length; i++)
        {
            OracleState scale = state.Child("scales").Child($"{i}");
            DenseMap logits = Convolve(
                pooled, scale.Child("conv"), 1, bias: false, options.KernelSizes[i], options.Dilations?[i] ?? 1);
            if (options.Norm) logits = Normalize(logits, scale.Child("bn"), training, options.NormMomentum);
            double share = shares[i] / shares.Sum();
            sum = sum.Plus(logits.Select(v => share * Functions.Of(options.Gate, v)));
        }

        return sum;
    }
}

internal static class ChannelPools
{
    public static DenseMap MeanMax(DenseMap x) => DenseMap.Of(x.N, 2, x.H, x.W, (n, which, y, column) =>
    {
        double[] values = [.. Enumerable.Range(0, x.C).Select(c => x[n, c, y, column])];
        return which == 0 ? values.Average() : values.Max();
    });
}
