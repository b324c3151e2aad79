namespace TorchSharp.Attention;

/// <summary>How a <see cref="KeyRule"/> changes the shape of the tensors that it renames. Nothing else changes a shape.</summary>
public enum KeyReshape
{
    /// <summary>The shape is not changed.</summary>
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
