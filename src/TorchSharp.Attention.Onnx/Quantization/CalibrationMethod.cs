namespace TorchSharp.Attention.Onnx;

/// <summary>How the range of an eight-bit value is chosen from the numbers that calibration observed.</summary>
public enum CalibrationMethod
{
    /// <summary>
    /// The range goes from the smallest to the largest observed number. Nothing is cut off, but one outlier makes all steps
    /// coarse.
    /// </summary>
    MinMax,

    /// <summary>
    /// The range leaves out the same small share of observed numbers at each end (<see cref="QuantizationOptions.Percentile"/>).
    /// </summary>
    Percentile,

    /// <summary>
    /// The range whose 256 steps lose the least information. It minimizes the Kullback–Leibler divergence Σ p log(p / q), where p
    /// is the observed distribution, with the numbers outside the range counted at its ends, and q is its quantized form.
    /// </summary>
    Entropy,
}

/// <summary>How a sigmoid, the last step of most gates, is quantized.</summary>
public enum SigmoidQuantization
{
    /// <summary>
    /// The output of the sigmoid gets the range [0, 1], so that 0 and 1 are exact: a closed gate closes, and an open one does not
    /// change the map. The input gets the range [−8, 8], because outside it the output changes by less than one step; gates can
    /// then open further than they did during calibration. The cost is a step of 16 / 255 at the input, which is coarser than a
    /// calibrated step where gates hardly move. An input that another node also reads (as in x · σ(x)), or that is an output,
    /// keeps its calibrated range. Values computed only from gates and constants, such as the factor 1 + α (σ − 1) of an identity
    /// start, get the range that follows from these.
    /// </summary>
    FixedRange,

    /// <summary>Input and output of the sigmoid get calibrated ranges, like any other value.</summary>
    Calibrated,

    /// <summary>
    /// The sigmoid stays in float. So do the values that are computed only from gates, and the multiplication by them.
    /// </summary>
    None,
}
