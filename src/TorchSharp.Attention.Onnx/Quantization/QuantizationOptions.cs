namespace TorchSharp.Attention.Onnx;

/// <summary>Settings of <see cref="OnnxQuantizer"/>.</summary>
public sealed record QuantizationOptions
{
    /// <summary>
    /// How ranges are chosen from the numbers that calibration observed. Default: <see cref="CalibrationMethod.MinMax"/>.
    /// </summary>
    public CalibrationMethod Method { get; init; } = CalibrationMethod.MinMax;

    /// <summary>
    /// Percentage of the observed numbers of a value that <see cref="CalibrationMethod.Percentile"/> keeps inside the range,
    /// above 50 and at most 100. Default: 99.99.
    /// </summary>
    public double Percentile { get; init; } = 99.99;

    /// <summary>One scale for each output channel of a weight instead of one for all. Default: true.</summary>
    public bool PerChannel { get; init; } = true;

    /// <summary>
    /// Whether weights are int8 of reduced range instead of uint8 of full range. Both give right results on every processor. On
    /// x86 processors without VNNI, ONNX Runtime adds two products of a byte and a signed byte in 16 bits, which saturate. Int8
    /// weights of one output and one sign may therefore add up to 128 at most, which leaves 63 to 127 levels on each side. The
    /// reduced range is 2 to 9 dB less exact, but faster, because VNNI has no instruction for products of two unsigned bytes.
    /// Default: false.
    /// </summary>
    public bool ReduceRange { get; init; }

    /// <summary>How sigmoids are quantized. Default: <see cref="SigmoidQuantization.FixedRange"/>.</summary>
    public SigmoidQuantization Sigmoid { get; init; } = SigmoidQuantization.FixedRange;

    /// <summary>
    /// Nodes that stay in float, by name. <c>*</c> matches any characters, and <c>?</c> matches one. In exported files the name
    /// of a node is the path of its module, a slash and the operator (<c>layer1.0.attn.fc1/Conv</c>). So <c>layer4.*</c> is a
    /// stage, and <c>*.attn*</c> is every attention of a ResNet. A pattern without a match is an error.
    /// </summary>
    public IReadOnlyList<string> ExcludeNames { get; init; } = [];

    /// <summary>
    /// Nodes that stay in float, by operator: <c>Gemm</c>, <c>Mul</c>. An operator that the file lacks is no error.
    /// </summary>
    public IReadOnlyList<string> ExcludeOperators { get; init; } = [];

    /// <summary>
    /// Whether whole attentions stay in float. They are found by the metadata that this library writes into files; a file without
    /// it is an error. Default: false.
    /// </summary>
    public bool ExcludeAttentions { get; init; }

    /// <summary>
    /// Attentions that stay in float, by their kind in the metadata of the file: <c>cbam</c>, <c>se</c>. A kind that the file
    /// does not have is an error. Default: none.
    /// </summary>
    public IReadOnlyList<string> ExcludeAttentionKinds { get; init; } = [];

    /// <summary>
    /// Number of threads that ONNX Runtime uses for calibration and measurement. 0: ONNX Runtime chooses it. Default: 0.
    /// </summary>
    public int Threads { get; init; }

    /// <exception cref="ArgumentException">A setting has no meaning.</exception>
    internal void Validate()
    {
        Check.Defined(Method);
        Check.Defined(Sigmoid);
        Check.NotNegative(Threads);
        if (!(Percentile is > 50 and <= 100))
        {
            throw new ArgumentOutOfRangeException(
                nameof(Percentile), Percentile,
                $"{nameof(Percentile)} is {Percentile}; it must be above 50 and at most 100, such as 99.99.");
        }

        ArgumentNullException.ThrowIfNull(ExcludeNames);
        ArgumentNullException.ThrowIfNull(ExcludeOperators);
        ArgumentNullException.ThrowIfNull(ExcludeAttentionKinds);
    }
}
