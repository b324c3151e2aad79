namespace TorchSharp.Attention.Onnx;

/// <summary>How the error of one part depends on the treatment of its sigmoids.</summary>
/// <param name="FixedRange">Output in [0, 1], input in [−8, 8].</param>
/// <param name="Calibrated">Output and input in the ranges that calibration saw.</param>
/// <param name="Unquantized">Sigmoid and multiplication in float.</param>
public sealed record SigmoidEffects(QuantizationEffect FixedRange, QuantizationEffect Calibrated, QuantizationEffect Unquantized);
