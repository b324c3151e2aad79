using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>Means along rows and columns: (N, C, H, 1) and (N, C, 1, W).</summary>
internal static class Strips
{
    public static DenseMap Rows(DenseMap x) => DenseMap.Of(x.N, x.C, x.H, 1, (n, c, y, _) =>
    {
        double sum = 0;
        for (int column = 0; column < x.W; column++) sum += x[n, c, y, column];
        return sum / x.W;
    });

    public static DenseMap Columns(DenseMap x) => DenseMap.Of(x.N, x.C, 1, x.W, (n, c, _, column) =>
    {
        double sum = 0;
        for (int y = 0; y < x.H; y++) sum += x[n, c, y, column];
        return sum / x.H;
    });

    /// <summary>What x is multiplied with to give x · g + x.</summary>
    public static DenseMap Skip(bool skip, DenseMap gate) => skip ? gate.Select(g => g + 1) : gate;
}

/// <summary>σ(W_h δ(norm(W₁ h))) · σ(W_w δ(norm(W₁ w))): one norm over the places of both strips.</summary>
internal static class CoordinateAttentionOracle
{
    public static DenseMap Gate(CoordinateAttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        int width = options.ReducedChannels
            ?? Math.Max(options.MinReducedChannels, ReducedWidth(x.C, options.Reduction, null, options.RoundingDivisor));
        DenseMap rows = Strips.Rows(x);
        DenseMap columns = Strips.Columns(x);
        DenseMap both = DenseMap.Of(x.N, x.C, x.H + x.W, 1, (n, c, place, _)
            => place < x.H ? rows[n, c, place, 0] : columns[n, c, 0, place - x.H]);
        DenseMap hidden = Convolve(both, state.Child("conv1"), width, options.Bias);
        if (options.Norm) hidden = Normalize(hidden, state.Child("bn1"), training);
        hidden = hidden.Select(v => Functions.Of(options.Activation, v));
        DenseMap down = DenseMap.Of(x.N, width, x.H, 1, (n, c, y, _) => hidden[n, c, y, 0]);
        DenseMap across = DenseMap.Of(x.N, width, 1, x.W, (n, c, _, column) => hidden[n, c, x.H + column, 0]);
        return Strips.Skip(options.Residual, Head(down, "conv_h").Times(Head(across, "conv_w")));

        DenseMap Head(DenseMap strip, string name)
            => Convolve(strip, state.Child(name), x.C, options.Bias).Select(v => Functions.Of(options.Gate, v));
    }
}

/// <summary>σ(W_h δ(W₁ h) + W_w δ(W₁ w)).</summary>
internal static class SimpleCoordinateAttentionOracle
{
    public static DenseMap Gate(SimpleCoordinateAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap logits = Head(Strips.Rows(x), "fc_h").Plus(Head(Strips.Columns(x), "fc_w"));
        return Strips.Skip(options.Residual, logits.Select(v => Functions.Of(options.Gate, v)));

        DenseMap Head(DenseMap strip, string name)
        {
            DenseMap hidden = Convolve(strip, state.Child("fc1"), width, options.Bias).Select(v => Functions.Of(options.Activation, v));
            return Convolve(hidden, state.Child(name), x.C, options.Bias);
        }
    }
}

/// <summary>σ(δ(GN(f_h ∗ h))) · σ(δ(GN(f_w ∗ w))), δ perhaps absent.</summary>
internal static class EfficientLocalAttentionOracle
{
    public static DenseMap Gate(EfficientLocalAttentionOptions options, DenseMap x, OracleState state)
    {
        int groups = x.C / options.ChannelsPerGroup;
        DenseMap rows = ConvolveGroups(Strips.Rows(x), state.Child("conv_h"), x.C, options.Bias, groups, (options.KernelSize, 1));
        DenseMap columns = ConvolveGroups(Strips.Columns(x), state.Child("conv_w"), x.C, options.Bias, groups, (1, options.KernelSize));
        return Strips.Skip(options.Residual, Factor(rows, "norm_h").Times(Factor(columns, "norm_w")));

        DenseMap Factor(DenseMap strip, string norm)
        {
            DenseMap logits = NormalizeGroups(strip, state.Child(norm), options.NormGroups);
            if (options.Activation is GateActivation activation) logits = logits.Select(v => Functions.Of(activation, v));
            return logits.Select(v => Functions.Of(options.Gate, v));
        }
    }
}

/// <summary>σ(f_h ∗ h + f_w ∗ w), f depthwise or nothing.</summary>
internal static class StripAttentionOracle
{
    public static DenseMap Gate(StripAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap rows = Strips.Rows(x);
        DenseMap columns = Strips.Columns(x);
        if (options.Convolution)
        {
            rows = ConvolveGroups(rows, state.Child("conv_h"), x.C, options.Bias, x.C, (options.KernelSize, 1));
            columns = ConvolveGroups(columns, state.Child("conv_w"), x.C, options.Bias, x.C, (1, options.KernelSize));
        }

        return Strips.Skip(options.Residual, rows.Plus(columns).Select(v => Functions.Of(options.Gate, v)));
    }
}
