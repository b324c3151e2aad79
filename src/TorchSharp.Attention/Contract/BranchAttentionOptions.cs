namespace TorchSharp.Attention;

/// <summary>
/// Settings of an attention that weighs several convolutions. It replaces a convolution instead of refining its output, so it can
/// change the number of channels and have a stride. Its only possible position is
/// <see cref="AttentionPosition.ReplaceSpatialConv"/>.
/// </summary>
/// <remarks>
/// Nothing can be skipped and nothing is the identity where a convolution is replaced:
/// <see cref="AttentionOptions.AttentionDropPath"/> must be 0, and <see cref="AttentionInitialization.Identity"/> is refused.
/// <see cref="AttentionOptions.Dropout"/> acts on the output.
/// </remarks>
public abstract record BranchAttentionOptions : AttentionOptions
{
    /// <summary>
    /// Groups of the convolutions; they must divide the input and the output channels. Default null: the groups of the replaced
    /// convolution. That is 1 in a <see cref="ResNet"/>, and one group per channel (depthwise) in a <see cref="MobileNetV2"/>.
    /// </summary>
    public int? Groups { get; init; }

    /// <summary>Dilation of the convolutions. Default 1.</summary>
    public int Dilation { get; init; } = 1;

    /// <inheritdoc/>
    public sealed override void Validate(int channels) => Validate(channels, channels);

    /// <summary>Checks these settings against an ungrouped convolution to replace without building anything.</summary>
    /// <param name="channels">Channels of the input.</param>
    /// <param name="outputChannels">Channels of the output.</param>
    /// <param name="stride">Stride. Default 1.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    public void Validate(int channels, int outputChannels, int stride = 1)
        => Validate(new ConvolutionSpec(channels, outputChannels, stride));

    /// <summary>Checks these settings against the convolution to replace without building anything.</summary>
    /// <param name="convolution">The convolution.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the convolution.</exception>
    public virtual void Validate(ConvolutionSpec convolution)
    {
        ArgumentNullException.ThrowIfNull(convolution);
        convolution.Validate();
        base.Validate(convolution.Channels);
        if (Groups is int groups) Check.Positive(groups, nameof(Groups));
        Check.Positive(Dilation);
        if (Initialization == AttentionInitialization.Identity)
        {
            throw new ArgumentOutOfRangeException(
                nameof(Initialization), Initialization,
                $"Initialization is Identity, but '{Kind()}' replaces a convolution and has no identity to start from. " +
                "Use Default, Paper, Kaiming or Xavier.");
        }

        if (AttentionDropPath != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(AttentionDropPath), AttentionDropPath,
                $"AttentionDropPath is {AttentionDropPath}, but '{Kind()}' replaces a convolution, which cannot be skipped. " +
                "Set it to 0.");
        }
    }

    /// <summary>Builds the module in place of an ungrouped convolution with ReLU.</summary>
    /// <param name="channels">Channels of the input.</param>
    /// <param name="outputChannels">Channels of the output. Default null: as many as the input has.</param>
    /// <param name="stride">Stride: the output has height ⌈H / stride⌉ and width ⌈W / stride⌉. Default 1.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    public virtual BranchModule Create(int channels, int? outputChannels = null, int stride = 1)
        => Create(new ConvolutionSpec(channels, outputChannels ?? channels, stride));

    /// <summary>Builds the module in place of a convolution.</summary>
    /// <param name="convolution">The convolution that it replaces.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the convolution.</exception>
    public abstract BranchModule Create(ConvolutionSpec convolution);

    /// <summary>
    /// Always throws, because a branch module is not an <see cref="AttentionModule"/>: its output can have another shape than its
    /// input.
    /// </summary>
    /// <param name="channels">Channels of the input.</param>
    /// <exception cref="ArgumentException">Always, naming the overload and the place that fit.</exception>
    public sealed override AttentionModule Create(int channels) => throw new ArgumentException(
        $"'{Kind()}' replaces a convolution, so channels = {channels} alone do not build an attention of the same shape. " +
        $"Call Create(channels, outputChannels, stride) of {nameof(BranchAttentionOptions)}, or place it at " +
        $"{nameof(AttentionPosition.ReplaceSpatialConv)} of a {BackboneCatalog.With(AttentionPosition.ReplaceSpatialConv)}.",
        nameof(channels));

    /// <summary>Refuses groups that do not divide a number of channels.</summary>
    private protected void CheckGroups(int groups, int channels, string what, string remedy = "Choose a divisor.")
    {
        if (channels % groups == 0) return;
        string said = Groups is int own ? $"{own}" : "null (as the replaced convolution)";
        throw new ArgumentOutOfRangeException(
            nameof(Groups), Groups,
            $"Groups is {said}, which makes {groups} groups that do not divide the {channels} {what} of '{Kind()}'. {remedy}");
    }
}
