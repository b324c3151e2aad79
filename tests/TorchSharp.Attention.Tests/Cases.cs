namespace TorchSharp.Attention.Tests;

/// <summary>The modules and networks that contract tests run over: one row each.</summary>
internal static class Cases
{
    public const int Channels = 8;

    /// <summary>Settings of every module of one input, with each structural choice at least once. A new module needs one row here.</summary>
    public static readonly IReadOnlyDictionary<string, AttentionOptions> Modules = new Dictionary<string, AttentionOptions>
    {
        ["se"] = new SqueezeExcitationOptions { Reduction = 4 },
        ["se max, hard sigmoid"] = new SqueezeExcitationOptions { Reduction = 2, MaxPool = true, Gate = GateFunction.HardSigmoid, Activation = GateActivation.SiLU },
        ["eca"] = new EfficientChannelAttentionOptions(),
        ["eca circular"] = new EfficientChannelAttentionOptions { KernelSize = 5, Padding = ChannelPadding.Circular },
        ["channel"] = new ChannelAttentionOptions { Reduction = 4 },
        ["spatial"] = new SpatialAttentionOptions { KernelSize = 3 },
        ["spatial norm"] = SpatialAttentionOptions.Official,
        ["cbam"] = new CbamOptions { Reduction = 4, KernelSize = 3 },
        ["cbam official"] = CbamOptions.Official with { Reduction = 4 },
        ["cbam spatial first"] = new CbamOptions { Reduction = 4, Order = CbamOrder.SpatialFirst },
        ["cbam parallel"] = new CbamOptions { Reduction = 4, Order = CbamOrder.Parallel },
        ["bam"] = new BamOptions { Reduction = 4, Dilation = 2 },
        ["bam official"] = BamOptions.Official with { Reduction = 4 },
        ["self"] = new SelfAttention2dOptions { Heads = 2 },
        ["self replacing, position"] = new SelfAttention2dOptions { Heads = 2, HeadWidth = 3, Residual = false, RelativePosition = true, Bias = false },
        ["self zero scale"] = new SelfAttention2dOptions { HeadWidth = 4, ZeroInitScale = true, RelativePosition = true },
        ["cbam identity, drops"] = new CbamOptions { Reduction = 4, Initialization = AttentionInitialization.Identity, Dropout = 0.2, StochasticDrop = 0.3 },
        ["self identity, drops"] = new SelfAttention2dOptions
        {
            Heads = 2,
            Initialization = AttentionInitialization.Identity,
            Dropout = 0.2,
            StochasticDrop = 0.3,
            AttentionDropout = 0.1,
        },
    };

    private static readonly AttentionPlan Everywhere = AttentionPlan.Of(new CbamOptions { Reduction = 4, KernelSize = 3 })
        .Add(new EfficientChannelAttentionOptions(), AttentionPosition.Before)
        .Add(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.Shortcut)
        .Add(new SelfAttention2dOptions { Heads = 2 }, AttentionPosition.StageEnd)
        .Add(new BamOptions { Reduction = 4 }, AttentionPosition.StageEnd)
        .Add(new SpatialAttentionOptions { KernelSize = 3 }, AttentionPosition.After);

    public static readonly IReadOnlyDictionary<string, Func<FeatureNetwork>> Networks = new Dictionary<string, Func<FeatureNetwork>>
    {
        ["resnet basic"] = () => new ResNet(TinyResNet with { DropPath = 0.2 }),
        ["resnet bottleneck, attention everywhere"] = () => new ResNet(TinyResNet with
        {
            Block = ResNetBlock.Bottleneck,
            Stem = ResNetStem.Standard,
            Attention = Everywhere.Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterConv1)
                .Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterConv2),
        }),
        ["mobilenetv2, attention everywhere"] = () => new MobileNetV2(TinyMobileNet with
        {
            Attention = Everywhere.Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterExpand)
                .Add(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.AfterDepthwise),
        }),
        ["unet, attention everywhere"] = () => new UNet(new UNetOptions
        {
            Widths = [4, 8, 8],
            Attention = AttentionPlan.Of(new AttentionGateOptions(), AttentionPosition.Skip)
                .Add(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.Skip)
                .Add(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.EncoderEnd)
                .Add(new SelfAttention2dOptions { Heads = 2 }, AttentionPosition.Bottleneck)
                .Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterConcat)
                .Add(new SpatialAttentionOptions(), AttentionPosition.DecoderEnd),
        }),
        ["unet on resnet, bilinear, group norm"] = () => new UNet(new UNetOptions
        {
            Widths = [4, 4, 4],
            Norm = UNetNorm.Group,
            NormGroups = 2,
            UpSampling = UNetUpSampling.Bilinear,
            Encoder = TinyResNet with { Layers = [1, 1], StagePlanes = [4, 8], Stem = ResNetStem.Standard },
            Attention = AttentionPlan.Of(new AttentionGateOptions(), AttentionPosition.Skip),
        }),
    };

    public static ResNetOptions TinyResNet => new()
    {
        Layers = [1, 1, 1],
        StagePlanes = [4, 4, 8],
        StemWidth = 4,
        Stem = ResNetStem.Small,
        Classes = 3,
    };

    public static MobileNetV2Options TinyMobileNet => new() { WidthMultiplier = 0.1, Classes = 3, SmallImages = true };

    public static TheoryData<string> ModuleNames => [.. Modules.Keys];

    public static TheoryData<string> NetworkNames => [.. Networks.Keys];
}
