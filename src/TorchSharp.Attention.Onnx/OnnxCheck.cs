namespace TorchSharp.Attention.Onnx;

/// <summary>The comparison of one output of the file with the network's, for the same random input.</summary>
/// <param name="InputShapes">Shape of each input.</param>
/// <param name="Output">Name of the output.</param>
/// <param name="AbsoluteError">Greatest difference of an element.</param>
/// <param name="RelativeError">The same over the greatest magnitude of the network's output.</param>
public sealed record OnnxCheck(ValueList<ValueList<long>> InputShapes, string Output, double AbsoluteError, double RelativeError)
{
    /// <summary>What the input was, where it was none of normally distributed numbers: "constant".</summary>
    internal string Kind { get; init; } = "";

    /// <summary>Both shapes, where they differ.</summary>
    internal string Shapes { get; init; } = "";
}
