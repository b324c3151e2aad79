namespace TorchSharp.Attention;

/// <summary>
/// What a <see cref="KeyRule"/> does to the shape of the tensors whose names it rewrites. Nothing else ever changes a shape.
/// </summary>
public enum KeyReshape
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>
    /// The weight of a linear layer, [a, b], becomes that of a 1×1 convolution, [a, b, 1, 1]. Other ranks, such as a bias, stay.
    /// </summary>
    LinearToConvolution,

    /// <summary>
    /// The weight of a 1×1 convolution, [a, b, 1, 1], becomes that of a linear layer, [a, b]. Other shapes stay.
    /// </summary>
    ConvolutionToLinear,
}
