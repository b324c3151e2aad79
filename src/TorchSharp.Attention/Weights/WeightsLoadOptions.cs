namespace TorchSharp.Attention;

/// <summary>
/// How <see cref="WeightsExtensions.LoadWeights"/> loads. A value; the default takes everything and forgives nothing.
/// </summary>
public sealed record WeightsLoadOptions
{
    /// <summary>
    /// Whether whatever does not fit is an error, before anything is copied. If not, what fits is loaded and the
    /// report says what did not. Default true.
    /// </summary>
    public bool Strict { get; init; } = true;

    /// <summary>Whether the classifier keeps its values, for other classes than the file's. Default false.</summary>
    public bool DropClassifier { get; init; }

    /// <summary>
    /// Which names (the model's, by their start) are the classifier. Default <c>fc.</c>, <c>classifier.</c>, <c>head.</c>
    /// </summary>
    public ValueList<string> Classifier { get; init; } = ["fc.", "classifier.", "head."];

    /// <summary>
    /// Whether tensors of the file that the model has no place for are skipped, as an encoder has none for a classifier. Each
    /// tensor of the model must still be found. Default false.
    /// </summary>
    public bool AllowUnexpected { get; init; }

    /// <summary>
    /// Whether attention modules may keep the values that they were built with where the file has nothing of them: for weights of
    /// the plain network. With <see cref="AttentionInitialization.Identity"/> the outputs then are the plain network's to the
    /// last bit. An attention of which the file has a part is still missing the rest. Default false.
    /// </summary>
    public bool AllowMissingAttention { get; init; }

    /// <summary>
    /// Whether the first convolution's weight is adapted to another number of input channels: summed over the file's
    /// channels for one, else repeated in turn and scaled by file's / model's channels, so that equal channels give equal
    /// outputs, as timm does. Default false.
    /// </summary>
    public bool AdaptInputChannels { get; init; }

    /// <summary>
    /// Whether values may be rounded to the model's type, as float32 values into a float16 model are. Values beyond the model's
    /// type are a matter of <see cref="AllowOverflow"/>. <see cref="WeightsReport.Conversions"/> counts them. Default false: only
    /// values that the model's type has are loaded.
    /// </summary>
    public bool AllowRounding { get; init; }

    /// <summary>
    /// Whether finite values beyond the model's type may become infinite, as 70000 does in float16.
    /// <see cref="WeightsReport.Conversions"/> counts them. Default false.
    /// </summary>
    public bool AllowOverflow { get; init; }

    /// <summary>
    /// Whether tensors of types that TorchSharp lacks are loaded as a wider type that has all their values; see
    /// <see cref="SafetensorsFile"/>. Values of eight bits and fewer are usually to be multiplied by scales that lie beside them
    /// in the file: that is for the caller. Default false: such a tensor does not fit.
    /// </summary>
    public bool WidenTypes { get; init; }

    /// <summary>
    /// The part of the model that is loaded, such as <c>encoder</c> of a <see cref="UNet"/>; the rest keeps
    /// its values. Default null: all of it.
    /// </summary>
    public string? Submodule { get; init; }

    /// <summary>
    /// Which dictionary of a PyTorch archive, as in <see cref="WeightsFile.Open"/>. Default null: the one that is meant.
    /// </summary>
    public string? Section { get; init; }

    /// <summary>
    /// Whether the file is mapped into memory, as in <see cref="WeightsFile.Open"/>; its risk is told there. Default false.
    /// </summary>
    public bool MemoryMap { get; init; }
}
