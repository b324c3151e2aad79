namespace TorchSharp.Attention;

/// <summary>
/// Settings of a <see cref="Backbone"/>: a network that classifies images and that can be the encoder of a <see cref="UNet"/>.
/// </summary>
public abstract record BackboneOptions
{
    private protected BackboneOptions()
    {
    }

    /// <summary>Channels of the image. Default 3.</summary>
    public int InputChannels { get; init; } = 3;

    /// <summary>Number of classes. Default 1000.</summary>
    public int Classes { get; init; } = 1000;

    /// <summary>The plan that says which attention goes where. Default: no attention.</summary>
    public AttentionPlan Attention { get; init; } = AttentionPlan.None;

    /// <summary>Checks these settings without building the network.</summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public virtual void Validate()
    {
        Check.Positive(InputChannels);
        Check.Positive(Classes);
        ArgumentNullException.ThrowIfNull(Attention);
    }

    /// <summary>
    /// Lists the sites of such a network, which are the places that can take an attention, in the order of the network.
    /// </summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public abstract IReadOnlyList<AttentionSite> Sites();

    /// <summary>Builds the network.</summary>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit.</exception>
    public abstract Backbone Create();

    /// <summary>
    /// Writes these options as JSON, with every property. Together with saved weights it is enough to rebuild the network.
    /// </summary>
    /// <param name="indented">True for one property a line.</param>
    /// <exception cref="InvalidOperationException">A rule of the plan has a predicate.</exception>
    public string ToJson(bool indented = false) => BackboneJson.Write(this, indented);

    /// <summary>Reads what <see cref="ToJson"/> wrote. Properties that are left out keep their defaults.</summary>
    /// <param name="json">A JSON object with the property <c>network</c>.</param>
    /// <exception cref="ArgumentException">The network or a property is unknown, or a value has the wrong type.</exception>
    /// <exception cref="System.Text.Json.JsonException">The text is not JSON.</exception>
    public static BackboneOptions FromJson(string json) => BackboneJson.Read(json);

    /// <summary>Why channels of such a network cannot be removed, as the end of a sentence; null where they can.</summary>
    internal virtual string? PruningObstacle => null;

    /// <summary>Builds the network without what follows its feature pyramid.</summary>
    /// <param name="fused">Whether convolutions have biases in place of batch norms.</param>
    internal abstract Backbone CreateEncoder(bool fused);

    /// <summary>What the pyramid's maps will be, without building anything.</summary>
    internal abstract (ValueList<int> Channels, ValueList<int> Reductions) Pyramid();
}
