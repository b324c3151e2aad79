namespace TorchSharp.Attention.Onnx;

/// <summary>The dynamic axes of an input. The user of the file chooses their length at each run.</summary>
[Flags]
public enum OnnxDynamicAxes
{
    /// <summary>No dynamic axis: the file accepts only inputs of the example's shape.</summary>
    None = 0,

    /// <summary>
    /// The first axis, the batch. Inputs whose first axes have equal length in the examples share this dynamic axis.
    /// </summary>
    Batch = 1,

    /// <summary>Axis 2 of a map (N, C, H, W).</summary>
    Height = 2,

    /// <summary>Axis 3 of a map (N, C, H, W); axis 2 of (N, C, L).</summary>
    Width = 4,

    /// <summary>Axis 1 of sequences (N, L, C). It has an effect only on inputs with three axes.</summary>
    Length = 8,

    /// <summary>Height and width.</summary>
    Size = Height | Width,
}

/// <summary>Settings of an export to ONNX, as an immutable record.</summary>
public sealed record OnnxExportOptions
{
    /// <summary>Which axes of the inputs are dynamic. Default: the batch.</summary>
    public OnnxDynamicAxes DynamicAxes { get; init; } = OnnxDynamicAxes.Batch;

    /// <summary>
    /// Whether the export fails if a requested dynamic axis cannot stay dynamic, or if no input has such an axis. Default false:
    /// the axis is fixed to the example's size, and the report says which axis and why.
    /// </summary>
    public bool RequireDynamicAxes { get; init; }

    /// <summary>
    /// Names of the inputs. Each name must differ from those of all other inputs and outputs. Default null: <c>input</c>, or
    /// <c>input1</c>, <c>input2</c>, ….
    /// </summary>
    public ValueList<string>? InputNames { get; init; }

    /// <summary>
    /// Names of the outputs. Each name must differ from those of all other inputs and outputs. Default null: <c>output</c>, or
    /// <c>output1</c>, <c>output2</c>, ….
    /// </summary>
    public ValueList<string>? OutputNames { get; init; }

    /// <summary>
    /// Whether attention maps become outputs of the file, one for each map that an <see cref="AttentionRecorder"/> would record.
    /// They are named after the module and the kind of map: <c>layer3.0.attn/Channel</c>. Default false.
    /// </summary>
    public bool AttentionMaps { get; init; }

    /// <summary>
    /// Whether values of other floating-point types are rounded to float32. Default false: the export fails if there are any. The
    /// file always computes in float32. If the network computes in 16 bits, outputs may differ by up to eight rounding steps of
    /// its type, and the report says so.
    /// </summary>
    public bool ConvertToFloat32 { get; init; }

    /// <summary>Names of the classes, for the file's metadata. Default null.</summary>
    public ValueList<string>? ClassNames { get; init; }

    /// <summary>How pixels become the input, for the file's metadata. Default null.</summary>
    public OnnxNormalization? Normalization { get; init; }

    /// <summary>
    /// Additional metadata by key. The keys <c>class_names</c>, <c>normalization.…</c> and <c>torchsharp_attention.…</c> are
    /// reserved, because the export writes them itself.
    /// </summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; init; }

    /// <summary>
    /// If the weights have more bytes than this, they are written to a separate file beside the model. Default 1,900,000,000,
    /// because a model file can hold at most 2 GB.
    /// </summary>
    public long ExternalDataThreshold { get; init; } = 1_900_000_000;

    /// <summary>
    /// Whether the file is run and compared with the network before it is moved to its final path. Default true.
    /// </summary>
    public bool Verify { get; init; } = true;

    /// <summary>
    /// Largest relative error that verification accepts: the greatest difference of an output, divided by the greatest magnitude
    /// of that output. Default 1e-4.
    /// </summary>
    public double Tolerance { get; init; } = 1e-4;

    /// <summary>The emitters: which modules can be exported, and how. Default <see cref="OnnxEmitters.Default"/>.</summary>
    public OnnxEmitters Emitters { get; init; } = OnnxEmitters.Default;

    internal const string OwnPrefix = "torchsharp_attention.", ClassesKey = "class_names", NormalizationPrefix = "normalization.";

    internal void Validate()
    {
        if (!(Tolerance > 0))
        {
            throw new ArgumentOutOfRangeException(
                nameof(Tolerance), Tolerance, $"Tolerance is {Tolerance}; it must be above 0, such as 1e-4.");
        }

        if (ExternalDataThreshold is < 0 or > 1_900_000_000)
        {
            throw new ArgumentOutOfRangeException(
                nameof(ExternalDataThreshold), ExternalDataThreshold,
                $"ExternalDataThreshold is {ExternalDataThreshold}; it must lie between 0 and 1900000000, because a model file " +
                "holds at most 2 GB.");
        }

        const OnnxDynamicAxes All = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size | OnnxDynamicAxes.Length;
        if ((DynamicAxes & ~All) != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(DynamicAxes), DynamicAxes, $"DynamicAxes is {DynamicAxes}; it must be made of {All}.");
        }

        foreach ((string key, string value) in Metadata ?? new Dictionary<string, string>())
        {
            if (key.Length == 0 || key == ClassesKey || key.StartsWith(OwnPrefix, StringComparison.Ordinal)
                || key.StartsWith(NormalizationPrefix, StringComparison.Ordinal))
            {
                throw new ArgumentException(
                    $"Metadata has the key '{key}', which is empty or one that the export writes itself. Choose another.",
                    nameof(Metadata));
            }

            if (value is null)
            {
                throw new ArgumentException(
                    $"Metadata has null under '{key}'; give a text, or leave the key out.", nameof(Metadata));
            }
        }

        ArgumentNullException.ThrowIfNull(Emitters);
    }
}
