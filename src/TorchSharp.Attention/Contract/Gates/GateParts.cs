namespace TorchSharp.Attention;

/// <summary>
/// How a gate decomposes: a channel gate made of pooled channels, then a spatial gate made of the gated map's pooled positions;
/// either may be missing. In parallel, the spatial gate reads the map itself.
/// </summary>
internal readonly record struct GateParts(GateModule? Channel, GateModule? Spatial = null);
