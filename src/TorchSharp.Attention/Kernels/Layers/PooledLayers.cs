using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>The layers of channels that the kernels have pooled: products of few rows, and the bottleneck of training.</summary>
internal sealed class PooledLayers : IPooledLayers
{
    private static readonly PooledLayers _instance = new();

    private PooledLayers()
    {
    }

    /// <summary>The summary of the kernels' results, (1 or 2, N, C, 1, 1) in float32.</summary>
    public static ChannelSummary Summarize(Tensor stacked, in MapView view)
        => new(view.Positions, view.IsBFloat16 ? stacked.to_type(ScalarType.BFloat16) : stacked, _instance);

    /// <inheritdoc/>
    public Tensor Convolve(Modules.Conv2d convolution, Tensor pooled)
    {
        Tensor weight = convolution.weight!;
        long rows = pooled.size(0), outputs = weight.size(0);
        if (FewRowsProduct.TryRun(pooled, rows, weight, convolution.bias) is { } product) return product;
        return nn.functional.linear(pooled.view(rows, -1), weight.view(outputs, -1), convolution.bias).view(rows, outputs, 1, 1);
    }

    /// <inheritdoc/>
    public Tensor? Bottleneck(
        Tensor stacked, Modules.Conv2d first, GateActivation activation, Modules.Conv2d second, GateFunction gate)
        => BottleneckGate.TryRun(stacked, first, activation, second, gate);
}
