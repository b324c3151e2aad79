using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Stochastic depth: in training, zeroes a residual branch for whole samples with probability p and scales the
/// others by 1 / (1 − p). Huang et al.: "Deep Networks with Stochastic Depth", 2016, arXiv:1603.09382. The rate
/// grows linearly with depth, as in timm.
/// </summary>
internal static class DropPath
{
    public static Tensor Apply(Tensor branch, double probability, bool training)
    {
        if (!training || probability == 0) return branch;
        using DisposeScope scope = NewDisposeScope();
        double keep = 1 - probability;
        using Scalar threshold = keep.ToScalar();
        using Scalar scale = (1 / keep).ToScalar();
        Tensor kept = rand(branch.size(0), 1, 1, 1, dtype: ScalarType.Float32, device: branch.device).lt(threshold);
        return branch.mul(kept.to_type(branch.dtype).mul(scale)).MoveToOuterDisposeScope();
    }

    /// <summary>The rate of one block of several: 0 at the first, the full rate at the last.</summary>
    public static double At(double rate, int block, int blocks) => blocks <= 1 ? 0 : rate * block / (blocks - 1);
}
