using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="ModelCost.Measure(nn.Module{Tensor, Tensor}, CostOptions, long[])"/>.</summary>
public sealed record CostOptions
{
    /// <summary>How many forward passes are timed. Default 0: nothing is timed.</summary>
    public int Repetitions { get; init; }

    /// <summary>How many forward passes are run before the timed ones, as a warm-up. Default 3.</summary>
    public int WarmUps { get; init; } = 3;

    /// <summary>
    /// Whether attentions are timed with the fused kernels that they normally use. Modules inside an attention then have no time
    /// of their own. False times libtorch's operations, and also the modules inside attentions. The counts do not depend on it.
    /// Default true.
    /// </summary>
    public bool FusedKernels { get; init; } = true;

    internal void Validate()
    {
        Check.NotNegative(Repetitions);
        Check.NotNegative(WarmUps);
    }
}
