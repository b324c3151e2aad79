using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Layers of channels that the kernels have pooled.</summary>
internal interface IPooledLayers
{
    /// <summary>A 1×1 convolution of pooled channels, (N, C, 1, 1), as a matrix product.</summary>
    Tensor Convolve(Modules.Conv2d convolution, Tensor pooled);

    /// <summary>
    /// The gate σ(W₂ δ(W₁ z + b₁) + b₂) in training, of the mean or of the sum over mean and maximum, as one function; null
    /// where the layers must run one by one.
    /// </summary>
    Tensor? Bottleneck(Tensor stacked, Modules.Conv2d first, GateActivation activation, Modules.Conv2d second, GateFunction gate);
}
