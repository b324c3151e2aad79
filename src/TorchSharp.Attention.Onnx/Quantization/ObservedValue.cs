namespace TorchSharp.Attention.Onnx;

/// <summary>What calibration knows of a value: its distribution and the shape that it last had.</summary>
internal sealed record ObservedValue(ActivationHistogram Histogram)
{
    public long[] Shape { get; set; } = [];

    /// <summary>
    /// Smallest and largest number of each channel (axis 1); null for what is no output of the model, or has no positions.
    /// </summary>
    public (float Low, float High)[]? Channels { get; set; }
}
