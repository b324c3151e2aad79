namespace TorchSharp.Attention.Golden;

/// <summary>One small network with a random plan, as it is or fused for inference.</summary>
internal sealed record NetworkTrial(
    int Seed, int Number, int Threads, TeamKind Team, KernelThresholds Thresholds, int Draw, string Network, object Options, bool Fuses, bool Training, int Batch, int Height, int Width,
    MapPlace Place)
    : KernelTrial(Seed, Number, Threads, Team, Thresholds, Draw)
{
    private static readonly AttentionPosition[] _branches = [AttentionPosition.ReplaceSpatialConv];

    /// <inheritdoc/>
    public override int Repeats => Training ? 2 : 4;

    public static NetworkTrial Of(Random random, int seed, int number, int threads, TeamKind team, KernelThresholds thresholds, int draw)
    {
        string network = random.Pick("ResNet", "ResNet", "MobileNetV2", "UNet", "ConvNeXt", "EfficientNet");
        object options = network switch
        {
            "ResNet" => Planned(random, new ResNetOptions
            {
                Block = random.Pick(ResNetBlock.Basic, ResNetBlock.Bottleneck),
                Layers = random.Pick<ValueList<int>>([1, 1], [2, 1, 1], [1, 1, 1, 1]),
                StagePlanes = null,
                StemWidth = random.Pick(8, 16, 32, 64),
                Stem = random.Pick(ResNetStem.Small, ResNetStem.Standard),
                Classes = 5,
            }),
            "MobileNetV2" => Planned(random, new MobileNetV2Options
            {
                WidthMultiplier = random.Pick(0.1, 0.25, 0.35),
                Classes = 5,
                Dropout = 0,
                SmallImages = random.Next(2) == 0,
            }),
            "ConvNeXt" => Planned(random, new ConvNeXtOptions
            {
                Blocks = random.Pick<ValueList<int>>([1], [1, 1], [1, 2]),
                Channels = null!,
                PatchSize = random.Pick(1, 2, 4),
                LayerScale = random.Pick(0.1, 1.0),
                DropPath = 0,
                Classes = 5,
            }),
            "EfficientNet" => Planned(random, new EfficientNetOptions
            {
                Stem = 8,
                Stages =
                [
                    new(1, 3, 1, 8, 1) { Fused = random.Next(2) == 0 }, new(random.Pick(2, 4), 3, 2, 16, 1) { Fused = true },
                    new(random.Pick(3, 6), random.Pick(3, 5), 2, random.Pick(16, 24), random.Next(1, 3)),
                ],
                NormEpsilon = random.Pick(1e-5, 1e-3),
                SqueezeExcitation = random.Next(4) > 0,
                SmallImages = random.Next(2) == 0,
                DropPath = 0,
                Dropout = 0,
                Classes = 5,
            }),
            _ => Planned(random, new UNetOptions
            {
                Widths = random.Pick<ValueList<int>>([4, 8], [8, 12, 16], [4, 8, 8, 8]),
                Norm = random.Pick(UNetNorm.Batch, UNetNorm.Batch, UNetNorm.Batch, UNetNorm.Instance),
                UpSampling = random.Pick(Enum.GetValues<UNetUpSampling>()),
                Decoder = random.Pick(Enum.GetValues<UNetDecoder>()),
                Classes = 2,
            }),
        };
        bool training = random.NextDouble() < 0.35;
        int batch = random.Pick(1, 2, 3, 3, 5, 7, 7, 11), side = network == "UNet" ? 16 * random.Next(1, 5) : random.Next(24, 100);
        int width = random.NextDouble() < 0.3 || network == "UNet" ? side : random.Next(24, 100);
        return new NetworkTrial(
            seed, number, threads, team, thresholds, draw, network, options, !training && random.Next(2) == 0, training, training ? Math.Max(3, batch) : batch, side, width,
            random.NextDouble() < 0.7 ? MapPlace.Planes : MapPlace.Pixels);
    }

    public override IKernelSubject Build() => new NetworkSubject(this);

    /// <summary>Builds the network anew.</summary>
    public FeatureNetwork Create() => Options switch
    {
        BackboneOptions backbone => backbone.Create(),
        UNetOptions net => new UNet(net),
        _ => throw new InvalidOperationException(Network),
    };

    public override string ToString()
    {
        string options = Options is BackboneOptions backbone ? $"{backbone.ToJson()}" : $"{Options} {((UNetOptions)Options).Attention.ToJson()}";
        return $"{Network}{(Fuses ? ", fused for inference," : Training ? " in training" : "")} {options}, {Batch}x3x{Height}x{Width} {Place}, {Where}";
    }

    private static ResNetOptions Planned(Random random, ResNetOptions options)
    {
        options = options with { StagePlanes = [.. options.Layers.Select((_, stage) => Math.Min(64, 8 << stage))] };
        return options with { Attention = Plan(random, options.Sites()) };
    }

    private static ConvNeXtOptions Planned(Random random, ConvNeXtOptions options)
    {
        options = options with { Channels = [.. options.Blocks.Select((_, stage) => random.Pick(8, 16, 24) << stage)] };
        return options with { Attention = Plan(random, options.Sites()) };
    }

    private static EfficientNetOptions Planned(Random random, EfficientNetOptions options) => options with { Attention = Plan(random, options.Sites()) };

    private static MobileNetV2Options Planned(Random random, MobileNetV2Options options) => options with { Attention = Plan(random, options.Sites()) };

    private static UNetOptions Planned(Random random, UNetOptions options) => options with { Attention = Plan(random, options.Sites()) };

    private static AttentionPlan Plan(Random random, IReadOnlyList<AttentionSite> sites)
    {
        AttentionPlan plan = AttentionPlan.None;
        AttentionPosition[] positions = [.. sites.Select(site => site.Position).Distinct().Except(_branches).Order()];
        int rules = random.Next(1, 4);
        for (int rule = 0; rule < rules; rule++)
        {
            AttentionPosition position = random.Next(2) == 0 && positions.Contains(AttentionPosition.BeforeAdd) ? AttentionPosition.BeforeAdd : random.Pick(positions);
            int[] channels = [.. sites.Where(site => site.Position == position).Select(site => site.Channels).Distinct().Order()];
            string kind = OptionDraw.RefiningKind(random);
            if (OptionDraw.Draw(random, kind, channels, 0, 0) is { } attention) plan = plan.Add(attention, position);
        }

        return plan;
    }
}
