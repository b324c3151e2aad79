using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Skips the attention of whole samples in training.</summary>
internal static class StochasticAttentionDrop
{
    public static Tensor Apply(Tensor input, Tensor attended, double probability, bool training)
    {
        if (!training || probability == 0) return attended;
        if (probability == 1) return input;
        using Tensor uniform = rand(input.size(0), 1, 1, 1, dtype: ScalarType.Float32, device: input.device);
        using Scalar threshold = probability.ToScalar();
        using Tensor skip = uniform.lt(threshold);
        return where(skip, input, attended);
    }
}
