using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>What a bottleneck hands to its backward pass.</summary>
internal sealed class BottleneckPass(bool pooled, bool weights, Tensor? firstBias, Tensor? secondBias) : IBackwardPass
{
    public Tensor? FirstBias { get; } = firstBias;

    public Tensor? SecondBias { get; } = secondBias;

    public bool PooledNeedsGradient { get; } = pooled;

    public bool WeightsNeedGradient { get; } = weights;

    public void Forget()
    {
    }
}
