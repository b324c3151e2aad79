namespace TorchSharp.Attention;

/// <summary>A channel gate, then a spatial gate of the map that the channel gate refined, as in CBAM.</summary>
internal interface IGatePair : IFusableGate
{
    /// <summary>
    /// Whether the settings of this module give a pair in this order. A module whose settings can give another gate overrides it.
    /// </summary>
    bool IsPair => true;

    /// <summary>The gate that acts first.</summary>
    IChannelGate Channel { get; }

    /// <summary>The gate that acts second.</summary>
    ISpatialGate Spatial { get; }
}
