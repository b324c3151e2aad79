using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>W_o · concat over heads of softmax(q kᵀ / √d + b) v, over the positions of a map, row by row.</summary>
internal static class SelfAttentionOracle
{
    private const int PositionWidth = 128;

    public static DenseMap Forward(SelfAttention2dOptions options, DenseMap x, OracleState state)
    {
        (int heads, int width) = HeadsAndWidth(options, x.C);
        DenseMap qkv = Convolve(x, state.Child("qkv"), 3 * heads * width, options.Bias);
        DenseMap weights = Weights(options, x, qkv, state);
        DenseMap gathered = DenseMap.Of(x.N, heads * width, x.H, x.W, (n, c, y, column) =>
        {
            double sum = 0;
            for (int key = 0; key < x.H * x.W; key++)
            {
                sum += weights[n, c / width, (y * x.W) + column, key] * qkv[n, (2 * heads * width) + c, key / x.W, key % x.W];
            }

            return sum;
        });
        DenseMap context = Convolve(gathered, state.Child("proj"), x.C, options.Bias);
        if (options.ZeroInitScale) context = context.Select(v => v * state.Get("gamma", 1)[0]);
        if (state.Find("alpha", 1) is not [double alpha]) return options.Residual ? x.Plus(context) : context;
        return x.Plus((options.Residual ? context : context.Minus(x)).Select(v => v * alpha));
    }

    /// <summary>(N, heads, query, key).</summary>
    public static DenseMap Weights(SelfAttention2dOptions options, DenseMap x, OracleState state)
    {
        (int heads, int width) = HeadsAndWidth(options, x.C);
        return Weights(options, x, Convolve(x, state.Child("qkv"), 3 * heads * width, options.Bias), state);
    }

    private static DenseMap Weights(SelfAttention2dOptions options, DenseMap x, DenseMap qkv, OracleState state)
    {
        (int heads, int width) = HeadsAndWidth(options, x.C);
        int positions = x.H * x.W;
        DenseMap weights = DenseMap.Of(x.N, heads, positions, positions, (n, head, query, key) =>
        {
            double dot = 0;
            for (int i = 0; i < width; i++)
            {
                int c = (head * width) + i;
                dot += qkv[n, c, query / x.W, query % x.W] * qkv[n, (heads * width) + c, key / x.W, key % x.W];
            }

            return dot / Math.Sqrt(width);
        });
        if (options.RelativePosition) weights = weights.Plus(Bias(state.Child("rel_pos"), heads, x.H, x.W));
        return Softmax(weights);
    }

    /// <summary>(1, heads, query, key): W₂ ReLU(W₁ (sgn Δ · ln(1 + |Δ|)) + b₁), Δ = the query's place minus the key's.</summary>
    private static DenseMap Bias(OracleState state, int heads, int height, int width)
    {
        double[] w1 = state.Child("fc1").Get("weight", PositionWidth * 2);
        double[] b1 = state.Child("fc1").Get("bias", PositionWidth);
        double[] w2 = state.Child("fc2").Get("weight", heads * PositionWidth);
        return DenseMap.Of(1, heads, height * width, height * width, (_, head, query, key) =>
        {
            double vertical = Log((query / width) - (key / width));
            double horizontal = Log((query % width) - (key % width));
            double sum = 0;
            for (int i = 0; i < PositionWidth; i++)
            {
                sum += w2[(head * PositionWidth) + i] * Functions.ReLU((w1[2 * i] * vertical) + (w1[(2 * i) + 1] * horizontal) + b1[i]);
            }

            return sum;
        });
    }

    private static double Log(int offset) => Math.Sign(offset) * Math.Log(1 + Math.Abs(offset));

    /// <summary>Over the last axis.</summary>
    public static DenseMap Softmax(DenseMap logits)
    {
        DenseMap result = logits.Copy();
        for (int row = 0; row < result.Values.Length; row += result.W)
        {
            Span<double> values = result.Values.AsSpan(row, result.W);
            double max = double.NegativeInfinity;
            double sum = 0;
            foreach (double value in values) max = Math.Max(max, value);
            foreach (double value in values) sum += Math.Exp(value - max);
            for (int i = 0; i < values.Length; i++) values[i] = Math.Exp(values[i] - max) / sum;
        }

        return result;
    }

    private static (int Heads, int Width) HeadsAndWidth(SelfAttention2dOptions options, int channels)
    {
        int heads = options.Heads ?? (options.HeadWidth is int width ? channels / width : 8);
        return (heads, options.HeadWidth ?? channels / heads);
    }
}
