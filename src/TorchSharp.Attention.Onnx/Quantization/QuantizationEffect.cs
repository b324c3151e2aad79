namespace TorchSharp.Attention.Onnx;

/// <summary>What a quantized model does to the outputs of the float one.</summary>
/// <param name="RelativeError">‖y − ŷ‖ / ‖y‖ over all outputs of all batches.</param>
/// <param name="Agreement">
/// Share of rows whose largest entry is the same, in the first float output with an axis of classes; NaN where there is none.
/// </param>
/// <param name="Accuracy">Share of rows whose largest output is the label; null without labels.</param>
public sealed record QuantizationEffect(double RelativeError, double Agreement, double? Accuracy)
{
    /// <summary>
    /// The largest of the relative errors of all outputs together, of each output, and of each group of channels of an output.
    /// Channels are the entries of axis 1, and those of the last axis; a group holds channels whose root mean square is within a
    /// factor of 64 of the group's largest. So probabilities beside boxes in pixels count as much as the boxes. Channels below a
    /// millionth of the output's largest are left out, because float32 does not tell them from rounding.
    /// </summary>
    public double WorstError { get; init; } = RelativeError;

    /// <summary>
    /// Where <see cref="WorstError"/> is: an output, or channels of one. Empty where it is the error of all outputs together.
    /// </summary>
    public string WorstPart { get; init; } = "";

    /// <summary>Signal to quantization noise in decibels, −20 lg of the relative error; infinite where nothing changed.</summary>
    public double Sqnr => -20 * Math.Log10(RelativeError);
}
