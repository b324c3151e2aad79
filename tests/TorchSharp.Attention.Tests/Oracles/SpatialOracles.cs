using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// σ(f([mean x; max x])) or σ(f(½ mean x + ½ max x)), pooled over channels, f a k×k convolution to one map, perhaps normalised.
/// </summary>
internal static class SpatialAttentionOracle
{
    public static DenseMap Gate(SpatialAttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        int meanAt = options.MapOrder == SpatialMapOrder.MeanMax ? 0 : 1;
        bool average = options.MapOrder == SpatialMapOrder.Average;
        DenseMap pooled = DenseMap.Of(x.N, average ? 1 : 2, x.H, x.W, (n, which, y, column) =>
        {
            double[] values = [.. Enumerable.Range(0, x.C).Select(c => x[n, c, y, column])];
            if (average) return ((values.Sum() / x.C) + values.Max()) / 2;
            return which == meanAt ? values.Sum() / x.C : values.Max();
        });
        OracleState layer = state.Child("conv");
        DenseMap logits = Convolve(pooled, layer.Child("conv"), 1, bias: false, options.KernelSize);
        if (options.Norm) logits = Normalize(logits, layer.Child("bn"), training, options.NormMomentum);
        return logits.Select(v => Functions.Of(options.Gate, v));
    }
}

/// <summary>σ(ψ(ReLU(W_x x + W_g g))), g resized to x; each projection perhaps normalised.</summary>
internal static class AttentionGateOracle
{
    public static DenseMap Gate(AttentionGateOptions options, DenseMap x, DenseMap guide, OracleState state, bool training)
    {
        int width = options.ReducedChannels ?? Math.Max(1, x.C / 2);
        DenseMap steered = Project(Resize(guide, x.H, x.W), "W_g", width);
        DenseMap hidden = steered.Plus(Project(x, "W_x", width)).Select(Functions.ReLU);
        return Project(hidden, "psi", 1).Select(Functions.Sigmoid);

        DenseMap Project(DenseMap map, string name, int outputs)
        {
            DenseMap projected = Convolve(map, state.Child(name).Child("0"), outputs, bias: true);
            return options.Norm ? Normalize(projected, state.Child(name).Child("1"), training) : projected;
        }
    }
}
