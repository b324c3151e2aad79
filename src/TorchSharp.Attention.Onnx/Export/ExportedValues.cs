namespace TorchSharp.Attention.Onnx;

/// <summary>An attention map that is an output of the file.</summary>
/// <param name="Path">The path of the attention module in the network.</param>
/// <param name="Kind">Which map of the module it is.</param>
internal readonly record struct ExportedMap(string Path, AttentionMapKind Kind)
{
    /// <summary>Gets the name of the output.</summary>
    public string Output => OnnxContext.Below(Path, Kind.ToString());
}

/// <summary>What goes into an exported file and what comes out of it.</summary>
/// <param name="Inputs">The inputs, in the order of <c>forward</c>.</param>
/// <param name="Outputs">The outputs of the network, then one for each attention map.</param>
/// <param name="Maps">The attention maps among the outputs.</param>
internal sealed record ExportedValues(IReadOnlyList<OnnxValue> Inputs, IReadOnlyList<OnnxValue> Outputs, IReadOnlyList<ExportedMap> Maps);
