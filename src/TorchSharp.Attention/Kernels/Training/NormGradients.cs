namespace TorchSharp.Attention.Kernels;

/// <summary>The gradients of a deferred norm's weight and bias, from the step that computed them to the norm's own.</summary>
internal sealed record NormGradients(float[] Weight, float[] Bias);
