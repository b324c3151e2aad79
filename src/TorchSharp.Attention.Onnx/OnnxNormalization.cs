namespace TorchSharp.Attention.Onnx;

/// <summary>
/// How pixels become a network's input: (pixel / 255 − mean) / deviation, for each channel. The export writes it into the
/// metadata of the file, for the programs that prepare its inputs.
/// </summary>
/// <param name="Mean">Mean of each channel, in the unit interval.</param>
/// <param name="Std">Standard deviation of each channel.</param>
public sealed record OnnxNormalization(ValueList<double> Mean, ValueList<double> Std)
{
    /// <summary>Whether it is one of inputs of a shape.</summary>
    internal void Validate(long[] shape)
    {
        ArgumentNullException.ThrowIfNull(Mean);
        ArgumentNullException.ThrowIfNull(Std);
        if (Mean.Count != Std.Count || (shape.Length == 4 && Mean.Count != shape[1]))
        {
            throw new ArgumentException(
                $"Normalization has {Mean.Count} means and {Std.Count} deviations; give one of each per channel" +
                (shape.Length == 4 ? $", of which the first input has {shape[1]}." : "."),
                nameof(OnnxExportOptions.Normalization));
        }

        if (!Mean.All(double.IsFinite))
        {
            throw new ArgumentException(
                $"Mean of Normalization is {Mean}; the numbers must be finite.", nameof(OnnxExportOptions.Normalization));
        }

        if (!Std.All(deviation => deviation > 0 && double.IsFinite(deviation)))
        {
            throw new ArgumentException(
                $"Std of Normalization is {Std}; pixels are divided by it, so that the numbers must be finite and above 0.",
                nameof(OnnxExportOptions.Normalization));
        }
    }

    /// <summary>The normalization of networks trained on ImageNet.</summary>
    public static OnnxNormalization ImageNet { get; } = new([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
}
