namespace TorchSharp.Attention.Golden;

/// <summary>The arguments and names of timm's ResNet and torchvision's MobileNetV2 as ours.</summary>
internal static class Networks
{
    private static readonly KeyMap ResNetKeys =
        new(new KeyMap.Rule(@"^layer(?<stage>\d+)\.(?<block>\d+)\.se\.", "layer${stage}.${block}.attn."));

    private static readonly KeyMap MobileNetV2Keys = new(new KeyMap.Rule(@"^features\.(?<block>\d+)\.se\.", "features.${block}.attn."));

    public static Blueprint Build(GoldenCase golden)
    {
        if (Is("timm ResNet") || Is("torchvision ResNet")) return ResNet(golden);
        if (Is("torchvision mobilenet_v2")) return MobileNetV2(golden.Arguments);
        throw new NotCoveredException($"network '{golden.Source}' has no counterpart yet");

        bool Is(string source) => golden.Source.StartsWith(source, StringComparison.Ordinal);
    }

    private static Blueprint ResNet(GoldenCase golden)
    {
        ReferenceArguments arguments = golden.Arguments;
        ValueList<int> layers = arguments.Integers("layers");
        foreach (int blocks in layers) golden.CheckLayers("layers", blocks);
        ResNetOptions options = new()
        {
            Block = arguments.Choice("block", "", ("BasicBlock", ResNetBlock.Basic), ("Bottleneck", ResNetBlock.Bottleneck)),
            Layers = layers,
            StemWidth = arguments.Integer("stem_planes", 64),
            StagePlanes = arguments.Integers("stage_planes"),
            InputChannels = arguments.Integer("in_chans", 3),
            Classes = arguments.Integer("num_classes", 1000),
            Attention = Plan(arguments),
        };
        return new Blueprint(() => new ResNet(options), ResNetKeys, IsNetwork: true);
    }

    private static Blueprint MobileNetV2(ReferenceArguments arguments)
    {
        // The reference's draws of dropout cannot be repeated, so only files made without can be compared.
        MobileNetV2Options options = new()
        {
            WidthMultiplier = arguments.Number("width_mult", 1),
            RoundingDivisor = arguments.Integer("round_nearest", 8),
            Classes = arguments.Integer("num_classes", 1000),
            Attention = Plan(arguments),
            Dropout = 0,
        };
        if (arguments.Number("dropout", 0) != 0)
        {
            throw new InvalidDataException("the argument 'dropout' is not 0: its draws cannot be repeated");
        }

        return new Blueprint(() => new MobileNetV2(options), MobileNetV2Keys, IsNetwork: true);
    }

    /// <summary>timm names an attention and builds it with its defaults, before the residual addition, as <c>se</c>.</summary>
    private static AttentionPlan Plan(ReferenceArguments arguments)
    {
        string? name = arguments.Text("attention"), position = arguments.Text("position");
        if (name is null) return AttentionPlan.None;
        if (position is not null && !position.StartsWith("before the residual add", StringComparison.Ordinal))
        {
            throw new InvalidDataException($"the argument 'position' is \"{position}\"; supported: \"before the residual add\"");
        }

        AttentionOptions attention = name switch
        {
            "se" => SqueezeExcitationOptions.Timm,
            "eca" => EfficientChannelAttentionOptions.Paper,
            "ceca" => EfficientChannelAttentionOptions.Circular,
            "cbam" => CbamOptions.Timm,
            "bam" => throw new InvalidDataException("the argument 'attention' is \"bam\"; these networks have no place and no names for it"),
            _ => throw new NotCoveredException($"attention '{name}' in a network has no module yet"),
        };
        return AttentionPlan.Of(attention);
    }
}
