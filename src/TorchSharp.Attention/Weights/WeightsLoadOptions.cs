namespace TorchSharp.Attention;

/// <summary>
/// Settings of <see cref="WeightsExtensions.LoadWeights"/>, as an immutable record. By default every tensor of the model and of
/// the file must match exactly.
/// </summary>
public sealed record WeightsLoadOptions
{
    /// <summary>
    /// Whether any mismatch is an error, which is thrown before anything is copied. If false, what matches is loaded, and the
    /// report lists the rest. Default true.
    /// </summary>
    public bool Strict { get; init; } = true;

    /// <summary>
    /// Whether the classifier of the model keeps its values, for example if it has other classes than the file. Default false.
    /// </summary>
    public bool DropClassifier { get; init; }

    /// <summary>
    /// Starts of the names in the model that belong to the classifier. Default <c>fc.</c>, <c>classifier.</c>, <c>head.</c>
    /// </summary>
    public ValueList<string> Classifier { get; init; } = ["fc.", "classifier.", "head."];

    /// <summary>
    /// Whether tensors of the file that do not exist in the model are skipped, such as the classifier if the model is only an
    /// encoder. Each tensor of the model must still be in the file. Default false.
    /// </summary>
    public bool AllowUnexpected { get; init; }

    /// <summary>
    /// Whether attention modules keep their initial values if the file has no tensor of them. Use it to load weights of the plain
    /// network. With <see cref="AttentionInitialization.Identity"/> the outputs are then bit-identical to the plain network's. If
    /// the file has some tensors of an attention module, its other tensors must be there too. Default false.
    /// </summary>
    public bool AllowMissingAttention { get; init; }

    /// <summary>
    /// Whether the weight of the first convolution is adapted to another number of input channels. For one channel, the file's
    /// channels are summed. Otherwise they are repeated in turn and scaled by (file's channels) / (model's channels), as timm
    /// does, so that equal channels give equal outputs. Default false.
    /// </summary>
    public bool AdaptInputChannels { get; init; }

    /// <summary>
    /// Whether values may be rounded to the type of the model, such as float32 values in a float16 model. Values that are too
    /// large for the type also need <see cref="AllowOverflow"/>. <see cref="WeightsReport.Conversions"/> counts them. Default
    /// false: a value that the type cannot represent exactly is an error.
    /// </summary>
    public bool AllowRounding { get; init; }

    /// <summary>
    /// Whether finite values that are too large for the type of the model may become infinite, such as 70000 in float16.
    /// <see cref="WeightsReport.Conversions"/> counts them. Default false.
    /// </summary>
    public bool AllowOverflow { get; init; }

    /// <summary>
    /// Whether tensors of types that TorchSharp lacks are loaded as a wider type that can represent all their values; see
    /// <see cref="SafetensorsFile"/>. Values of eight bits and fewer usually must be multiplied by scales, which are separate
    /// tensors of the file; the caller has to do that. Default false: such a tensor does not fit.
    /// </summary>
    public bool WidenTypes { get; init; }

    /// <summary>
    /// Path of the part of the model to load, such as <c>encoder</c> of a <see cref="UNet"/>. All other parts keep their values.
    /// Default null: the whole model.
    /// </summary>
    public string? Submodule { get; init; }

    /// <summary>
    /// Which dictionary of a PyTorch archive is read, as in <see cref="WeightsFile.Open"/>. Default null: it is found
    /// automatically.
    /// </summary>
    public string? Section { get; init; }

    /// <summary>
    /// Whether the file is mapped into memory. <see cref="WeightsFile.Open"/> explains the risk. Default false.
    /// </summary>
    public bool MemoryMap { get; init; }
}
