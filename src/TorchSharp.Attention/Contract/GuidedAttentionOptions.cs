namespace TorchSharp.Attention;

/// <summary>
/// Settings of an attention with a second input, the guide, such as the decoder's map in a U-Net. It can be placed only at sites
/// that provide a guide (<see cref="AttentionSite.GuideChannels"/>).
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

    /// <summary>
    /// Builds the module for maps of <paramref name="channels"/> channels steered by maps of <paramref name="guideChannels"/>.
    /// </summary>
    /// <param name="channels">Channels of the map to refine.</param>
    /// <param name="guideChannels">Channels of the map that steers.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    public abstract GuidedAttentionModule Create(int channels, int guideChannels);

    /// <summary>Always throws: this attention has two inputs.</summary>
    /// <param name="channels">Channels of the map to refine.</param>
    /// <exception cref="ArgumentException">Always, naming the overload and the places that fit.</exception>
    public sealed override AttentionModule Create(int channels) => throw new ArgumentException(
        $"'{Kind()}' is steered by a second map, so channels = {channels} alone do not build it. " +
        $"Call Create(channels, guideChannels), or place it where a network offers a guide ({nameof(AttentionPosition.Skip)} " +
        $"of {nameof(UNet)}).",
        nameof(channels));
}
