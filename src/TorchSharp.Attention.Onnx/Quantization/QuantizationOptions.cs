namespace TorchSharp.Attention.Onnx;

/// <summary>Settings of <see cref="OnnxQuantizer"/>.</summary>
public sealed record QuantizationOptions
{
    /// <summary>
    /// How ranges are chosen from the numbers that calibration observed. Default: <see cref="CalibrationMethod.MinMax"/>.
    /// </summary>
    public CalibrationMethod Method { get; init; } = CalibrationMethod.MinMax;

    /// <summary>
    /// Percent of a value's numbers that <see cref="CalibrationMethod.Percentile"/> keeps inside the range;
    /// above 50, at most 100. Default: 99.99.
    /// </summary>
    public double Percentile { get; init; } = 99.99;

    /// <summary>One scale for each output channel of a weight instead of one for all. Default: true.</summary>
    public bool PerChannel { get; init; } = true;

    /// <summary>
    /// Whether weights are int8 of reduced range instead of uint8 of full range. Both are right on every processor. On x86
    /// processors without VNNI, ONNX Runtime adds two products of a byte and a signed byte in 16 bits, which saturate: so int8
    /// weights of one output and one sign may add up to 128 at most, 63 to 127 levels on each side. The reduced form is 2 to 9 dB
    /// less exact, and faster: products of two bytes have no instruction of VNNI. Default: false.
    /// </summary>
    public bool ReduceRange { get; init; }

    /// <summary>How sigmoids are quantized. Default: <see cref="SigmoidQuantization.FixedRange"/>.</summary>
    public SigmoidQuantization Sigmoid { get; init; } = SigmoidQuantization.FixedRange;

    /// <summary>
    /// Nodes that stay in float, by name: <c>*</c> stands for any characters, <c>?</c> for one. Names of exported files are a
    /// module's path, a slash and the operator (<c>layer1.0.attn.fc1/Conv</c>), so <c>layer4.*</c> is a stage and <c>*.attn*</c>
    /// every attention of a ResNet. A pattern that matches nothing is an error.
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
    /// Attentions that stay in float, by kind as the metadata has it: <c>cbam</c>, <c>se</c>. A kind that no attention of the
    /// file has is an error. Default: none.
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
