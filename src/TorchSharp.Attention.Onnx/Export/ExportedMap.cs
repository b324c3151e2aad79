namespace TorchSharp.Attention.Onnx;

/// <summary>An attention map that is an output of the file.</summary>
/// <param name="Path">The path of the attention module in the network.</param>
/// <param name="Kind">Which map of the module it is.</param>
internal readonly record struct ExportedMap(string Path, AttentionMapKind Kind)
{
    /// <summary>Gets the name of the output.</summary>
    public string Output => OnnxContext.Below(Path, Kind.ToString());
}
