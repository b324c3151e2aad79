namespace TorchSharp.Attention.TestSupport;

/// <summary>The networks that contract tests run over: one row each. Modules are in <see cref="Row"/>.</summary>
public static class Cases
{
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
        ["mobilenetv2"] = () => new MobileNetV2(TinyMobileNet),
        ["mobilenetv2 of branches"] = () => new MobileNetV2(TinyMobileNet with
        {
            Attention = AttentionPlan.Of(new SelectiveKernelOptions(), AttentionPosition.ReplaceSpatialConv).InStages(2, 3)
                .Add(new SplitAttentionOptions(), AttentionPosition.ReplaceSpatialConv).InStages(4)
                .Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterDepthwise),
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
        ["attention unet, strides and kernels"] = () => new UNet(UNetOptions.AttentionUNet with
        {
            Widths = [4, 6, 8, 8],
            Strides = [1, 2, 2],
            KernelSize = 5,
            UpKernelSize = 5,
            Dropout = 0.1,
        }),
        ["resnet of branches"] = () => new ResNet(TinyResNet with
        {
            Block = ResNetBlock.Bottleneck,
            Attention = AttentionPlan.Of(new SelectiveKernelOptions(), AttentionPosition.ReplaceSpatialConv).InStages(1, 2)
                .Add(new SplitAttentionOptions(), AttentionPosition.ReplaceSpatialConv).InStages(3)
                .Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterConv2),
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
        ["convnext"] = () => new ConvNeXt(TinyConvNeXt with { DropPath = 0.2 }),
        ["convnext, attention everywhere"] = () => new ConvNeXt(TinyConvNeXt with
        {
            Attention = AttentionPlan.Of(new CbamOptions { Reduction = 4, KernelSize = 3 })
                .Add(new EfficientChannelAttentionOptions(), AttentionPosition.Before)
                .Add(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.AfterDepthwise)
                .Add(new SelfAttention2dOptions { Heads = 2 }, AttentionPosition.StageEnd)
                .Add(new SpatialAttentionOptions { KernelSize = 3 }, AttentionPosition.After),
        }),
        ["efficientnet"] = () => new EfficientNet(TinyEfficientNet with { DropPath = 0.2 }),
        ["efficientnet, attention everywhere"] = () => new EfficientNet(TinyEfficientNet with
        {
            Attention = Everywhere.Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterExpand)
                .Add(new EfficientChannelAttentionOptions(), AttentionPosition.AfterDepthwise).InStages(2),
        }),
        ["unet on convnext"] = () => new UNet(new UNetOptions
        {
            Widths = [4, 4, 4],
            Encoder = TinyConvNeXt with { Blocks = [1, 1], Channels = [4, 8], PatchSize = 4 },
            Attention = AttentionPlan.Of(new AttentionGateOptions(), AttentionPosition.Skip),
        }),
        ["unet on efficientnet, bilinear"] = () => new UNet(new UNetOptions
        {
            Widths = [4, 4, 8],
            UpSampling = UNetUpSampling.Bilinear,
            Encoder = TinyEfficientNet with { SmallImages = false },
        }),
    };

    public static ConvNeXtOptions TinyConvNeXt => new() { Blocks = [1, 2, 1], Channels = [4, 8, 8], PatchSize = 1, LayerScale = 0.5, DropPath = 0, Classes = 3 };

    /// <summary>A fused stage with a shortcut, a fused one that expands, and inverted blocks without and with an expansion.</summary>
    public static EfficientNetOptions TinyEfficientNet => new()
    {
        Stem = 8,
        Stages = [new(1, 3, 1, 8, 1) { Fused = true }, new(1, 3, 1, 8, 1), new(2, 3, 2, 8, 1) { Fused = true }, new(4, 5, 2, 16, 2)],
        Last = 24,
        SmallImages = true,
        NormEpsilon = 1e-3,
        Dropout = 0.1,
        DropPath = 0,
        Classes = 3,
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

    /// <summary>Small options of every kind of backbone.</summary>
    public static IReadOnlyList<BackboneOptions> TinyBackbones => [TinyResNet, TinyMobileNet, TinyConvNeXt, TinyEfficientNet];

    public static TheoryData<string> NetworkNames => [.. Networks.Keys];
}
