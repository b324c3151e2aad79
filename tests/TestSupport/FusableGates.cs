namespace TorchSharp.Attention.TestSupport;

/// <summary>What the fused kernels can do for a gate beside refining a feature map.</summary>
[Flags]
public enum FusedPaths
{
    None = 0,

    /// <summary>In training: relu(gate(x) + residual) as one function.</summary>
    AddRelu = 1,

    /// <summary>In training: the gate after a batch norm whose output is not written.</summary>
    AfterNorm = 2,

    /// <summary>In inference: the whole gate as one parallel call.</summary>
    OneRegion = 4,

    All = AddRelu | AfterNorm | OneRegion,
}

/// <summary>One setting of a gate that runs on the fused kernels.</summary>
public sealed record FusableGate(string Name, AttentionOptions Options, FusedPaths Paths = FusedPaths.None)
{
    /// <summary>libtorch has no second derivative of the hard sigmoid.</summary>
    public bool HasSecondDerivatives => Options is not (EffectiveSqueezeExcitationOptions or EfficientChannelAttentionOptions { Gate: GateFunction.HardSigmoid });

    public GateModule Create(int channels) => (GateModule)Options.Create(channels);

    public override string ToString() => Name;
}

/// <summary>
/// The gates with fused kernels: every kind, and every setting of a kind that takes another way through the kernels. Tests of the
/// kernels and the benchmarks take their gates from here; FusableGatesTests holds the list to what the kernels do.
/// </summary>
public static class FusableGates
{
    private const AttentionInitialization Identity = AttentionInitialization.Identity;

    public static IReadOnlyList<FusableGate> All { get; } =
    [
        new("se", new SqueezeExcitationOptions { ReducedChannels = 3 }, FusedPaths.All),
        new("se, max pool", new SqueezeExcitationOptions { ReducedChannels = 3, MaxPool = true }, FusedPaths.All),
        new("se, wide, no bias, identity", new SqueezeExcitationOptions { ReducedChannels = 21, Bias = false, Initialization = Identity }, FusedPaths.All),
        new("ese", new EffectiveSqueezeExcitationOptions(), FusedPaths.All),
        new("ese, max pool", new EffectiveSqueezeExcitationOptions { MaxPool = true }, FusedPaths.All),
        new("eca", new EfficientChannelAttentionOptions(), FusedPaths.All),
        new("eca, 9, hard sigmoid", new EfficientChannelAttentionOptions { KernelSize = 9, Gate = GateFunction.HardSigmoid }, FusedPaths.All),
        new("eca, circular", new EfficientChannelAttentionOptions { Padding = ChannelPadding.Circular, KernelSize = 3 }, FusedPaths.All),
        new("srm", new StyleRecalibrationOptions(), FusedPaths.AddRelu),
        new("channel, identity", new ChannelAttentionOptions { ReducedChannels = 3, Initialization = Identity }, FusedPaths.All),
        new("channel, bias", new ChannelAttentionOptions { ReducedChannels = 3, Bias = true }, FusedPaths.All),
        new("spatial", SpatialAttentionOptions.Official, FusedPaths.AddRelu | FusedPaths.OneRegion),
        new("spatial, average", new SpatialAttentionOptions { KernelSize = 3, MapOrder = SpatialMapOrder.Average }, FusedPaths.AddRelu | FusedPaths.OneRegion),
        new(
            "spatial, average, identity",
            new SpatialAttentionOptions { KernelSize = 3, MapOrder = SpatialMapOrder.Average, Initialization = Identity },
            FusedPaths.AddRelu | FusedPaths.OneRegion),
        new("cbam", new CbamOptions { ReducedChannels = 3 }, FusedPaths.All),
        new("cbam, timm", CbamOptions.Timm with { ReducedChannels = 3 }, FusedPaths.All),
        new("cbam, timm, identity", CbamOptions.Timm with { ReducedChannels = 3, Initialization = Identity }, FusedPaths.All),
        new("cbam, official", CbamOptions.Official with { ReducedChannels = 3 }, FusedPaths.All),
        new("cbam, official, identity", CbamOptions.Official with { ReducedChannels = 6, Initialization = Identity }, FusedPaths.All),
        new("gct", new GatedChannelTransformationOptions(), FusedPaths.AddRelu),
        new("gct, l1", new GatedChannelTransformationOptions { Norm = GctNorm.L1 }, FusedPaths.AddRelu),
        new("ge, whole map", new GatherExciteOptions { Extent = 0, MaxPool = true }, FusedPaths.AddRelu | FusedPaths.AfterNorm),
        new("lcbam", new LightCbamOptions { ReducedChannels = 3 }, FusedPaths.All),
        new("cbam, parallel, identity", new CbamOptions { ReducedChannels = 3, Order = CbamOrder.Parallel, Initialization = Identity }),
        new("bam", new BamOptions { ReducedChannels = 3 }),
        new("bam, official, identity", BamOptions.Official with { ReducedChannels = 3, Initialization = Identity }),
        new("scse", new ConcurrentSqueezeExcitationOptions { ReducedChannels = 3 }),
        new("scse, maximum, identity", new ConcurrentSqueezeExcitationOptions { ReducedChannels = 3, Merge = ScseMerge.Maximum, Initialization = Identity }),
        new("scse, channel part", new ConcurrentSqueezeExcitationOptions { ReducedChannels = 3, Parts = ScseParts.Channel }, FusedPaths.AddRelu | FusedPaths.AfterNorm),
        new("coord", new CoordinateAttentionOptions { ReducedChannels = 3 }),
        new("coord, residual, identity", new CoordinateAttentionOptions { ReducedChannels = 3, Norm = false, Residual = true, Initialization = Identity }),
        new("ela, identity", new EfficientLocalAttentionOptions { NormGroups = 1, Initialization = Identity }),
        new("scoord", new SimpleCoordinateAttentionOptions { ReducedChannels = 3 }),
        new("strip, residual, identity", new StripAttentionOptions { Residual = true, Initialization = Identity }),
        new("triplet", new TripletAttentionOptions()),
        new("triplet, 3, identity", new TripletAttentionOptions { KernelSize = 3, Initialization = Identity }),
        new("triplet, without space", new TripletAttentionOptions { KernelSize = 3, Spatial = false }),
        new("simam", new SimAmOptions()),
        new("simam, identity", new SimAmOptions { Initialization = Identity }),
        new("psa", new PolarizedSelfAttentionOptions { ReducedChannels = 3 }),
        new("psa, sequential", PolarizedSelfAttentionOptions.PaperSequential with { ReducedChannels = 3 }),
    ];

    /// <summary>The gates that the kernels can run on these paths.</summary>
    public static IReadOnlyList<FusableGate> On(FusedPaths paths) => [.. All.Where(gate => (gate.Paths & paths) == paths)];

    public static FusableGate Named(string name) => All.Single(gate => gate.Name == name);

    /// <summary>The kinds, each once, as <see cref="AttentionCatalog"/> names them.</summary>
    public static IReadOnlyList<string> Kinds { get; } = [.. All.Select(gate => AttentionCatalog.KindOf(gate.Options.GetType())).Distinct()];
}
