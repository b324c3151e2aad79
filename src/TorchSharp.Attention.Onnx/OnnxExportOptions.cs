namespace TorchSharp.Attention.Onnx;

/// <summary>Axes of an input whose length the file's user chooses at each run.</summary>
[Flags]
public enum OnnxDynamicAxes
{
    /// <summary>None: the file takes inputs of the example's shape.</summary>
    None = 0,

    /// <summary>The first axis. Inputs whose examples are as long along it share it.</summary>
    Batch = 1,

    /// <summary>Axis 2 of a map (N, C, H, W).</summary>
    Height = 2,

    /// <summary>Axis 3 of a map (N, C, H, W); axis 2 of (N, C, L).</summary>
    Width = 4,

    /// <summary>Axis 1 of sequences (N, L, C), for networks of such; inputs of three axes only.</summary>
    Length = 8,

    /// <summary>Height and width.</summary>
    Size = Height | Width,
}

/// <summary>Settings of an export. A value.</summary>
public sealed record OnnxExportOptions
{
    /// <summary>Which axes of the inputs are left open. Default the batch.</summary>
    public OnnxDynamicAxes DynamicAxes { get; init; } = OnnxDynamicAxes.Batch;

    /// <summary>
    /// Whether a module that needs to know the size of a dynamic axis is an error, and an axis that no input has. Default false:
    /// the axis gets the example's size, and the report says which and why.
    /// </summary>
    public bool RequireDynamicAxes { get; init; }

    /// <summary>
    /// Names of the inputs, all different, from the outputs' too. Default null: <c>input</c>, or <c>input1</c>, <c>input2</c>, ….
    /// </summary>
    public ValueList<string>? InputNames { get; init; }

    /// <summary>
    /// Names of the outputs, all different, from the inputs' too. Default null: <c>output</c>, or <c>output1</c>, <c>output2</c>,
    /// ….
    /// </summary>
    public ValueList<string>? OutputNames { get; init; }

    /// <summary>
    /// Whether attention maps are outputs too, one for each that an <see cref="AttentionRecorder"/> would record, named
    /// <c>layer3.0.attn/Channel</c>, by module and kind. Default false.
    /// </summary>
    public bool AttentionMaps { get; init; }

    /// <summary>
    /// Whether values of another floating-point type are written rounded to float32. Default false: they are
    /// refused. The file then computes in float32; where the network computes in 16 bits, it is compared within
    /// eight steps of that type, and the report says so.
    /// </summary>
    public bool ConvertToFloat32 { get; init; }

    /// <summary>Names of the classes, for the file's metadata. Default null.</summary>
    public ValueList<string>? ClassNames { get; init; }

    /// <summary>How pixels become the input, for the file's metadata. Default null.</summary>
    public OnnxNormalization? Normalization { get; init; }

    /// <summary>
    /// More metadata, by key; not <c>class_names</c>, <c>normalization.…</c> and
    /// <c>torchsharp_attention.…</c>, which the export writes.
    /// </summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; init; }

    /// <summary>
    /// Bytes of weights above which they go into a file of their own beside the model. Default
    /// 1,900,000,000: a model file can hold 2 GB.
    /// </summary>
    public long ExternalDataThreshold { get; init; } = 1_900_000_000;

    /// <summary>Whether the file is run and compared with the network before it takes its place. Default true.</summary>
    public bool Verify { get; init; } = true;

    /// <summary>
    /// Largest error that passes: the greatest difference of an output, over its greatest magnitude. Default 1e-4.
    /// </summary>
    public double Tolerance { get; init; } = 1e-4;

    /// <summary>Which modules can be written, and how. Default <see cref="OnnxEmitters.Default"/>.</summary>
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
