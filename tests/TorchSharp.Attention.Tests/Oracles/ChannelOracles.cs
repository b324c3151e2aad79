using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>σ(W₂ δ(W₁ z)), z = mean over positions, or the average of mean and maximum.</summary>
internal static class SqueezeExcitationOracle
{
    public static DenseMap Gate(SqueezeExcitationOptions options, DenseMap x, OracleState state)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap pooled = MeanOverPositions(x);
        if (options.MaxPool) pooled = pooled.Plus(MaxOverPositions(x)).Select(v => v / 2);
        return Mlp.Run(pooled, state, width, options.Bias, options.Activation).Select(v => Functions.Of(options.Gate, v));
    }
}

/// <summary>σ(M(mean x) + M(max x)), M(z) = W₂ δ(W₁ z).</summary>
internal static class ChannelAttentionOracle
{
    public static DenseMap Gate(ChannelAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap mean = Mlp.Run(MeanOverPositions(x), state, width, options.Bias, options.Activation);
        DenseMap max = Mlp.Run(MaxOverPositions(x), state, width, options.Bias, options.Activation);
        return mean.Plus(max).Select(v => Functions.Of(options.Gate, v));
    }
}

internal static class Mlp
{
    public static DenseMap Run(DenseMap z, OracleState state, int width, bool bias, GateActivation activation)
    {
        DenseMap hidden = Convolve(z, state.Child("fc1"), width, bias).Select(v => Functions.Of(activation, v));
        return Convolve(hidden, state.Child("fc2"), z.C, bias);
    }
}

/// <summary>σ(k ∗ z) along the channels, z = mean over positions.</summary>
internal static class EfficientChannelAttentionOracle
{
    public static DenseMap Gate(EfficientChannelAttentionOptions options, DenseMap x, OracleState state)
    {
        int kernel = options.KernelSize ?? AdaptiveKernel(x.C, options.Gamma, options.Beta);
        double[] weight = state.Child("conv").Get("weight", kernel);
        DenseMap mean = MeanOverPositions(x);
        return DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _) =>
        {
            double sum = 0;
            for (int i = 0; i < kernel; i++)
            {
                int from = c + i - (kernel / 2);
                if (options.Padding == ChannelPadding.Circular) from = ((from % x.C) + x.C) % x.C;
                if (from >= 0 && from < x.C) sum += weight[i] * mean[n, from, 0, 0];
            }

            return Functions.Of(options.Gate, sum);
        });
    }

    /// <summary>|log₂ C / gamma + beta / gamma|, rounded down, made odd upwards, at least 3.</summary>
    private static int AdaptiveKernel(int channels, double gamma, double beta)
    {
        int t = (int)Math.Abs((Math.Log(channels) / Math.Log(2) / gamma) + (beta / gamma));
        return Math.Max(3, t + 1 - (t % 2));
    }
}
