using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="ModelCost.Measure(nn.Module{Tensor, Tensor}, CostOptions, long[])"/>.</summary>
public sealed record CostOptions
{
    /// <summary>How many timed forward passes make the latencies. Default 0: nothing is timed.</summary>
    public int Repetitions { get; init; }

    /// <summary>Passes before them that are not timed. Default 3.</summary>
    public int WarmUps { get; init; } = 3;

    /// <summary>
    /// Whether attentions are timed as they run, by fused kernels where these fit; modules inside an attention
    /// then have no time of their own. False times libtorch's operations, and the modules inside attentions, too.
    /// Counts do not depend on it. Default true.
    /// </summary>
    public bool FusedKernels { get; init; } = true;

    internal void Validate()
    {
        Check.NotNegative(Repetitions);
        Check.NotNegative(WarmUps);
    }
}
