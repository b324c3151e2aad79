using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>Weights and running statistics from libtorch's generator, of sizes that keep a map's values near one.</summary>
internal static class RandomWeights
{
    public static void Fill(nn.Module module)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        foreach ((string key, Tensor entry) in module.state_dict())
        {
            if (key.EndsWith("num_batches_tracked", StringComparison.Ordinal)) continue;
            Tensor normal = randn(entry.shape);
            (double scale, double centre) = Spread(key, entry);
            using Scalar factor = scale.ToScalar(), shift = centre.ToScalar();
            if (key.EndsWith("running_var", StringComparison.Ordinal)) normal = normal.abs();
            entry.copy_(normal.mul(factor).Plus(shift));
        }
    }

    private static (double Scale, double Centre) Spread(string key, Tensor entry)
    {
        if (key.EndsWith("running_var", StringComparison.Ordinal)) return (0.8, 0.5);
        if (key.EndsWith("alpha", StringComparison.Ordinal)) return (0, 0.3);
        if (entry.dim() > 1) return (1.2 / Math.Sqrt(Math.Max(1, entry.numel() / (double)Math.Max(1, entry.size(0)))), 0);
        return key.EndsWith(".weight", StringComparison.Ordinal) || key is "weight" or "gamma" ? (0.3, 1) : (0.3, 0);
    }
}

/// <summary>
/// Values that are off by a share of themselves: what no float32 computation can tell from the values. Two rounds belong together, 0 and 1, 2 and 3
/// and so on: the second moves every value the other way. A difference that is nearly zero changes its sign in one of the two.
/// </summary>
internal static class Shake
{
    private static readonly Scalar Frequency = 1e5.ToScalar();

    /// <summary>Seeds libtorch's generator for <see cref="Each"/>.</summary>
    public static void Seed(int round) => manual_seed(7919 * (1 + (round / 2)));

    /// <summary>Each value by a share of its own, in float64.</summary>
    public static Tensor Each(Tensor values, double share, int round)
    {
        Tensor exact = values.to_type(ScalarType.Float64);
        if (share == 0) return exact;
        using Scalar factor = Signed(share, round).ToScalar();
        return exact.mul(randn_like(exact).mul(factor).Plus(Scalars.One));
    }

    /// <summary>Equal values by an equal share, so that those that share a maximum still do.</summary>
    public static Tensor Alike(Tensor values, double share, int round)
    {
        Tensor exact = values.to_type(ScalarType.Float64);
        if (share == 0) return exact;
        using Scalar factor = Signed(share, round).ToScalar(), phase = ((double)(round / 2)).ToScalar();
        return exact.mul(exact.mul(Frequency).Plus(phase).sin().mul(factor).Plus(Scalars.One));
    }

    private static double Signed(double share, int round) => round % 2 == 0 ? share : -share;
}
