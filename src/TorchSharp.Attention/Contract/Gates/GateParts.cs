using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A channel gate, a spatial gate, or a channel gate and then a spatial gate of the refined map.</summary>
internal readonly record struct GateParts(IChannelGate? Channel, ISpatialGate? Spatial)
{
    /// <summary>
    /// The parts of a module, by the interfaces that it implements; null where it has none, or its settings give another gate.
    /// </summary>
    public static GateParts? Of(GateModule module) => module switch
    {
        IChannelGate { IsChannelGate: true } channel => new(channel, null),
        ISpatialGate spatial => new(null, spatial),
        IGatePair { IsPair: true } pair => new(pair.Channel, pair.Spatial),
        _ => null,
    };

    /// <summary>The gate of pooled channels, (N, C, 1, 1), after the blend of the identity initialization.</summary>
    public static Tensor Excite(IChannelGate gate, ChannelSummary pooled)
        => IdentityStart.Blend(gate.ExciteChannels(pooled), gate.Module.StartScale);

    /// <summary>The gate of pooled positions, (N, 1, H, W), after the blend of the identity initialization.</summary>
    public static Tensor Excite(ISpatialGate gate, Tensor pooled)
        => IdentityStart.Blend(gate.ExcitePositions(pooled), gate.Module.StartScale);
}
