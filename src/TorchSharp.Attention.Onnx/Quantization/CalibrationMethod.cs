namespace TorchSharp.Attention.Onnx;

/// <summary>How the range of a value that is written with eight bits follows from what calibration saw of it.</summary>
public enum CalibrationMethod
{
    /// <summary>From the smallest to the largest value seen. Nothing is cut off; one outlier makes all steps coarse.</summary>
    MinMax,

    /// <summary>Cuts off the same small share of values at either end (<see cref="QuantizationOptions.Percentile"/>).</summary>
    Percentile,

    /// <summary>
    /// The cut whose 256 steps lose the least information: minimal Kullback–Leibler divergence Σ p log(p / q) of the seen
    /// distribution p, with what is cut off piled at the ends, from its quantized form q.
    /// </summary>
    Entropy,
}

/// <summary>How a sigmoid, the last step of most gates, is quantized.</summary>
public enum SigmoidQuantization
{
    /// <summary>
    /// Its output has the range [0, 1] whatever calibration saw, so that 0 and 1 are exact: a closed gate closes, an open one
    /// leaves the map as it is. Its input has the range [−8, 8], beyond which the output does not move by a step, so that
    /// gates open in use further than they did while calibrating. The cost: steps of 16 / 255 at the input, coarser than
    /// calibrated ones where gates hardly move. An input that something else reads too (as in x · σ(x)), or that is an
    /// output, keeps its calibrated range. Values computed of gates and constants alone, such as the factor 1 + α (σ − 1) of
    /// an identity start, have the range that follows.
    /// </summary>
    FixedRange,

    /// <summary>Output and input have the ranges that calibration saw, as any other value.</summary>
    Calibrated,

    /// <summary>The sigmoid, what is computed of gates with it, and the multiplication by that stay in float.</summary>
    None,
}
