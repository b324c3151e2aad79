namespace TorchSharp.Attention;

/// <summary>One stage of an <see cref="EfficientNet"/>: a row of the papers' tables.</summary>
/// <param name="Expansion">Hidden channels of a block per input channel. At 1 a block has no expansion.</param>
/// <param name="Kernel">Kernel size of the spatial convolution; odd.</param>
/// <param name="Stride">Stride of the first block, 1 or 2.</param>
/// <param name="Channels">Output channels, before the width multiplier.</param>
/// <param name="Blocks">Number of blocks, before the depth multiplier.</param>
public sealed record EfficientNetStage(int Expansion, int Kernel, int Stride, int Channels, int Blocks)
{
    /// <summary>
    /// Whether one convolution replaces both the expansion and the depthwise convolution (Fused-MBConv). Default false.
    /// </summary>
    public bool Fused { get; init; }
}
