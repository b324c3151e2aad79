namespace TorchSharp.Attention.TestSupport;

/// <summary>One module with one choice of settings: what every oracle, gradient, property and dtype test runs through.</summary>
public sealed record Row(string Name, AttentionOptions Options, int Channels = 12)
{
    private static readonly Row[] Rows =
    [
        new("se", new SqueezeExcitationOptions { Reduction = 4 }),
        new("se, no bias", new SqueezeExcitationOptions { Reduction = 3, Bias = false }),
        new("se, hard sigmoid", new SqueezeExcitationOptions { Reduction = 4, Gate = GateFunction.HardSigmoid }),
        new("se, relu6", new SqueezeExcitationOptions { Reduction = 2, Activation = GateActivation.ReLU6 }),
        new("se, silu", new SqueezeExcitationOptions { Reduction = 2, Activation = GateActivation.SiLU }),
        new("se, hard swish", new SqueezeExcitationOptions { Reduction = 2, Activation = GateActivation.HardSwish }),
        new("se, gelu", new SqueezeExcitationOptions { Reduction = 2, Activation = GateActivation.GELU }),
        new("se, max pool", new SqueezeExcitationOptions { Reduction = 4, MaxPool = true }),
        new("se, reduced channels", new SqueezeExcitationOptions { ReducedChannels = 5 }, 7),
        new("se, timm", SqueezeExcitationOptions.Timm),

        new("se, norm", new SqueezeExcitationOptions { Reduction = 4, Norm = true, MaxPool = true }),

        new("eca", new EfficientChannelAttentionOptions()),
        new("eca, adaptive 7", new EfficientChannelAttentionOptions { Gamma = 1, Beta = 3 }),
        new("eca, kernel 1", new EfficientChannelAttentionOptions { KernelSize = 1 }),
        new("eca, kernel 5", new EfficientChannelAttentionOptions { KernelSize = 5 }, 7),
        new("eca, circular", EfficientChannelAttentionOptions.Circular),
        new("eca, circular 1", new EfficientChannelAttentionOptions { KernelSize = 1, Padding = ChannelPadding.Circular }),
        new("eca, circular 5", new EfficientChannelAttentionOptions { KernelSize = 5, Padding = ChannelPadding.Circular }, 7),
        new("eca, hard sigmoid", new EfficientChannelAttentionOptions { KernelSize = 3, Gate = GateFunction.HardSigmoid }),
        new("eca, one channel", new EfficientChannelAttentionOptions(), 1),

        new("channel", new ChannelAttentionOptions { Reduction = 4 }),
        new("channel, bias, silu", new ChannelAttentionOptions { Reduction = 4, Bias = true, Activation = GateActivation.SiLU }),
        new("channel, hard sigmoid", new ChannelAttentionOptions { Reduction = 2, Gate = GateFunction.HardSigmoid }),
        new("channel, timm", ChannelAttentionOptions.Timm),

        new("spatial", new SpatialAttentionOptions()),
        new("spatial, 3, max first", new SpatialAttentionOptions { KernelSize = 3, MapOrder = SpatialMapOrder.MaxMean }),
        new("spatial, 1", new SpatialAttentionOptions { KernelSize = 1 }, 5),
        new("spatial, norm", new SpatialAttentionOptions { KernelSize = 3, Norm = true, NormMomentum = 0.3 }),
        new("spatial, official", SpatialAttentionOptions.Official),
        new("spatial, hard sigmoid", new SpatialAttentionOptions { KernelSize = 5, Gate = GateFunction.HardSigmoid }),
        new("spatial, one channel", new SpatialAttentionOptions { KernelSize = 3 }, 1),

        new("cbam", new CbamOptions { Reduction = 4 }),
        new("cbam, spatial first", new CbamOptions { Reduction = 4, KernelSize = 3, Order = CbamOrder.SpatialFirst }),
        new("cbam, parallel", new CbamOptions { Reduction = 4, KernelSize = 3, Order = CbamOrder.Parallel }),
        new("cbam, official", CbamOptions.Official with { Reduction = 4 }),
        new("cbam, official, spatial first", CbamOptions.Official with { Reduction = 4, Order = CbamOrder.SpatialFirst }),
        new("cbam, official, parallel", CbamOptions.Official with { Reduction = 4, Order = CbamOrder.Parallel }),
        new("cbam, timm", CbamOptions.Timm),
        new("cbam, hard sigmoid, gelu", new CbamOptions
        {
            ReducedChannels = 3, KernelSize = 3, Gate = GateFunction.HardSigmoid, Activation = GateActivation.GELU,
        }, 7),

        new("bam", new BamOptions { Reduction = 4 }),
        new("bam, official", BamOptions.Official with { Reduction = 4 }),
        new("bam, add, hidden", new BamOptions { Reduction = 4, Norm = BamNorm.Hidden, Dilation = 2 }),
        new("bam, multiply, output", new BamOptions { Reduction = 4, Merge = BamMerge.Multiply, Dilation = 1 }),
        new("bam, no dilated", new BamOptions { Reduction = 4, DilatedConvolutions = 0 }),
        new("bam, three dilated", new BamOptions { RoundingDivisor = 2, DilatedConvolutions = 3, Dilation = 2, Norm = BamNorm.Hidden }, 7),

        new("ese", new EffectiveSqueezeExcitationOptions()),
        new("ese, paper", EffectiveSqueezeExcitationOptions.Paper),
        new("ese, sigmoid, max pool", new EffectiveSqueezeExcitationOptions { Gate = GateFunction.Sigmoid, MaxPool = true }, 7),
        new("ese, one channel", new EffectiveSqueezeExcitationOptions(), 1),

        new("eca, mlp", EfficientChannelAttentionOptions.TimmMlp),
        new("eca, mlp 5, circular", new EfficientChannelAttentionOptions
        {
            Mlp = true, HiddenWidth = 5, KernelSize = 5, Padding = ChannelPadding.Circular, Activation = GateActivation.GELU,
        }, 7),

        new("simam", new SimAmOptions()),
        new("simam, lambda", new SimAmOptions { Lambda = 0.3 }, 5),

        new("spatial, average", new SpatialAttentionOptions { KernelSize = 3, MapOrder = SpatialMapOrder.Average }),
        new("cbam, average", new CbamOptions { Reduction = 4, KernelSize = 3, MapOrder = SpatialMapOrder.Average }),
        new("lcbam", new LightCbamOptions()),
        new("lcbam, bias, no norm", new LightCbamOptions
        {
            Reduction = 3, RoundingDivisor = null, Bias = true, SpatialNorm = false, KernelSize = 3, Activation = GateActivation.SiLU,
            Gate = GateFunction.HardSigmoid,
        }),
        new("lcbam, norm momentum", new LightCbamOptions { ReducedChannels = 5, KernelSize = 5, SpatialNormMomentum = 0.3 }, 7),

        new("ge", new GatherExciteOptions()),
        new("ge, timm", GatherExciteOptions.Timm),
        new("ge, global, max pool", new GatherExciteOptions { Mlp = true, ReducedChannels = 5, MaxPool = true }, 7),
        new("ge, extent 2", new GatherExciteOptions { Extent = 2, Gate = GateFunction.HardSigmoid }, 7),
        new("ge, extent 4, mlp", new GatherExciteOptions { Extent = 4, Mlp = true, Reduction = 4, Activation = GateActivation.SiLU }),
        new("ge, extent 6, max pool", new GatherExciteOptions { Extent = 6, MaxPool = true }, 5),
        new("ge, whole map, padded, odd", GatherExciteOptions.TimmWholeMap(3, 5), 7),
        new("ge, theta 2", GatherExciteOptions.Theta with { Extent = 2 }, 5),
        new("ge, theta", GatherExciteOptions.Theta, 5),
        new("ge, theta plus 4", GatherExciteOptions.ThetaPlus with { Extent = 4, Reduction = 4, Activation = GateActivation.GELU }),

        new("coord", new CoordinateAttentionOptions()),
        new("coord, timm", CoordinateAttentionOptions.Timm),
        new("coord, residual, no norm", CoordinateAttentionOptions.Timm with { Residual = true, Norm = false }),
        new("coord, reduced, relu", new CoordinateAttentionOptions
        {
            ReducedChannels = 3, Activation = GateActivation.ReLU, Gate = GateFunction.HardSigmoid,
        }, 7),
        new("coord, reduction 2", new CoordinateAttentionOptions { Reduction = 2, MinReducedChannels = 1 }, 7),

        new("scoord", new SimpleCoordinateAttentionOptions()),
        new("scoord, residual", new SimpleCoordinateAttentionOptions { Residual = true }, 5),
        new("scoord, no bias", new SimpleCoordinateAttentionOptions
        {
            Reduction = 2, RoundingDivisor = null, Bias = false, Activation = GateActivation.GELU, Gate = GateFunction.HardSigmoid,
        }, 7),

        new("ela", new EfficientLocalAttentionOptions { NormGroups = 4 }),
        new("ela, timm", EfficientLocalAttentionOptions.Timm),
        new("ela, tiny, residual", EfficientLocalAttentionOptions.Tiny with { NormGroups = 3, Residual = true }),
        new("ela, large", EfficientLocalAttentionOptions.Large with { NormGroups = 2 }, 16),
        new("ela, groups of 3, bias", new EfficientLocalAttentionOptions
        {
            KernelSize = 5, ChannelsPerGroup = 3, NormGroups = 2, Bias = true, Activation = GateActivation.GELU,
            Gate = GateFunction.HardSigmoid,
        }),

        new("strip", new StripAttentionOptions()),
        new("strip, bias, 5", new StripAttentionOptions { KernelSize = 5, Bias = true, Gate = GateFunction.HardSigmoid }, 5),
        new("strip, residual", new StripAttentionOptions { Residual = true }, 3),
        new("strip, no parameters", StripAttentionOptions.WithoutParameters),

        new("scse", new ConcurrentSqueezeExcitationOptions()),
        new("scse, official", ConcurrentSqueezeExcitationOptions.Official),
        new("scse, reduced, no bias", new ConcurrentSqueezeExcitationOptions
        {
            ReducedChannels = 3, Bias = false, Merge = ScseMerge.Maximum, Activation = GateActivation.SiLU, Gate = GateFunction.HardSigmoid,
        }, 7),
        new("scse, channel", new ConcurrentSqueezeExcitationOptions { Parts = ScseParts.Channel, Reduction = 4 }),
        new("scse, spatial", new ConcurrentSqueezeExcitationOptions { Parts = ScseParts.Spatial }, 1),

        new("gct", new GatedChannelTransformationOptions()),
        new("gct, l1", new GatedChannelTransformationOptions { Norm = GctNorm.L1, Epsilon = 1e-3 }, 7),

        new("srm", new StyleRecalibrationOptions()),
        new("srm, paper", StyleRecalibrationOptions.Paper),
        new("srm, hard sigmoid", new StyleRecalibrationOptions { NormMomentum = 0.3, Gate = GateFunction.HardSigmoid }),

        new("triplet", new TripletAttentionOptions()),
        new("triplet, 3, two branches", new TripletAttentionOptions
        {
            KernelSize = 3, Spatial = false, NormMomentum = 0.3, Gate = GateFunction.HardSigmoid,
        }, 5),

        new("lka", new LargeKernelAttentionOptions(), 5),
        new("lka, separable", LargeKernelAttentionOptions.Separable, 5),
        new("lka, 3, 5 of dilation 2, no bias", new LargeKernelAttentionOptions
        {
            KernelSize = 3, DilatedKernelSize = 5, Dilation = 2, Bias = false,
        }, 3),

        new("shuffle, kept order", new ShuffleAttentionOptions { Groups = 3, Shuffle = false }),
        new("shuffle, kept order, one group", new ShuffleAttentionOptions
        {
            Groups = 1, Shuffle = false, Gate = GateFunction.HardSigmoid,
        }, 2),

        new("separable spatial", new SeparableSpatialAttentionOptions()),
        new("separable spatial, norm", new SeparableSpatialAttentionOptions
        {
            KernelSize = 3, Norm = true, NormMomentum = 0.3, Gate = GateFunction.HardSigmoid,
        }, 5),

        new("multi-scale spatial", new MultiScaleSpatialAttentionOptions()),
        new("multi-scale spatial, dilated, norm", new MultiScaleSpatialAttentionOptions
        {
            KernelSizes = [3, 3], Dilations = [1, 2], Norm = true, NormMomentum = 0.3, Gate = GateFunction.HardSigmoid,
        }, 5),

        new("psa", new PolarizedSelfAttentionOptions()),
        new("psa, sequential, reduced", PolarizedSelfAttentionOptions.PaperSequential with { ReducedChannels = 3 }, 7),
        new("psa, official", PolarizedSelfAttentionOptions.Official),
        new("psa, official, sequential", PolarizedSelfAttentionOptions.OfficialSequential with { Reduction = 1 }),
        new("psa, values, plain, hard sigmoid", new PolarizedSelfAttentionOptions
        {
            SpatialSoftmax = PolarizedSoftmax.Values, Excitation = PolarizedExcitation.Plain, Reduction = 3, Gate = GateFunction.HardSigmoid,
        }, 5),

        new("self", new SelfAttention2dOptions(), 16),
        new("self, 3 heads", new SelfAttention2dOptions { Heads = 3 }),
        new("self, width 6", new SelfAttention2dOptions { HeadWidth = 6 }),
        new("self, 2 heads of 5", new SelfAttention2dOptions { Heads = 2, HeadWidth = 5 }, 7),
        new("self, no residual", new SelfAttention2dOptions { Heads = 2, Residual = false }),
        new("self, no bias", new SelfAttention2dOptions { Heads = 2, Bias = false }, 6),
        new("self, gamma", new SelfAttention2dOptions { Heads = 2, ZeroInitScale = true }, 6),
        new("self, positions", new SelfAttention2dOptions { Heads = 2, RelativePosition = true }, 6),
        new("self, positions, no residual", new SelfAttention2dOptions { Heads = 3, RelativePosition = true, Residual = false }, 6),

        new("dynamic", new DynamicAttentionOptions
        {
            Attentions =
            [
                new SqueezeExcitationOptions { Reduction = 4, Bias = false }, new EfficientChannelAttentionOptions(),
                new SpatialAttentionOptions { KernelSize = 3 },
            ],
        }),
        new("dynamic, sharp, norms", new DynamicAttentionOptions
        {
            Temperature = 0.3,
            ReducedChannels = 3,
            Attentions = [CbamOptions.Timm with { KernelSize = 3 }, new SpatialAttentionOptions { KernelSize = 3, Norm = true }],
        }, 7),
        new("dynamic, nested, context", new DynamicAttentionOptions
        {
            Temperature = 2,
            Attentions =
            [
                new SelfAttention2dOptions { Heads = 2, Bias = false },
                new DynamicAttentionOptions
                {
                    ReducedChannels = 2,
                    Attentions = [new EfficientChannelAttentionOptions(), new SpatialAttentionOptions { KernelSize = 1 }],
                },
            ],
        }, 6),
        new("gc", new GlobalContextOptions { Reduction = 3 }),
        new("gc, timm", GlobalContextOptions.Timm with { Reduction = 3 }),
        new("gc, both, hard sigmoid", new GlobalContextOptions
        {
            Fusion = GlobalContextFusion.ScaleAndAdd, ReducedChannels = 5, Gate = GateFunction.HardSigmoid, Activation = GateActivation.GELU,
        }, 7),
        new("gc, mean", new GlobalContextOptions { AttentionPooling = false, Reduction = 2, Activation = GateActivation.SiLU }, 6),

        new("nl", new NonLocalOptions()),
        new("nl, timm", NonLocalOptions.Timm),
        new("nl, dot product", new NonLocalOptions { Pairwise = NonLocalPairwise.DotProduct, ReducedChannels = 3 }, 7),
        new("nl, dot product, scale", new NonLocalOptions { Pairwise = NonLocalPairwise.DotProduct, Scale = NonLocalScale.Channels }, 6),
        new("nl, official", NonLocalOptions.Official, 6),

        new("pam", new PositionAttentionOptions { Reduction = 4 }),
        new("pam, width 5", new PositionAttentionOptions { ReducedChannels = 5 }, 7),
        new("cam", new ChannelSelfAttentionOptions()),
        new("cam, paper", ChannelSelfAttentionOptions.Paper, 7),
        new("criss-cross", new CrissCrossAttentionOptions { Reduction = 4 }),
        new("criss-cross, twice", CrissCrossAttentionOptions.Paper with { ReducedChannels = 2 }, 7),

        new("window", new WindowAttentionOptions { WindowSize = 3 }),
        new("window, shifted", new WindowAttentionOptions { WindowSize = 3, Shift = 1, Heads = 2, Residual = false }, 6),
        new("window, 2, shifted", new WindowAttentionOptions { WindowSize = 2, Shift = 1, Heads = 3, Bias = false }, 6),
        new("window, padding seen", WindowAttentionOptions.Official with { WindowSize = 3 }),
        new("window, shifted, padding seen", new WindowAttentionOptions { WindowSize = 3, Shift = 2, Heads = 2, MaskPadding = false }, 6),
        new("window, larger than the map", new WindowAttentionOptions { WindowSize = 10, Shift = 5, Heads = 1 }, 5),
        new("bottleneck", new BottleneckAttentionOptions { FeatureHeight = 4, FeatureWidth = 3 }),
        new("bottleneck, residual, bias", new BottleneckAttentionOptions { FeatureHeight = 1, FeatureWidth = 2, Heads = 1, Residual = true, Bias = true }, 5),
        new("bottleneck, keys of 5, scaled positions", BottleneckAttentionOptions.Official with { FeatureHeight = 2, FeatureWidth = 4, Heads = 2, KeyWidth = 5 }, 6),
        new("halo, keys of 2, scaled positions", new HaloAttentionOptions { Heads = 1, KeyWidth = 2, ScalePositions = true, BlockSize = 2, HaloSize = 1 }, 5),
        new("halo", new HaloAttentionOptions { Heads = 3, BlockSize = 2, HaloSize = 1 }),
        new("halo, residual, bias", new HaloAttentionOptions { Heads = 2, BlockSize = 3, HaloSize = 2, Residual = true, Bias = true }, 6),
        new("halo, no halo", new HaloAttentionOptions { Heads = 1, BlockSize = 4, HaloSize = 0 }, 5),
        new("lambda", new LambdaLayerOptions { KeyWidth = 4, KernelSize = 3 }),
        new("lambda, residual, bias", new LambdaLayerOptions { Heads = 2, KeyWidth = 3, KernelSize = 5, Residual = true, Bias = true }, 6),
        new("bat", new BatAttentionOptions { BlockSize = 2 }),
        new("bat, one group", new BatAttentionOptions { BlockSize = 3, Groups = 1, ReducedChannels = 3 }, 5),

        new("sparse", new SparseAttentionOptions()),
        new("sparse, blocks of 4", new SparseAttentionOptions { BlockLength = 4, Heads = 2, Residual = false, Bias = false }, 6),
        new("sparse, top 5", new SparseAttentionOptions { Pattern = SparsePattern.TopK, TopKeys = 5, Heads = 3 }),
        new("sparse, top 1", new SparseAttentionOptions { Pattern = SparsePattern.TopK, TopKeys = 1, Heads = 1, Residual = false }, 5),
        new("linear", new LinearAttentionOptions()),
        new("linear, no residual, no bias", new LinearAttentionOptions { Heads = 2, Residual = false, Bias = false }, 6),

        new("attention gate", new AttentionGateOptions()),
        new("attention gate, no norm", new AttentionGateOptions { Norm = false }, 7),
        new("attention gate, width 3", new AttentionGateOptions { ReducedChannels = 3 }, 7),
        new("attention gate, one channel", new AttentionGateOptions { Norm = false }, 1),
    ];

    public static IReadOnlyList<Row> All => Rows;

    /// <summary>Names for theories; <see cref="Named"/> finds the row.</summary>
    public static TheoryData<string> Names => [.. Rows.Select(row => row.Name)];

    /// <summary>One row per kind of module, for tests where the settings do not matter.</summary>
    public static TheoryData<string> Kinds => [.. Rows.GroupBy(row => row.Options.GetType()).Select(kind => kind.First().Name)];

    public static TheoryData<string> NamesOf<TOptions>() => [.. Rows.Where(row => row.Options is TOptions).Select(row => row.Name)];

    /// <summary>Names of the contexts: modules that have attention weights.</summary>
    public static TheoryData<string> Contexts => [.. Rows.Where(row => row.IsContext).Select(row => row.Name)];

    /// <summary>Whether the module is a context rather than a gate.</summary>
    public bool IsContext => Is<ContextModule>(_ => true);

    /// <summary>Whether the module adds its context to the input.</summary>
    public bool IsResidual => Is<ContextModule>(module => module.IsResidual);

    public int GuideChannels => Options is GuidedAttentionOptions ? 5 : 0;

    public static Row Named(string name) => Rows.Single(row => row.Name == name);

    private bool Is<TModule>(Predicate<TModule> condition)
    {
        if (Options is GuidedAttentionOptions) return false;
        using AttentionModule module = Options.Create(Channels);
        return module is TModule found && condition(found);
    }

    public Row As(AttentionInitialization initialization) => this with { Options = Options with { Initialization = initialization } };
}
