using System.Text.Json;

namespace TorchSharp.Attention;

/// <summary>
/// The settings of one kind of attention, as an immutable value: comparable, printable, and the same for every stage of a
/// network, because it carries neither tensors nor a channel count.
/// </summary>
/// <remarks>
/// Every concrete record names its kind with <see cref="AttentionKindAttribute"/>. The kind is what JSON and command lines say;
/// <see cref="AttentionCatalog"/> lists them.
/// </remarks>
public abstract record AttentionOptions
{
    /// <summary>How the module's weights start. Default <see cref="AttentionInitialization.Default"/>.</summary>
    public AttentionInitialization Initialization { get; init; }

    /// <summary>
    /// Dropout probability, in [0, 1), in training: each element of the result is zeroed with this probability. For a gate the
    /// result is the refined map; for a context module it is the context before it is added to the input. The other elements are
    /// scaled by 1 / (1 − p). Default 0.
    /// </summary>
    public double Dropout { get; init; }

    /// <summary>
    /// Stochastic attention drop: probability, in [0, 1], that a sample skips the attention altogether in training, so that its
    /// output is its input. Nothing is rescaled, because skipping is the identity and not zero. Default 0.
    /// </summary>
    public double AttentionDropPath { get; init; }

    /// <summary>The kind's name, as JSON and command lines spell it: <c>se</c>, <c>cbam</c>, ….</summary>
    public string Kind() => AttentionCatalog.KindOf(GetType());

    /// <summary>Checks these settings against a number of channels without building anything.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <exception cref="ArgumentException">
    /// A setting is out of range, or does not go with <paramref name="channels"/>.
    /// </exception>
    public virtual void Validate(int channels)
    {
        Check.Positive(channels);
        Check.Defined(Initialization);
        Check.Probability(Dropout, oneAllowed: false);
        Check.Probability(AttentionDropPath, oneAllowed: true);
    }

    /// <summary>Builds the module for maps of <paramref name="channels"/> channels.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <exception cref="ArgumentException">
    /// A setting is out of range, or does not go with <paramref name="channels"/>.
    /// </exception>
    public abstract AttentionModule Create(int channels);

    /// <summary>
    /// Returns these settings with every inner width and kernel that depends on the channels written as a number, so that a
    /// module with fewer channels keeps them. A type with such settings must override it; the base method returns the settings
    /// unchanged.
    /// </summary>
    /// <param name="channels">Number of channels that they follow from.</param>
    public virtual AttentionOptions WithWidthsOf(int channels) => this;

    /// <summary>
    /// Writes these settings as JSON. The kind comes first, and every property is written: <c>{"kind":"se","reduction":16,…}</c>.
    /// </summary>
    /// <param name="indented">True for one property a line.</param>
    public string ToJson(bool indented = false) => AttentionJson.Write(this, indented);

    /// <summary>Reads what <see cref="ToJson"/> wrote. Properties that are left out keep their defaults.</summary>
    /// <param name="json">A JSON object with the property <c>kind</c>.</param>
    /// <exception cref="ArgumentException">
    /// The kind or a property is unknown (the message lists the known ones) or has the wrong type.
    /// </exception>
    /// <exception cref="JsonException">The text is not JSON.</exception>
    public static AttentionOptions FromJson(string json) => AttentionJson.ReadOptions(json);
}
