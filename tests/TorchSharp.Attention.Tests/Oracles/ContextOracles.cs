using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>Contexts and their weights, from the papers' formulas.</summary>
internal static class ContextOracle
{
    /// <summary>The refined map: x + c, or c; with an identity start x + alpha · c, or x + alpha · (c − x).</summary>
    public static DenseMap? Forward(AttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        (DenseMap Context, bool Residual)? found = options switch
        {
            GlobalContextOptions gc => (GlobalContextOracle.Context(gc, x, state), gc.Fusion == GlobalContextFusion.Add),
            NonLocalOptions nl => (NonLocalOracle.Context(nl, x, state, training), true),
            PositionAttentionOptions pam => (DanetOracle.Position(pam, x, state), true),
            ChannelSelfAttentionOptions cam => (DanetOracle.Channel(cam, x, state), true),
            CrissCrossAttentionOptions cross => (CrissCrossOracle.Context(cross, x, state), true),
            WindowAttentionOptions window => (WindowOracle.Context(window, x, state), window.Residual),
            BottleneckAttentionOptions bottleneck => (BottleneckOracle.Context(bottleneck, x, state), bottleneck.Residual),
            HaloAttentionOptions halo => (HaloOracle.Context(halo, x, state), halo.Residual),
            LambdaLayerOptions lambda => (LambdaOracle.Context(lambda, x, state, training), lambda.Residual),
            BatAttentionOptions bat => (BatOracle.Context(bat, x, state, training), true),
            SparseAttentionOptions sparse => (SparseOracle.Context(sparse, x, state), sparse.Residual),
            LinearAttentionOptions linear => (LinearOracle.Context(linear, x, state), linear.Residual),
            _ => null,
        };
        if (found is not (DenseMap context, bool residual)) return null;
        if (state.Find("alpha", 1) is not [double alpha]) return residual ? x.Plus(context) : context;
        return x.Plus((residual ? context : context.Minus(x)).Select(v => v * alpha));
    }

    /// <summary>(N, heads, query, key).</summary>
    public static DenseMap Weights(AttentionOptions options, DenseMap x, OracleState state) => options switch
    {
        SelfAttention2dOptions self => SelfAttentionOracle.Weights(self, x, state),
        GlobalContextOptions gc => GlobalContextOracle.Weights(gc, x, state),
        NonLocalOptions nl => NonLocalOracle.Weights(nl, x, state),
        PositionAttentionOptions pam => DanetOracle.PositionWeights(pam, x, state),
        ChannelSelfAttentionOptions cam => DanetOracle.ChannelWeights(cam, x),
        CrissCrossAttentionOptions cross => CrissCrossOracle.Weights(cross, x, state),
        WindowAttentionOptions window => WindowOracle.Weights(window, x, state),
        BottleneckAttentionOptions bottleneck => BottleneckOracle.Weights(bottleneck, x, state),
        HaloAttentionOptions halo => HaloOracle.Weights(halo, x, state),
        LambdaLayerOptions lambda => LambdaOracle.Weights(lambda, x, state),
        BatAttentionOptions bat => BatOracle.Weights(bat, x, state),
        SparseAttentionOptions sparse => SparseOracle.Weights(sparse, x, state),
        LinearAttentionOptions linear => LinearOracle.Weights(linear, x, state),
        _ => throw new NotSupportedException($"No oracle for the weights of {options.GetType().Name}."),
    };

    /// <summary>
    /// (N, heads, query, key) of logits: the product of a head's channels at two positions, times a scale. Heads share the channels out.
    /// </summary>
    public static DenseMap Logits(DenseMap query, DenseMap key, double scale, int heads = 1)
    {
        int width = query.C / heads;
        return DenseMap.Of(query.N, heads, query.H * query.W, key.H * key.W, (n, head, i, j) =>
        {
            double sum = 0;
            for (int c = head * width; c < (head + 1) * width; c++)
            {
                sum += query[n, c, i / query.W, i % query.W] * key[n, c, j / key.W, j % key.W];
            }

            return sum * scale;
        });
    }

    /// <summary>Σ over keys of weight · value, as a map of the given size; heads share the values' channels out.</summary>
    public static DenseMap Gather(DenseMap weights, DenseMap value, int height, int width)
        => DenseMap.Of(value.N, value.C, height, width, (n, c, y, column) =>
        {
            double sum = 0;
            for (int j = 0; j < value.H * value.W; j++)
            {
                sum += weights[n, c / (value.C / weights.C), (y * width) + column, j] * value[n, c, j / value.W, j % value.W];
            }

            return sum;
        });

    /// <summary>Channels from one place on, as a map of their own.</summary>
    public static DenseMap Channels(DenseMap x, int from, int count) => DenseMap.Of(x.N, count, x.H, x.W, (n, c, y, column) => x[n, from + c, y, column]);
}

/// <summary>x + t(z), x · σ(t(z)) or x · σ(s(z)) + t(z), z a weighted mean over positions.</summary>
internal static class GlobalContextOracle
{
    public static DenseMap Context(GlobalContextOptions options, DenseMap x, OracleState state)
    {
        DenseMap weights = Weights(options, x, state);
        DenseMap pooled = ContextOracle.Gather(weights, x, 1, 1);
        DenseMap? added = options.Fusion == GlobalContextFusion.Scale ? null : Bottleneck("mlp_add");
        if (options.Fusion == GlobalContextFusion.Add) return added!;
        DenseMap scaled = x.Times(Bottleneck("mlp_scale").Select(v => Functions.Of(options.Gate, v)));
        return added is null ? scaled : scaled.Plus(added);

        DenseMap Bottleneck(string name)
        {
            OracleState layers = state.Child(name);
            int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
            DenseMap hidden = Convolve(pooled, layers.Child("fc1"), width, bias: true);
            double[] scale = layers.Child("norm").Get("weight", width);
            double[] shift = layers.Child("norm").Get("bias", width);
            DenseMap normed = DenseMap.Of(x.N, width, 1, 1, (n, c, _, _) =>
            {
                double[] values = [.. Enumerable.Range(0, width).Select(i => hidden[n, i, 0, 0])];
                double mean = values.Average();
                double variance = values.Average(v => (v - mean) * (v - mean));
                return ((values[c] - mean) / Math.Sqrt(variance + options.NormEpsilon) * scale[c]) + shift[c];
            });
            return Convolve(normed.Select(v => Functions.Of(options.Activation, v)), layers.Child("fc2"), x.C, bias: true);
        }
    }

    public static DenseMap Weights(GlobalContextOptions options, DenseMap x, OracleState state)
    {
        int positions = x.H * x.W;
        if (!options.AttentionPooling) return DenseMap.Of(x.N, 1, 1, positions, (_, _, _, _) => 1.0 / positions);
        DenseMap logits = Convolve(x, state.Child("conv_attn"), 1, bias: true);
        return SelfAttentionOracle.Softmax(DenseMap.Of(x.N, 1, 1, positions, (n, _, _, p) => logits[n, 0, p / x.W, p % x.W]));
    }
}

/// <summary>BN(z(A g(x))).</summary>
internal static class NonLocalOracle
{
    public static DenseMap Context(NonLocalOptions options, DenseMap x, OracleState state, bool training)
    {
        DenseMap value = Convolve(x, state.Child("g"), Width(options, x), bias: true);
        DenseMap gathered = ContextOracle.Gather(Weights(options, x, state), value, x.H, x.W);
        return Normalize(Convolve(gathered, state.Child("z"), x.C, bias: true), state.Child("norm"), training);
    }

    public static DenseMap Weights(NonLocalOptions options, DenseMap x, OracleState state)
    {
        DenseMap theta = Convolve(x, state.Child("t"), Width(options, x), bias: true);
        DenseMap phi = Convolve(x, state.Child("p"), Width(options, x), bias: true);
        DenseMap logits = ContextOracle.Logits(theta, phi, options.Scale switch
        {
            NonLocalScale.Channels => 1 / Math.Sqrt(x.C),
            NonLocalScale.Width => 1 / Math.Sqrt(theta.C),
            _ => 1,
        });
        return options.Pairwise == NonLocalPairwise.DotProduct
            ? logits.Select(v => v / (x.H * x.W))
            : SelfAttentionOracle.Softmax(logits);
    }

    private static int Width(NonLocalOptions options, DenseMap x)
        => ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
}

/// <summary>The two halves of DANet, gamma included.</summary>
internal static class DanetOracle
{
    public static DenseMap Position(PositionAttentionOptions options, DenseMap x, OracleState state)
        => ContextOracle.Gather(PositionWeights(options, x, state), Convolve(x, state.Child("value_conv"), x.C, bias: true), x.H, x.W)
            .Select(v => v * state.Get("gamma", 1)[0]);

    public static DenseMap PositionWeights(PositionAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap query = Convolve(x, state.Child("query_conv"), width, bias: true);
        DenseMap key = Convolve(x, state.Child("key_conv"), width, bias: true);
        return SelfAttentionOracle.Softmax(ContextOracle.Logits(query, key, 1));
    }

    public static DenseMap Channel(ChannelSelfAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap weights = ChannelWeights(options, x);
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column) =>
        {
            double sum = 0;
            for (int other = 0; other < x.C; other++) sum += weights[n, 0, c, other] * x[n, other, y, column];
            return sum * state.Get("gamma", 1)[0];
        });
    }

    public static DenseMap ChannelWeights(ChannelSelfAttentionOptions options, DenseMap x)
        => SelfAttentionOracle.Softmax(DenseMap.Of(x.N, 1, x.C, x.C, (n, _, a, b) =>
        {
            double energy = 0;
            for (int p = 0; p < x.H * x.W; p++) energy += x[n, a, p / x.W, p % x.W] * x[n, b, p / x.W, p % x.W];
            return options.NegateSimilarity ? -energy : energy;
        }));
}

/// <summary>Self-attention whose logits are −∞ off the cross, repeated.</summary>
internal static class CrissCrossOracle
{
    public static DenseMap Context(CrissCrossAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap z = x;
        for (int i = 0; i < options.Recurrence; i++)
        {
            DenseMap value = Convolve(z, state.Child("value_conv"), x.C, bias: true);
            z = z.Plus(ContextOracle.Gather(Weights(options, z, state), value, x.H, x.W).Select(v => v * state.Get("gamma", 1)[0]));
        }

        return z.Minus(x);
    }

    public static DenseMap Weights(CrissCrossAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        DenseMap query = Convolve(x, state.Child("query_conv"), width, bias: true);
        DenseMap key = Convolve(x, state.Child("key_conv"), width, bias: true);
        DenseMap logits = ContextOracle.Logits(query, key, 1);
        return SelfAttentionOracle.Softmax(DenseMap.Of(x.N, 1, logits.H, logits.W, (n, _, i, j)
            => i / x.W == j / x.W || i % x.W == j % x.W ? logits[n, 0, i, j] : double.NegativeInfinity));
    }
}

/// <summary>W_o · concat over heads of softmax over the pattern's keys.</summary>
internal static class SparseOracle
{
    public static DenseMap Context(SparseAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap qkv = Convolve(x, state.Child("qkv"), 3 * x.C, options.Bias);
        DenseMap gathered = ContextOracle.Gather(Weights(options, x, state), ContextOracle.Channels(qkv, 2 * x.C, x.C), x.H, x.W);
        return Convolve(gathered, state.Child("proj"), x.C, options.Bias);
    }

    public static DenseMap Weights(SparseAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap qkv = Convolve(x, state.Child("qkv"), 3 * x.C, options.Bias);
        DenseMap logits = ContextOracle.Logits(
            ContextOracle.Channels(qkv, 0, x.C), ContextOracle.Channels(qkv, x.C, x.C), 1 / Math.Sqrt(x.C / options.Heads), options.Heads);
        int positions = x.H * x.W;
        int length = options.BlockLength ?? (int)Math.Ceiling(Math.Sqrt(positions));
        return SelfAttentionOracle.Softmax(DenseMap.Of(x.N, options.Heads, positions, positions, (n, head, i, j) =>
        {
            // A key is kept if fewer than k others are above it; of equal ones, the first.
            int above = 0;
            for (int other = 0; other < positions; other++)
            {
                double ahead = logits[n, head, i, other] - logits[n, head, i, j];
                if (ahead > 0 || (ahead == 0 && other < j)) above++;
            }

            bool seen = options.Pattern == SparsePattern.TopK
                ? above < options.TopKeys
                : i / length == j / length || Math.Abs(i - j) % length == 0;
            return seen ? logits[n, head, i, j] : double.NegativeInfinity;
        }));
    }
}

/// <summary>W_o · concat over heads of Σ φ(q)ᵀ φ(k) v / Σ φ(q)ᵀ φ(k), over every pair of positions.</summary>
internal static class LinearOracle
{
    public static DenseMap Context(LinearAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap qkv = Convolve(x, state.Child("qkv"), 3 * x.C, options.Bias);
        DenseMap gathered = ContextOracle.Gather(Weights(options, x, state), ContextOracle.Channels(qkv, 2 * x.C, x.C), x.H, x.W);
        return Convolve(gathered, state.Child("proj"), x.C, options.Bias);
    }

    public static DenseMap Weights(LinearAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap features = Convolve(x, state.Child("qkv"), 3 * x.C, options.Bias).Select(v => v > 0 ? v + 1 : Math.Exp(v));
        DenseMap products = ContextOracle.Logits(
            ContextOracle.Channels(features, 0, x.C), ContextOracle.Channels(features, x.C, x.C), 1, options.Heads);
        return DenseMap.Of(x.N, options.Heads, products.H, products.W, (n, head, i, j) =>
        {
            double sum = 0;
            for (int key = 0; key < products.W; key++) sum += products[n, head, i, key];
            return products[n, head, i, j] / sum;
        });
    }
}
