namespace TorchSharp.Attention.Golden;

/// <summary>The arguments and names of timm's ResNet, torchvision's MobileNetV2 and MONAI's AttentionUnet as ours.</summary>
internal static class Networks
{
    private static readonly ReferenceArguments Defaults = new(null);

    private static readonly KeyMap MobileNetV2Keys = new(new KeyRule(@"^features\.(?<block>\d+)\.se\.", "features.${block}.attn."));

    public static Blueprint Build(GoldenCase golden)
    {
        if (Is("timm ResNet") || Is("torchvision ResNet")) return ResNet(golden);
        if (Is("torchvision mobilenet_v2")) return MobileNetV2(golden.Arguments);
        if (Is("MONAI AttentionUnet")) return AttentionUNet(golden);
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
        return new Blueprint(() => new ResNet(options), KeyMaps.TimmResNet, IsNetwork: true);
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

    private static Blueprint AttentionUNet(GoldenCase golden)
    {
        ReferenceArguments arguments = golden.Arguments;
        if (arguments.Integer("spatial_dims", 2) != 2) throw new InvalidDataException("the argument 'spatial_dims' is not 2");
        if (arguments.Number("dropout", 0) != 0)
        {
            throw new InvalidDataException("the argument 'dropout' is not 0: its draws cannot be repeated");
        }

        ValueList<int> channels = arguments.Integers("channels");
        UNetOptions options = UNetOptions.AttentionUNet with
        {
            InputChannels = Required("in_channels"),
            Classes = Required("out_channels"),
            Widths = channels,
            Strides = arguments.Integers("strides"),
            KernelSize = arguments.Integer("kernel_size", 3),
            UpKernelSize = arguments.Integer("up_kernel_size", 3),
        };
        return new Blueprint(() => new UNet(options), AttentionUNetKeys(channels.Count - 1), IsNetwork: true);

        int Required(string name) => arguments.Integer(name) ?? throw new InvalidDataException($"the argument '{name}' is missing");
    }

    /// <summary>MONAI nests each level in the one above: <c>model.1</c>, <c>model.1.submodule.1</c>, …; the last submodule is the bottleneck.</summary>
    private static KeyMap AttentionUNetKeys(int depth)
    {
        List<KeyRule> rules = [new(@"^model\.2\.conv\.", "head.")];
        Block(@"model\.0", "encoder1");
        string at = @"^model\.1\.";
        for (int level = 1; level <= depth; level++)
        {
            rules.Add(new(at + @"attention\.(?<branch>W_g|W_x|psi)\.0\.conv\.", $"skip{level}_attn.${{branch}}.0."));
            rules.Add(new(at + @"attention\.", $"skip{level}_attn."));
            rules.Add(new(at + @"upconv\.up\.conv\.", $"up{level}.conv."));
            rules.Add(new(at + @"upconv\.up\.adn\.N\.", $"up{level}.norm."));
            rules.Add(new(at + @"merge\.conv\.", $"decoder{level}.conv."));
            rules.Add(new(at + @"merge\.adn\.A\.", $"decoder{level}.act."));
            if (level < depth) Block(at[1..] + @"submodule\.0", $"encoder{level + 1}");
            else Block(at[1..] + "submodule", "bottleneck");
            at += @"submodule\.1\.";
        }

        return new KeyMap([.. rules]);

        void Block(string theirs, string ours)
        {
            for (int i = 0; i < 2; i++)
            {
                rules.Add(new($@"^{theirs}\.conv\.{i}\.conv\.", $"{ours}.conv{i + 1}."));
                rules.Add(new($@"^{theirs}\.conv\.{i}\.adn\.N\.", $"{ours}.norm{i + 1}."));
            }
        }
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
