namespace TorchSharp.Attention.Onnx;

/// <summary>The errors that one attention, layer or group of nodes causes when it is quantized.</summary>
/// <param name="Name">Path of the module, or name of the group.</param>
/// <param name="Kind">"attention", "layer", "concat" (a concatenation, which gives its parts one scale) or "group".</param>
/// <param name="Only">With it alone quantized.</param>
/// <param name="AllBut">With everything else quantized and it in float.</param>
/// <param name="Sigmoids">With it alone quantized, for each treatment of its sigmoids; null where it has none.</param>
public sealed record SensitivityRow(
    string Name, string Kind, QuantizationEffect Only, QuantizationEffect AllBut, SigmoidEffects? Sigmoids);
