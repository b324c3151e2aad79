using System.Text.Json;

namespace TorchSharp.Attention;

/// <summary>
/// The settings of one kind of attention, as an immutable value: comparable, printable, and the same for every stage of a network,
/// because it carries neither tensors nor a channel count.
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
    /// Probability, in [0, 1), of zeroing an element of what the attention produced, in training only: of the refined map of a gate,
    /// of the context (before it is added to the input) of a context module. Survivors are scaled by 1 / (1 − p). Default 0.
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
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with <paramref name="channels"/>.</exception>
    public virtual void Validate(int channels)
    {
        Check.Positive(channels);
        Check.Defined(Initialization);
        Check.Probability(Dropout, oneAllowed: false);
        Check.Probability(AttentionDropPath, oneAllowed: true);
    }

    /// <summary>Builds the module for maps of <paramref name="channels"/> channels.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with <paramref name="channels"/>.</exception>
    public abstract AttentionModule Create(int channels);

    /// <summary>
    /// The same settings with every inner width and kernel that follows from the channels written out as a number, so that a module of fewer
    /// channels keeps them. An override that has such settings names them; by default there are none.
    /// </summary>
    /// <param name="channels">Number of channels that they follow from.</param>
    public virtual AttentionOptions WithWidthsOf(int channels) => this;

    /// <summary>These settings as JSON, kind first, every property written: <c>{"kind":"se","reduction":16,…}</c>.</summary>
    /// <param name="indented">True for one property a line.</param>
    public string ToJson(bool indented = false) => AttentionJson.Write(this, indented);

    /// <summary>Reads what <see cref="ToJson"/> wrote. Properties that are left out keep their defaults.</summary>
    /// <param name="json">A JSON object with the property <c>kind</c>.</param>
    /// <exception cref="ArgumentException">The kind or a property is unknown (the message lists the known ones) or has the wrong type.</exception>
    /// <exception cref="JsonException">The text is not JSON.</exception>
    public static AttentionOptions FromJson(string json) => AttentionJson.ReadOptions(json);
}

/// <summary>
/// Settings of an attention that is steered by a second input, such as the decoder's map in a U-Net.
/// It can stand only where a network offers such a guide (<see cref="AttentionSite.GuideChannels"/>).
/// </summary>
public abstract record GuidedAttentionOptions : AttentionOptions
{
    /// <summary>Checks these settings against both numbers of channels without building anything.</summary>
    /// <param name="channels">Channels of the map to refine.</param>
    /// <param name="guideChannels">Channels of the map that steers.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    public virtual void Validate(int channels, int guideChannels)
    {
        Validate(channels);
        Check.Positive(guideChannels);
    }

    /// <summary>Builds the module for maps of <paramref name="channels"/> channels steered by maps of <paramref name="guideChannels"/>.</summary>
    /// <param name="channels">Channels of the map to refine.</param>
    /// <param name="guideChannels">Channels of the map that steers.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    public abstract GuidedAttentionModule Create(int channels, int guideChannels);

    /// <summary>Always throws: this attention has two inputs.</summary>
    /// <param name="channels">Channels of the map to refine.</param>
    /// <exception cref="ArgumentException">Always, naming the overload and the places that fit.</exception>
    public sealed override AttentionModule Create(int channels) => throw new ArgumentException(
        $"'{Kind()}' is steered by a second map, so channels = {channels} alone do not build it. " +
        $"Call Create(channels, guideChannels), or place it where a network offers a guide ({nameof(AttentionPosition.Skip)} of {nameof(UNet)}).",
        nameof(channels));
}

/// <summary>How the weights of an attention module start.</summary>
public enum AttentionInitialization
{
    /// <summary>What PyTorch's layers do by themselves (and so timm): uniform in ±1/√fan-in for weights and biases.</summary>
    Default,

    /// <summary>What the module's paper or its released code does; the module's documentation says what that is.</summary>
    Paper,

    /// <summary>Kaiming normal, fan-out, ReLU gain (He et al., 2015, arXiv:1502.01852); biases zero.</summary>
    Kaiming,

    /// <summary>Xavier uniform (Glorot and Bengio, 2010); biases zero.</summary>
    Xavier,

    /// <summary>
    /// Identity start: a learnable scalar <c>alpha</c>, 0 at step 0, blends the attention in, so that at first the module returns its
    /// input to the last bit: the gate becomes 1 + alpha · (gate − 1). A trained network keeps its outputs when such a module is
    /// inserted. Other weights start as with <see cref="Default"/>. (The zero-scale idea of ReZero, Bachlechner et al., 2020,
    /// arXiv:2003.04887.)
    /// </summary>
    Identity,
}
