namespace TorchSharp.Attention.Tests;

/// <summary>Parameter and multiply-accumulate counts of published networks, exact.</summary>
public sealed class PublishedCountTests
{
    private static readonly SqueezeExcitationOptions TimmSe = SqueezeExcitationOptions.Timm;

    private static readonly EfficientChannelAttentionOptions Eca = EfficientChannelAttentionOptions.Paper;

    public static TheoryData<string, long> ParameterAnchors => new()
    {
        { "resnet18", 11_689_512 },
        { "resnet34", 21_797_672 },
        { "resnet50", 25_557_032 },
        { "resnet101", 44_549_160 },
        { "resnet152", 60_192_808 },
        { "resnet50 se timm", 28_088_024 },
        { "resnet50 se timm, no biases", 28_071_976 },
        { "resnet18 se timm", 11_779_624 },
        { "resnet18 se paper", 11_778_592 },
        { "resnet18 cbam official", 11_779_392 },
        { "resnet34 cbam official", 21_960_468 },
        { "resnet50 cbam official", 28_089_624 },
        { "resnet101 cbam official", 49_330_172 },
        { "resnet50 cbam timm", 28_073_576 },
        { "resnet18 bam official", 11_712_503 },
        { "resnet34 bam official", 21_820_663 },
        { "resnet50 bam official", 25_915_099 },
        { "resnet101 bam official", 44_907_227 },
        { "resnet50 eca", 25_557_118 },
        { "resnet50 eca by stage", 25_557_112 },
        { "mobilenetv2", 3_504_872 },
        { "mobilenetv2 eca", 3_504_903 },
        { "mobilenetv2 se", 3_890_688 },
        { "convnext-tiny", 28_589_128 },
        { "convnext-small", 50_223_688 },
        { "convnext-base", 88_591_464 },
        { "efficientnet-b0", 5_288_548 },
        { "efficientnet-b1", 7_794_184 },
        { "efficientnet-b2", 9_109_994 },
        { "efficientnet-b3", 12_233_232 },
        { "efficientnet-v2-s", 21_458_488 },
    };

    public static TheoryData<string, long> MultiplyAccumulateAnchors => new()
    {
        { "resnet18", 1_814_073_344 },
        { "resnet34", 3_663_761_408 },
        { "resnet50", 4_089_184_256 },
        { "resnet101", 7_801_405_440 },
        { "resnet50 se timm", 4_091_699_200 },
        { "resnet50 eca", 4_089_272_064 },
        { "resnet50 cbam timm", 4_095_573_110 },
        { "resnet50 bam official", 4_171_331_328 },
        { "mobilenetv2", 300_774_272 },
    };

    [Theory]
    [MemberData(nameof(ParameterAnchors))]
    public void Parameters_are_those_of_the_published_network(string name, long expected)
    {
        using nn.Module<Tensor, Tensor> network = Build(name);
        Assert.Equal(expected, network.parameters().Sum(parameter => parameter.numel()));
    }

    /// <summary>MONAI's AttentionUnet: channels (3, 4, 5), strides (1, 2), transposed convolutions of 5×5, kernels of 5×5 and 7×7.</summary>
    [Theory]
    [InlineData(5, 3_534)]
    [InlineData(7, 5_574)]
    public void Parameters_of_the_attention_unet_are_those_of_the_released_network(int kernel, long expected)
    {
        using UNet network = new(UNetOptions.AttentionUNet with
        {
            InputChannels = 1,
            Classes = 2,
            Widths = [3, 4, 5],
            Strides = [1, 2],
            KernelSize = kernel,
            UpKernelSize = 5,
        });
        Assert.Equal(expected, network.parameters().Sum(parameter => parameter.numel()));
    }

    [Theory]
    [MemberData(nameof(MultiplyAccumulateAnchors))]
    public void Multiply_accumulates_are_those_of_the_published_network(string name, long expected)
    {
        using nn.Module<Tensor, Tensor> network = Build(name);
        network.train();
        Assert.Equal(expected, ModelCost.Measure(network, 1, 3, 224, 224).MultiplyAccumulates);
        Assert.True(network.training);
        Assert.Equal(3 * expected, ModelCost.Measure(network, 3, 3, 224, 224).MultiplyAccumulates);
    }

    /// <summary>The CBAM and BAM papers count a network with the stride on the first 1×1 of a bottleneck.</summary>
    [Theory]
    [InlineData(true, false, 3_857_973_248)]
    [InlineData(true, true, 3_860_488_192)]
    [InlineData(false, true, 4_091_699_200)]
    public void Multiply_accumulates_of_a_users_network_are_those_of_the_published_one(bool strideFirst, bool excited, long expected)
    {
        using UserResNet network = new(strideFirst, channels => excited ? new SqueezeExcitation(channels, TimmSe) : null);
        ModelCost cost = ModelCost.Measure(network, 1, 3, 224, 224);
        Assert.Equal(expected, cost.MultiplyAccumulates);
        Assert.Empty(cost.NotCounted);
    }

    /// <summary>thop adds 4 for each of the 11,113,984 values in batch norms, and (49 + 1) · 2048 for the pooling; fvcore 2 and 49 · 2048.</summary>
    [Fact]
    public void Other_conventions_count_what_their_programs_count()
    {
        using ResNet network = ResNet.ResNet50();
        ModuleCost cost = ModelCost.Measure(network, 1, 3, 224, 224).Total;
        Assert.Equal(4_089_184_256 + (2 * 11_113_984), cost.Operations(CostConvention.Fvcore));
        Assert.Equal(4_089_184_256 + (4 * 11_113_984), cost.Operations(CostConvention.Thop));

        // The same network with its pooling as a module, as torchvision has it.
        using UserResNet pooled = new(strideFirst: false, _ => null);
        cost = ModelCost.Measure(pooled, 1, 3, 224, 224).Total;
        Assert.Equal((25_557_032, 4_089_184_256), (cost.Parameters, cost.MultiplyAccumulates));
        Assert.Equal(4_133_742_592, cost.Operations(CostConvention.Thop));
        Assert.Equal(4_111_412_224 + 100_352, cost.Operations(CostConvention.Fvcore));
    }

    /// <summary>Non-local ResNet-50: thop says 5.80 G, since it sees no product that is a function; the truth is 8.00 G.</summary>
    [Fact]
    public void Functional_products_are_what_thop_misses()
    {
        using ResNet network = ResNet.ResNet50(attention: AttentionPlan.Of(NonLocalOptions.Timm));
        ModuleCost cost = ModelCost.Measure(network, 1, 3, 224, 224).Total;
        const long Projections = 16 * 784L * 512 * 64 * 4;
        const long Products = (3 * 2 * 3136L * 3136 * 32) + (4 * 2 * 784L * 784 * 64) + (6 * 2 * 196L * 196 * 128) + (3 * 2 * 49L * 49 * 256);
        const long Norms = (3 * 3136 * 256) + (4 * 784 * 512) + (6 * 196 * 1024) + (3 * 49 * 2048);
        Assert.Equal(4_089_184_256 + Projections + Products, cost.MultiplyAccumulates);
        Assert.Equal(4_089_184_256 + Projections + (4 * (11_113_984 + Norms)), cost.Operations(CostConvention.Thop));
        Assert.Equal("8.00 and 5.80", FormattableString.Invariant($"{cost.MultiplyAccumulates / 1e9:F2} and {cost.Operations(CostConvention.Thop) / 1e9:F2}"));
    }

    /// <summary>ECANet prints its parameters in units of 2²⁰.</summary>
    [Fact]
    public void Released_counts_of_eca_are_in_binary_units()
    {
        using ResNet network = ResNet.ResNet50(attention: AttentionPlan.Of(Eca));
        long parameters = network.parameters().Sum(parameter => parameter.numel());
        Assert.Equal("24.37", FormattableString.Invariant($"{parameters / (double)(1 << 20):F2}"));
    }

    [Fact]
    public void Self_attention_counts_its_functional_products()
    {
        using SelfAttention2d attention = new(64, new SelfAttention2dOptions { Heads = 4 });
        const long Positions = 6 * 5;
        const long Projections = Positions * 64 * (3 * 64 + 64);
        Assert.Equal(2 * (Projections + 2 * Positions * Positions * 64), ModelCost.Measure(attention, 2, 64, 6, 5).MultiplyAccumulates);
    }

    [Fact]
    public void Attention_over_sequences_counts_its_projections_and_products()
    {
        using Sequences model = new();
        const long Projections = 2 * 7 * 16 * 16 * 4, Products = 2 * 2 * 7 * 7 * 16;
        Assert.Equal(Projections + Products, ModelCost.Measure(model, 2, 7, 16).MultiplyAccumulates);

        using Crossed crossed = new();
        const long Layers = 2 * 15 * 16 * 16 * 4, Weighing = 2 * 2 * 15 * 15 * 16;
        Assert.Equal(Layers + Weighing, ModelCost.Measure(crossed, 2, 16, 5, 3).MultiplyAccumulates);
    }

    [Fact]
    public void Transposed_convolutions_cost_a_kernel_for_each_input_value()
    {
        using Modules.ConvTranspose1d row = nn.ConvTranspose1d(4, 6, 3, stride: 2, groups: 2);
        using Modules.ConvTranspose2d map = nn.ConvTranspose2d(4, 6, 3, stride: 2);
        using Modules.ConvTranspose3d volume = nn.ConvTranspose3d(4, 6, 2);
        Assert.Equal(4 * 5 * 3 * 3, ModelCost.Measure(row, 1, 4, 5).MultiplyAccumulates);
        Assert.Equal(4 * 5 * 7 * 6 * 9, ModelCost.Measure(map, 1, 4, 5, 7).MultiplyAccumulates);
        Assert.Equal(2 * 4 * 2 * 3 * 4 * 6 * 8, ModelCost.Measure(volume, 2, 4, 2, 3, 4).MultiplyAccumulates);
    }

    [Fact]
    public void Measuring_restores_the_mode_of_every_module()
    {
        using ResNet network = new(Cases.TinyResNet);
        network.train();
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        modules["layer2.0.bn1"].eval();
        ModelCost.Measure(network, 1, 3, 8, 8);
        Assert.All(modules, m => Assert.Equal(m.Key != "layer2.0.bn1", m.Value.training));
    }

    private static FeatureNetwork Build(string name)
    {
        string[] words = name.Split(' ', 2);
        AttentionPlan plan = words.Length == 1 ? AttentionPlan.None : words[1] switch
        {
            "se timm" => AttentionPlan.Of(TimmSe),
            "se timm, no biases" => AttentionPlan.Of(TimmSe with { Bias = false }),
            "se paper" => AttentionPlan.Of(SqueezeExcitationOptions.Paper),
            "cbam official" => AttentionPlan.Of(CbamOptions.Official),
            "cbam timm" => AttentionPlan.Of(CbamOptions.Timm),
            "bam official" => AttentionPlan.Of(BamOptions.Official, AttentionPosition.StageEnd).InStages(1, 2, 3),
            "eca" when words[0] == "mobilenetv2" => AttentionPlan.Of(Eca with { KernelSize = 1 }).Where(site => site.Channels < 96)
                .Add(Eca with { KernelSize = 3 }).Where(site => site.Channels >= 96),
            "eca" => AttentionPlan.Of(Eca),
            "eca by stage" => AttentionPlan.Of(Eca with { KernelSize = 3 }).InStages(1)
                .Add(Eca with { KernelSize = 5 }).InStages(2, 3).Add(Eca with { KernelSize = 7 }).InStages(4),
            "se" => AttentionPlan.Of(TimmSe with { Reduction = 24 }, AttentionPosition.AfterDepthwise),
            _ => throw new ArgumentException(name),
        };
        return words[0] switch
        {
            "resnet18" => ResNet.ResNet18(attention: plan),
            "resnet34" => ResNet.ResNet34(attention: plan),
            "resnet50" => ResNet.ResNet50(attention: plan),
            "resnet101" => ResNet.ResNet101(attention: plan),
            "resnet152" => ResNet.ResNet152(attention: plan),
            "mobilenetv2" => new MobileNetV2(new MobileNetV2Options { Attention = plan }),
            "convnext-tiny" => ConvNeXt.Tiny(attention: plan),
            "convnext-small" => ConvNeXt.Small(attention: plan),
            "convnext-base" => ConvNeXt.Base(attention: plan),
            "efficientnet-b0" => EfficientNet.B0(attention: plan),
            "efficientnet-b1" => EfficientNet.B1(attention: plan),
            "efficientnet-b2" => EfficientNet.B2(attention: plan),
            "efficientnet-b3" => EfficientNet.B3(attention: plan),
            "efficientnet-v2-s" => EfficientNet.V2Small(attention: plan),
            _ => throw new ArgumentException(name),
        };
    }

    private sealed class Sequences : nn.Module<Tensor, Tensor>
    {
        private readonly MultiHeadAttention _attention = new(16, new MultiHeadAttentionOptions { Heads = 4 });

        public Sequences()
            : base(nameof(Sequences)) => RegisterComponents();

        public override Tensor forward(Tensor input) => _attention.call(input);
    }

    private sealed class Crossed : nn.Module<Tensor, Tensor>
    {
        private readonly CrossAttention _attention = new(16, 16, new CrossAttentionOptions { Heads = 4 });

        public Crossed()
            : base(nameof(Crossed)) => RegisterComponents();

        public override Tensor forward(Tensor input) => _attention.call(input, input);
    }
}
