using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>σ(W₂ δ(norm(W₁ z))), z = mean over positions, or the average of mean and maximum; perhaps without the norm.</summary>
internal static class SqueezeExcitationOracle
{
    public static DenseMap Gate(SqueezeExcitationOptions options, DenseMap x, OracleState state, bool training)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap pooled = MeanOverPositions(x);
        if (options.MaxPool) pooled = pooled.Plus(MaxOverPositions(x)).Select(v => v / 2);
        DenseMap hidden = Convolve(pooled, state.Child("fc1"), width, options.Bias);
        if (options.Norm) hidden = Normalize(hidden, state.Child("bn"), training);
        hidden = hidden.Select(v => Functions.Of(options.Activation, v));
        return Convolve(hidden, state.Child("fc2"), x.C, options.Bias).Select(v => Functions.Of(options.Gate, v));
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

/// <summary>σ(W z + b), z = mean over positions, or the average of mean and maximum.</summary>
internal static class EffectiveSqueezeExcitationOracle
{
    public static DenseMap Gate(EffectiveSqueezeExcitationOptions options, DenseMap x, OracleState state)
    {
        DenseMap pooled = MeanOverPositions(x);
        if (options.MaxPool) pooled = pooled.Plus(MaxOverPositions(x)).Select(v => v / 2);
        return Convolve(pooled, state.Child("fc"), x.C, bias: true).Select(v => Functions.Of(options.Gate, v));
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

/// <summary>σ(k ∗ z) along the channels, z = mean over positions; or σ(b + k ∗ δ(u z + c)).</summary>
internal static class EfficientChannelAttentionOracle
{
    public static DenseMap Gate(EfficientChannelAttentionOptions options, DenseMap x, OracleState state)
    {
        int kernel = options.KernelSize ?? AdaptiveKernel(x.C, options.Gamma, options.Beta);
        DenseMap mean = MeanOverPositions(x);
        if (options.Mlp) return Mlp(options, mean, kernel, state);
        double[] weight = state.Child("conv").Get("weight", kernel);
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

    private static DenseMap Mlp(EfficientChannelAttentionOptions options, DenseMap mean, int kernel, OracleState state)
    {
        int width = options.HiddenWidth ?? Math.Max(8, 8 * (int)Math.Round(mean.C / 64.0, MidpointRounding.AwayFromZero));
        if (options.HiddenWidth is null && width < 0.9 * mean.C / 8) width += 8;
        double[] up = state.Child("conv").Get("weight", width);
        double[] shift = state.Child("conv").Get("bias", width);
        double[] weight = state.Child("conv2").Get("weight", width * kernel);
        double last = state.Child("conv2").Get("bias", 1)[0];
        return DenseMap.Of(mean.N, mean.C, 1, 1, (n, c, _, _) =>
        {
            double sum = last;
            for (int i = 0; i < kernel; i++)
            {
                int from = c + i - (kernel / 2);
                if (options.Padding == ChannelPadding.Circular) from = ((from % mean.C) + mean.C) % mean.C;
                if (from < 0 || from >= mean.C) continue;
                for (int j = 0; j < width; j++)
                {
                    sum += weight[(j * kernel) + i] * Functions.Of(options.Activation, (up[j] * mean[n, from, 0, 0]) + shift[j]);
                }
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
