using Samples;
using Samples.Data;
using TorchSharp.Attention;

namespace Deployment;

/// <summary>One network of the comparison.</summary>
internal sealed record Candidate(string Network, string Attention, BackboneOptions Options)
{
    /// <summary>Name of its files.</summary>
    public string Name => $"{Network}-{Attention}";

    /// <summary>ResNet and MobileNetV2, plain and with three attentions. In a ResNet they stand before the addition, in a MobileNetV2 after the depthwise convolution.</summary>
    public static IReadOnlyList<Candidate> All(DataSet data)
    {
        (string Name, AttentionOptions? Options)[] attentions =
        [
            ("plain", null),
            ("se", new SqueezeExcitationOptions { Reduction = 4 }),
            ("eca", new EfficientChannelAttentionOptions()),
            ("cbam", new CbamOptions { Reduction = 4, KernelSize = 3 }),
        ];
        return
        [
            .. attentions.Select(attention => new Candidate("resnet", attention.Name, SmallNetworks.ResNet(data, Plan(attention.Options, AttentionPosition.BeforeAdd)))),
            .. attentions.Select(attention => new Candidate("mobilenetv2", attention.Name, SmallNetworks.MobileNetV2(data, Plan(attention.Options, AttentionPosition.AfterDepthwise)))),
        ];
    }

    /// <summary>For 224 × 224 pixels and a thousand classes, with weights as built: only for time.</summary>
    public static IReadOnlyList<Candidate> Large { get; } =
    [
        new("resnet50", "plain", ResNet50(AttentionPlan.None)),
        new("resnet50", "cbam", ResNet50(AttentionPlan.Of(CbamOptions.Timm))),
        new("mobilenetv2", "plain", new MobileNetV2Options()),
        new("mobilenetv2", "cbam", new MobileNetV2Options { Attention = AttentionPlan.Of(CbamOptions.Timm) }),
    ];

    /// <summary>The network's copy for inference.</summary>
    public static FeatureNetwork Fuse(FeatureNetwork network) => network is ResNet resnet ? resnet.FuseForInference() : ((MobileNetV2)network).FuseForInference();

    private static ResNetOptions ResNet50(AttentionPlan plan)
    {
        using ResNet network = ResNet.ResNet50(attention: plan);
        return network.Options;
    }

    private static AttentionPlan Plan(AttentionOptions? options, AttentionPosition position) => options is null ? AttentionPlan.None : AttentionPlan.Of(options, position);
}
