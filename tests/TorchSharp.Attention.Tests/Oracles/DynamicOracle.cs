namespace TorchSharp.Attention.Tests;

/// <summary>Σ_k softmax(W₂ ReLU(W₁ mean x + b₁) + b₂)_k / T · A_k(x), blended by alpha where there is one.</summary>
internal static class DynamicAttentionOracle
{
    public static DenseMap Forward(DynamicAttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        double[,] weights = Weights(options, x, state);
        DenseMap[] parts = [.. options.Attentions.Select((attention, k)
            => Oracle.Forward(attention, x, null, state.Child("attentions").Child($"{k}"), training))];
        double alpha = state.Find("alpha", 1)?[0] ?? 1;
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, row, column) =>
        {
            double mixed = 0;
            for (int k = 0; k < parts.Length; k++) mixed += weights[n, k] * parts[k][n, c, row, column];
            return x[n, c, row, column] + (alpha * (mixed - x[n, c, row, column]));
        });
    }

    public static double[,] Weights(DynamicAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = options.ReducedChannels ?? Math.Max(8, x.C / options.Reduction), count = options.Attentions.Count;
        OracleState router = state.Child("router");
        DenseMap hidden = Layers.Convolve(Layers.MeanOverPositions(x), router.Child("fc1"), width, bias: true).Select(Functions.ReLU);
        DenseMap logits = Layers.Convolve(hidden, router.Child("fc2"), count, bias: true).Select(logit => logit / options.Temperature);
        double[,] weights = new double[x.N, count];
        for (int n = 0; n < x.N; n++)
        {
            double total = Enumerable.Range(0, count).Sum(k => Math.Exp(logits[n, k, 0, 0]));
            for (int k = 0; k < count; k++) weights[n, k] = Math.Exp(logits[n, k, 0, 0]) / total;
        }

        return weights;
    }
}
