using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A gate of one factor per channel, (N, C, 1, 1), computed from pooled channels.</summary>
internal interface IChannelGate : IFusableGate
{
    /// <summary>
    /// Whether the settings of this module give a channel gate. A module whose settings can give another gate overrides it.
    /// </summary>
    bool IsChannelGate => true;

    /// <summary>The statistics of each channel that <see cref="ExciteChannels"/> reads.</summary>
    ChannelStatistics Statistics { get; }

    /// <summary>Computes the gate, (N, C, 1, 1), before the blend of the identity initialization.</summary>
    /// <param name="pooled">The channels' statistics.</param>
    Tensor ExciteChannels(ChannelSummary pooled);
}
