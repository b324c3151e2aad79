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

    public static TheoryData<string> NetworkNames => [.. Networks.Keys];
}
