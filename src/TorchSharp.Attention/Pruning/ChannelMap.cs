namespace TorchSharp.Attention;

/// <summary>All channels of a network, and what its options are with fewer of them. It holds no tensor.</summary>
/// <param name="Options">The network's options.</param>
/// <param name="Axes">Every group of channels, in the network's order.</param>
/// <param name="Narrow">The options with as many channels as said of each group, the attention apart.</param>
internal sealed record ChannelMap(
    BackboneOptions Options, IReadOnlyList<ChannelAxis> Axes, Func<Func<ChannelAxis, int>, BackboneOptions> Narrow)
{
    /// <summary>The options of the network with as many channels as said of each group.</summary>
    /// <exception cref="ArgumentException">An attention does not fit the channels that it would be left with.</exception>
    public BackboneOptions With(Func<ChannelAxis, int> kept)
    {
        if (Axes.All(axis => kept(axis) == axis.Width)) return Options;
        BackboneOptions bare = Narrow(kept);
        IReadOnlyList<AttentionSite> before = Options.Sites(), after = bare.Sites();
        BackboneOptions result = bare with { Attention = NarrowedPlan.Of(Options.Attention, before, after) };
        result.Attention.Resolve(nameof(GatePruning), after);
        return result;
    }
}
