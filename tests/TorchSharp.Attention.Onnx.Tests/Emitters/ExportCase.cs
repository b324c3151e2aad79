namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>A module or network that has to export, with two choices of input shapes.</summary>
internal sealed record ExportCase(string Group, string Name, Func<nn.Module> Create, long[][] First, long[][] Second)
{
    private static readonly AttentionInitialization Identity = AttentionInitialization.Identity;

    /// <summary>Every module of the library with the settings of the core's tests.</summary>
    public static IReadOnlyList<ExportCase> Modules { get; } =
    [
        .. Row.All.Select(Module),
        .. Row.All.DistinctBy(row => row.Options.GetType()).Select(row => Module(row.As(Identity) with { Name = $"{row.Name}, identity start" })),
        Module(new Row("shuffle", new ShuffleAttentionOptions { Groups = 3 })),
        Module(new Row("dynamic, hard routing", new DynamicAttentionOptions { HardRouting = true, ReducedChannels = 3 })),
        .. BranchRow.All.Select(row => new ExportCase(
            NameOf(row.Options), row.Name, () => row.Options.Create(row.Convolution), [[2, row.Convolution.Channels, 9, 8]], [[1, row.Convolution.Channels, 6, 7]])),
        new(nameof(CrossAttention), "cross, a map", () => new CrossAttention(8, 6, new() { Heads = 2 }), [[2, 8, 4, 6], [2, 6, 3, 5]], [[1, 8, 5, 3], [1, 6, 2, 2]]),
        new(nameof(CrossAttention), "cross, a sequence", () => new CrossAttention(8, 6, new() { Heads = 2, HeadWidth = 3, Bias = false, ZeroInitScale = true }), [[2, 8, 4, 6], [2, 7, 6]], [[1, 8, 5, 3], [1, 3, 6]]),
        new(nameof(CrossAttention), "cross, no residual", () => new CrossAttention(8, 6, new() { Heads = 1, Residual = false }), [[2, 8, 4, 6], [2, 7, 6]], [[1, 8, 5, 3], [1, 3, 6]]),
        new(nameof(MultiHeadAttention), "multi-head, one sequence", () => new MultiHeadAttention(8, new() { Heads = 2 }), [[2, 5, 8]], [[1, 7, 8]]),
        new(nameof(MultiHeadAttention), "multi-head, no bias", () => new MultiHeadAttention(8, new() { Heads = 4, Bias = false }), [[2, 5, 8], [2, 4, 8], [2, 4, 8]], [[1, 3, 8], [1, 6, 8], [1, 6, 8]]),
        new(nameof(MultiHeadAttention), "multi-head, own widths", () => new MultiHeadAttention(8, new() { Heads = 2, KeyWidth = 5, ValueWidth = 3 }), [[2, 5, 8], [2, 4, 5], [2, 4, 3]], [[1, 3, 8], [1, 6, 5], [1, 6, 3]]),
    ];

    /// <summary>Every network: the shapes that it can have, and every attention at every position that takes it.</summary>
    public static IReadOnlyList<ExportCase> Networks { get; } =
    [
        .. Cases.Networks.Select(entry => Network(entry.Key, entry.Value)),
        .. AttentionCatalog.Kinds.SelectMany(kind => Skeletons.Where(skeleton => Plan(kind, skeleton.Sites()) is not null).Select(
            skeleton => Network($"{skeleton.Name}, {kind} everywhere", () => skeleton.Create(Plan(kind, skeleton.Sites())!)))),
        .. Skeletons.SelectMany(skeleton => skeleton.Sites().Select(site => site.Position).Distinct().Where(position => position != AttentionPosition.ReplaceSpatialConv).Select(
            position => Network($"{skeleton.Name}, se at {position}", () => skeleton.Create(AttentionPlan.Of(new SqueezeExcitationOptions { ReducedChannels = 2 }, position))))),
    ];

    public static IEnumerable<ExportCase> All => Modules.Concat(Networks);

    /// <summary>Small networks of each kind, by the plan that they take.</summary>
    private static IReadOnlyList<(string Name, Func<IReadOnlyList<AttentionSite>> Sites, Func<AttentionPlan, FeatureNetwork> Create)> Skeletons =>
    [
        ("ResNet basic", () => Basic.Sites(), plan => new ResNet(Basic with { Attention = plan })),
        ("ResNet bottleneck", () => Bottleneck.Sites(), plan => new ResNet(Bottleneck with { Attention = plan })),
        ("MobileNetV2", () => Mobile.Sites(), plan => new MobileNetV2(Mobile with { Attention = plan })),
        ("ConvNeXt", () => Modern.Sites(), plan => new ConvNeXt(Modern with { Attention = plan })),
        ("EfficientNet", () => Cases.TinyEfficientNet.Sites(), plan => new EfficientNet(Cases.TinyEfficientNet with { Attention = plan })),
        ("UNet", () => Segmenter.Sites(), plan => new UNet(Segmenter with { Attention = plan })),
    ];

    private static ResNetOptions Basic => Cases.TinyResNet with { Layers = [1, 1], StagePlanes = [8, 8], StemWidth = 8 };

    private static ResNetOptions Bottleneck => Basic with { Block = ResNetBlock.Bottleneck, Layers = [2], StagePlanes = [8] };

    private static ConvNeXtOptions Modern => Cases.TinyConvNeXt with { Blocks = [1, 1], Channels = [8, 16] };

    private static MobileNetV2Options Mobile => Cases.TinyMobileNet;

    private static UNetOptions Segmenter => new() { Widths = [8, 8], InputChannels = 3, Classes = 2 };

    public override string ToString() => Name;

    /// <summary>The axes to leave open.</summary>
    public OnnxDynamicAxes Axes => First.Aggregate(OnnxDynamicAxes.Batch, (axes, shape) => axes | (shape.Length == 4 ? OnnxDynamicAxes.Size : OnnxDynamicAxes.Length));

    /// <summary>How the file's inputs have to look: only what is made for one size keeps the example's.</summary>
    public string[] Inputs(nn.Module model)
    {
        bool isFixed = model.modules().Append(model).Any(module => module
            is WindowAttention or HaloAttention or BottleneckAttention or BatAttention or SparseAttention
            or LambdaLayer // Its maps alone are; here they are outputs.
            or SelfAttention2d { Options: SelfAttention2dOptions { RelativePosition: true } }
            or GatherExcite { Options: GatherExciteOptions { Extent: 0, GatherParameters: true, PadWholeMap: false } });
        return [.. First.Select((shape, i) =>
        {
            string number = i == 0 ? "" : $"{i + 1}", name = First.Length == 1 ? "input" : $"input{i + 1}";
            return shape.Length == 3 ? $"{name} (batch, length{number}, {shape[2]})"
                : isFixed ? $"{name} (batch, {string.Join(", ", shape.Skip(1))})"
                : $"{name} (batch, {shape[1]}, height{number}, width{number})";
        })];
    }

    /// <summary>The attention at every position that takes it; null where none does.</summary>
    private static AttentionPlan? Plan(string kind, IReadOnlyList<AttentionSite> sites)
    {
        AttentionOptions options = Small(AttentionCatalog.Create(kind));
        AttentionPlan plan = AttentionPlan.None;
        foreach (AttentionPosition position in sites.Select(site => site.Position).Distinct())
        {
            bool fits = options switch
            {
                BranchAttentionOptions => position == AttentionPosition.ReplaceSpatialConv,
                GuidedAttentionOptions => position == AttentionPosition.Skip,
                _ => position != AttentionPosition.ReplaceSpatialConv,
            };
            if (fits) plan = sites.Count > 50 ? plan.Add(options, position).InStages(2, 3) : plan.Add(options, position);
        }

        return plan.Rules.Count == 0 ? null : plan;
    }

    /// <summary>Settings that go with few channels.</summary>
    private static AttentionOptions Small(AttentionOptions options) => options switch
    {
        SqueezeExcitationOptions squeeze => squeeze with { Reduction = 4 },
        ChannelAttentionOptions channel => channel with { Reduction = 4 },
        CbamOptions cbam => cbam with { Reduction = 4 },
        // Its gate is above 1: as often as it stands in an EfficientNet, whose SiLU has no bound, values grow and so do their roundings.
        BamOptions bam => bam with { Reduction = 4, Initialization = Identity },
        GlobalContextOptions global => global with { Reduction = 4 },

        // Stacked, these magnify rounding: small variances in a denominator, products of activations, softmaxes that choose one.
        SimAmOptions sim => sim with { Lambda = 0.01 },
        LambdaLayerOptions lambda => lambda with { Heads = 2, KeyWidth = 4, KernelSize = 3, Initialization = Identity },
        ChannelSelfAttentionOptions channel => channel with { Initialization = Identity },
        SelfAttention2dOptions self => self with { Heads = 2 },
        WindowAttentionOptions window => window with { Heads = 2, WindowSize = 3, Shift = 1 },
        BottleneckAttentionOptions bottleneck => bottleneck with { Heads = 2 },
        HaloAttentionOptions halo => halo with { Heads = 2, BlockSize = 3, HaloSize = 1 },
        SparseAttentionOptions sparse => sparse with { Heads = 2 },
        LinearAttentionOptions linear => linear with { Heads = 2 },
        ShuffleAttentionOptions shuffle => shuffle with { Groups = 2 },
        EfficientLocalAttentionOptions local => local with { NormGroups = 2 },
        BatAttentionOptions bat => bat with { BlockSize = 2, Groups = 2 },
        _ => options,
    };

    private static ExportCase Module(Row row) => row.Options is GuidedAttentionOptions guided
        ? new ExportCase(
            NameOf(row.Options), row.Name, () => guided.Create(row.Channels, row.GuideChannels),
            [[2, row.Channels, 6, 8], [2, row.GuideChannels, 3, 4]], [[1, row.Channels, 5, 7], [1, row.GuideChannels, 5, 7]])
        : new ExportCase(NameOf(row.Options), row.Name, () => row.Options.Create(row.Channels), [[2, row.Channels, 9, 8]], [[1, row.Channels, 6, 7]]);

    private static ExportCase Network(string name, Func<nn.Module> create) => new(name.Split(' ', ',')[0] switch { "unet" => "UNet", "mobilenetv2" => "MobileNetV2", "convnext" => "ConvNeXt", "efficientnet" => "EfficientNet", "resnet" => "ResNet", "attention" => "UNet", string own => own }, name, create, [[2, 3, 18, 16]], [[1, 3, 24, 15]]);

    private static string NameOf(AttentionOptions options) => options.GetType().Name[..^"Options".Length];
}
