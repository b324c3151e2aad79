namespace TorchSharp.Attention.Kernels;

/// <summary>What one convolution of pooled positions hands to its backward pass.</summary>
internal sealed class ConvolutionPass(SpatialMapOrder order, bool pooled, bool weight) : IBackwardPass
{
    public SpatialMapOrder Order { get; } = order;

    public bool PooledNeedsGradient { get; } = pooled;

    public bool WeightNeedsGradient { get; } = weight;

    public PositionConvolution.Arguments Arguments { get; init; }

    public void Forget()
    {
    }
}
