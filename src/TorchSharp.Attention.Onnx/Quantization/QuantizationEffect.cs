namespace TorchSharp.Attention.Onnx;

/// <summary>What a quantized model does to the outputs of the float one.</summary>
/// <param name="RelativeError">‖y − ŷ‖ / ‖y‖ over all outputs of all batches.</param>
/// <param name="Agreement">Share of rows whose largest entry is the same, in the first float output with an axis of classes; NaN where there is none.</param>
/// <param name="Accuracy">Share of rows whose largest output is the label; null without labels.</param>
public sealed record QuantizationEffect(double RelativeError, double Agreement, double? Accuracy)
{
    /// <summary>Signal to quantization noise in decibels, −20 lg of the relative error; infinite where nothing changed.</summary>
    public double Sqnr => -20 * Math.Log10(RelativeError);
}
