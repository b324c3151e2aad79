namespace TorchSharp.Attention.Onnx;

/// <summary>How the outputs of a quantized model differ from those of the float model.</summary>
/// <param name="RelativeError">‖y − ŷ‖ / ‖y‖ over all outputs of all batches.</param>
/// <param name="Agreement">
/// Share of rows whose largest entry is the same, in the first float output with an axis of classes; NaN where there is none.
/// </param>
/// <param name="Accuracy">Share of rows whose largest output is the label; null without labels.</param>
public sealed record QuantizationEffect(double RelativeError, double Agreement, double? Accuracy)
{
    /// <summary>
    /// The largest of the relative errors of all outputs together, of each output, and of each group of channels of an output.
    /// Channels are the entries of axis 1, and also those of the last axis. A group holds channels whose root mean square is
    /// within a factor of 64 of the group's largest, so that small probabilities count as much as boxes in pixels. Channels below
    /// a millionth of the output's largest are ignored, because in float32 they cannot be distinguished from rounding errors.
    /// </summary>
    public double WorstError { get; init; } = RelativeError;

    /// <summary>
    /// The part with the error <see cref="WorstError"/>: an output, or some channels of an output. Empty if it is the error of
    /// all outputs together.
    /// </summary>
    public string WorstPart { get; init; } = "";

    /// <summary>
    /// Signal-to-quantization-noise ratio in decibels: −20 lg of the relative error. Infinite if no output changed.
    /// </summary>
    public double Sqnr => -20 * Math.Log10(RelativeError);
}
