namespace TorchSharp.Attention.Onnx;

/// <summary>What goes into an exported file and what comes out of it.</summary>
/// <param name="Inputs">The inputs, in the order of <c>forward</c>.</param>
/// <param name="Outputs">The outputs of the network, then one for each attention map.</param>
/// <param name="Maps">The attention maps among the outputs.</param>
internal sealed record ExportedValues(
    IReadOnlyList<OnnxValue> Inputs, IReadOnlyList<OnnxValue> Outputs, IReadOnlyList<ExportedMap> Maps);
