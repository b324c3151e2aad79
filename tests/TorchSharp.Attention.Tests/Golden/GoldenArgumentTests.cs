using TorchSharp.Attention.Golden;

namespace TorchSharp.Attention.Tests;

/// <summary>Whether other arguments than the fixtures' build the right module: files made from modules whose options stand here.</summary>
public sealed class GoldenArgumentTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, string, string, int, AttentionOptions> Modules() => new()
    {
        { "se", "timm se", """{"channels":40,"rd_ratio":0.3}""", 40, new SqueezeExcitationOptions { ReducedChannels = 16 } },
        {
            "se", "timm se", """{"channels":40,"rd_ratio":0.25,"rd_divisor":3}""", 40,
            new SqueezeExcitationOptions { ReducedChannels = 9 }
        },
        {
            "se", "timm se", """{"channels":8,"rd_divisor":1,"bias":false}""", 8,
            new SqueezeExcitationOptions { ReducedChannels = 1, Bias = false }
        },
        {
            "se", "timm se", """{"channels":24,"rd_channels":5,"add_maxpool":true,"act_layer":"silu","gate_layer":"hard_sigmoid","norm_layer":null}""", 24,
            new SqueezeExcitationOptions { ReducedChannels = 5, MaxPool = true, Activation = GateActivation.SiLU, Gate = GateFunction.HardSigmoid }
        },
        {
            "se", "timm se", """{"channels":24,"rd_channels":5,"norm_layer":"batchnorm2d"}""", 24,
            new SqueezeExcitationOptions { ReducedChannels = 5, Norm = true }
        },
        {
            "eca", "timm eca", """{"kernel_size":1,"use_mlp":false}""", 12,
            new EfficientChannelAttentionOptions { KernelSize = 1 }
        },
        {
            "eca", "timm eca", """{"channels":128,"kernel_size":null}""", 128,
            new EfficientChannelAttentionOptions { KernelSize = 5 }
        },
        {
            "eca", "timm eca", """{"channels":128,"kernel_size":null,"gamma":1,"beta":0.5}""", 128,
            new EfficientChannelAttentionOptions { KernelSize = 7 }
        },
        {
            "ceca", "timm ceca", """{"channels":9,"kernel_size":7,"gate_layer":"hard_sigmoid"}""", 9,
            new EfficientChannelAttentionOptions { KernelSize = 7, Padding = ChannelPadding.Circular, Gate = GateFunction.HardSigmoid }
        },
        {
            "cbam", "timm cbam", """{"channels":20,"rd_ratio":0.33,"mlp_bias":true,"spatial_kernel_size":5,"gate_layer":"hard_sigmoid"}""", 20,
            new CbamOptions { ReducedChannels = 7, Bias = true, KernelSize = 5, SpatialNorm = true, Gate = GateFunction.HardSigmoid }
        },
        {
            "cbam", "timm cbam", """{"channels":20,"rd_divisor":4}""", 20,
            new CbamOptions { ReducedChannels = 4, SpatialNorm = true }
        },
        {
            "cbam", "attention-module CBAM", """{"channels":20,"reduction":3,"kernel_size":3,"bias":false,"spatial_bn":false}""", 20,
            new CbamOptions { ReducedChannels = 6, KernelSize = 3, MapOrder = SpatialMapOrder.MaxMean }
        },
        {
            "cbam channel", "attention-module CBAM", """{"channels":20,"reduction":3}""", 20,
            new ChannelAttentionOptions { ReducedChannels = 6, Bias = true }
        },
        {
            "bam", "attention-module BAM", """{"channels":20,"reduction":5,"dilation":2,"dilated_convs":3,"merge":"add"}""", 20,
            new BamOptions { ReducedChannels = 4, Dilation = 2, DilatedConvolutions = 3, Norm = BamNorm.Hidden }
        },
        {
            "bam", "attention-module BAM", """{"channels":20,"reduction":5,"dilated_convs":0}""", 20,
            BamOptions.Official with { Reduction = 5, DilatedConvolutions = 0 }
        },
        {
            "eca", "timm eca", """{"channels":100,"kernel_size":5,"use_mlp":true,"act_layer":"gelu","gate_layer":"hard_sigmoid"}""", 100,
            new EfficientChannelAttentionOptions
            {
                KernelSize = 5, Mlp = true, HiddenWidth = 16, Activation = GateActivation.GELU, Gate = GateFunction.HardSigmoid,
            }
        },
        {
            "ese", "timm ese", """{"channels":12,"add_maxpool":true,"gate_layer":"sigmoid"}""", 12,
            new EffectiveSqueezeExcitationOptions { MaxPool = true, Gate = GateFunction.Sigmoid }
        },
        {
            "lcbam", "timm lcbam", """{"channels":20,"rd_ratio":0.33,"mlp_bias":true,"spatial_kernel_size":5,"act_layer":"silu"}""", 20,
            new LightCbamOptions { ReducedChannels = 7, Bias = true, KernelSize = 5, Activation = GateActivation.SiLU }
        },
        {
            "ge", "timm ge", """{"channels":20,"extent":2,"use_mlp":false,"add_maxpool":true,"gate_layer":"hard_sigmoid"}""", 20,
            new GatherExciteOptions { Extent = 2, MaxPool = true, Gate = GateFunction.HardSigmoid }
        },
        {
            "ge", "timm ge", """{"channels":20,"rd_channels":3,"act_layer":"gelu"}""", 20,
            new GatherExciteOptions { Mlp = true, ReducedChannels = 3, Activation = GateActivation.GELU }
        },
        {
            "coord", "timm coord", """{"channels":40,"rd_ratio":0.25,"se_factor":1,"rd_divisor":1,"bias":true,"act_layer":"relu"}""", 40,
            new CoordinateAttentionOptions { ReducedChannels = 10, Activation = GateActivation.ReLU }
        },
        {
            "ge", "timm ge", """{"channels":20,"extent":4,"extra_params":true,"add_maxpool":true,"act_layer":"silu"}""", 20,
            GatherExciteOptions.Timm with { Extent = 4, GatherParameters = true, Activation = GateActivation.SiLU }
        },
        {
            "ge", "timm ge", """{"channels":20,"extra_params":true,"feat_size":[4,7],"use_mlp":false}""", 20,
            GatherExciteOptions.TimmWholeMap(4, 7) with { Mlp = false }
        },
        {
            "coord", "timm coord", """{"channels":40,"rd_channels":4,"has_skip":true}""", 40,
            CoordinateAttentionOptions.Timm with { ReducedChannels = 4, Residual = true }
        },
        { "triplet", "TripletAttention", """{"kernel_size":3}""", 5, new TripletAttentionOptions { KernelSize = 3 } },
        { "simam", "SimAM", """{"lambda":0.02}""", 5, new SimAmOptions { Lambda = 0.02 } },
        { "official.coordatt", "r=4 mip=2", "", 12, new CoordinateAttentionOptions { ReducedChannels = 3 } },
        { "official.eca", "BangguWu k=5", "", 12, new EfficientChannelAttentionOptions { KernelSize = 5 } },
        { "official.senet", "moskomule r=3", "", 12, new SqueezeExcitationOptions { Reduction = 3, Bias = false } },
    };

    [Theory]
    [MemberData(nameof(Modules))]
    public void A_module_is_built_as_its_arguments_say(string kind, string source, string arguments, int channels, AttentionOptions options)
    {
        using DisposeScope scope = NewDisposeScope();
        using AttentionModule module = options.Create(channels);
        GoldenFile file = new(kind, source, arguments);
        Tensor x = randn(2, channels, 6, 6);
        Fill(file, module, name => TheirName(kind, source, name), IsLinear(kind, source), () => module.call(x));
        Passes(file.Add("x", x));
    }

    [Fact]
    public void A_gate_takes_three_different_widths()
    {
        using DisposeScope scope = NewDisposeScope();
        using GuidedAttentionModule gate = new AttentionGateOptions { ReducedChannels = 3 }.Create(channels: 6, guideChannels: 10);
        GoldenFile file = new("attention gate", "MONAI AttentionBlock", """{"f_int":3,"f_g":10,"f_l":6,"spatial_dims":2}""");
        Tensor guide = randn(2, 10, 5, 4), skip = randn(2, 6, 5, 4);
        Fill(file, gate, name => name.Replace(".0.", ".0.conv.", StringComparison.Ordinal), isLinear: false, () => gate.call(skip, guide));
        Passes(file.Add("x", guide).Add("x1", skip));
    }

    public static TheoryData<string, AttentionOptions?> Attentions() => new()
    {
        { "null", null },
        { "\"se\"", SqueezeExcitationOptions.Timm },
        { "\"eca\"", EfficientChannelAttentionOptions.Paper },
        { "\"ceca\"", EfficientChannelAttentionOptions.Circular },
        { "\"cbam\"", CbamOptions.Timm },
    };

    [Theory]
    [MemberData(nameof(Attentions))]
    public void A_network_is_built_as_its_arguments_say(string attention, AttentionOptions? options)
    {
        AttentionPlan plan = options is null ? AttentionPlan.None : AttentionPlan.Of(options);
        using DisposeScope scope = NewDisposeScope();
        using ResNet resNet = new(new ResNetOptions
        {
            Block = ResNetBlock.Bottleneck,
            Layers = [1, 2, 1],
            StagePlanes = [4, 6, 8],
            StemWidth = 10,
            Classes = 7,
            Attention = plan,
        });
        Network(resNet, "timm ResNet", """
            {"block":"Bottleneck","layers":[1,2,1],"stage_planes":[4,6,8],"stem_planes":10,"num_classes":7,"attention":ATTENTION,
            "position":"before the residual add, after the last norm"}
            """.Replace("ATTENTION", attention, StringComparison.Ordinal));
        using MobileNetV2 mobileNet = new(new MobileNetV2Options { WidthMultiplier = 0.35, Classes = 7, Attention = plan });
        Network(mobileNet, "torchvision mobilenet_v2", $$"""{"width_mult":0.35,"num_classes":7,"attention":{{attention}}}""");
    }

    [Theory]
    [InlineData("{}", 64, 16, 8, null)]
    [InlineData("""{"rd_ratio":0.125,"rd_divisor":4}""", 48, 8, 4, null)]
    [InlineData("""{"rd_ratio":0.3}""", 64, 1, null, 16)]
    [InlineData("""{"rd_ratio":0.3333333333333333,"rd_divisor":1}""", 10, 3, 1, null)]
    [InlineData("""{"rd_ratio":0.6,"rd_divisor":1}""", 10, 1, null, 6)]
    [InlineData("""{"rd_ratio":0.001}""", 64, 1000, 8, null)]
    [InlineData("""{"rd_ratio":0.25,"rd_channels":3}""", 64, 1, null, 3)]
    [InlineData("""{"rd_ratio":0.25,"rd_channels":0}""", 64, 4, 8, null)]
    public void A_ratio_asks_our_own_rule_where_it_is_one_over_an_integer(string arguments, int channels, int reduction, int? divisor, int? reduced) =>
        Assert.Equal(
            new TimmAttentions.Reduction(reduction, divisor, reduced), TimmAttentions.ReducedWidth(new ReferenceArguments(arguments), channels, 8));

    [Theory]
    [InlineData("""{"rd_ratio":0}""")]
    [InlineData("""{"rd_ratio":"x"}""")]
    [InlineData("""{"rd_divisor":0}""")]
    [InlineData("""{"rd_divisor":2.5}""")]
    public void A_width_that_means_nothing_is_an_error(string arguments) => Assert.Throws<InvalidDataException>(
        () => TimmAttentions.ReducedWidth(new ReferenceArguments(arguments), 64, 8));

    private void Network(nn.Module<Tensor, Tensor> network, string source, string arguments)
    {
        GoldenFile file = new("network", source, arguments);
        Tensor x = randn(2, 3, 40, 32);
        network.eval();
        Fill(file, network, name => name.Replace(".attn.", ".se.", StringComparison.Ordinal), isLinear: false, () => network.call(x));
        Passes(file.Add("x", x));
    }

    /// <summary>Random state, as the fixtures have it, under the reference's names; and the output.</summary>
    private static void Fill(GoldenFile file, nn.Module module, Func<string, string> theirName, bool isLinear, Func<Tensor> forward)
    {
        using IDisposable quiet = no_grad();
        foreach ((string name, Tensor tensor) in module.state_dict())
        {
            using Scalar from = (name.EndsWith("running_var", StringComparison.Ordinal) ? 0.5 : -0.5).ToScalar();
            if (tensor.dtype == ScalarType.Float32) tensor.copy_(rand_like(tensor).add_(from));
            bool reshaped = isLinear && name.Contains("fc", StringComparison.Ordinal) && tensor.dim() == 4;
            file.Add("state." + theirName(name), reshaped ? tensor.squeeze(-1).squeeze(-1) : tensor);
        }

        module.eval();
        file.Add("y_eval", forward());
    }

    private static bool IsLinear(string kind, string source) =>
        source.StartsWith("attention-module", StringComparison.Ordinal) || kind == "official.senet";

    private static string TheirName(string kind, string source, string name) => (kind, source) switch
    {
        ("cbam", "attention-module CBAM") => name.Replace("channel.fc1", "ChannelGate.mlp.1", StringComparison.Ordinal)
            .Replace("channel.fc2", "ChannelGate.mlp.3", StringComparison.Ordinal)
            .Replace("spatial.conv.", "SpatialGate.spatial.", StringComparison.Ordinal),
        ("cbam channel", _) => name.Replace("fc1", "ChannelGate.mlp.1", StringComparison.Ordinal)
            .Replace("fc2", "ChannelGate.mlp.3", StringComparison.Ordinal),
        ("official.senet", _) => name.Replace("fc1", "fc.0", StringComparison.Ordinal).Replace("fc2", "fc.2", StringComparison.Ordinal),
        ("bam", _) => Bam(name.Split('.')),
        _ => name,
    };

    private static string Bam(string[] name) => name switch
    {
        ["channel", "fc1", var last] => $"channel_att.gate_c.gate_c_fc_0.{last}",
        ["channel", "bn", var last] => $"channel_att.gate_c.gate_c_bn_1.{last}",
        ["channel", "fc2", var last] => $"channel_att.gate_c.gate_c_fc_final.{last}",
        ["spatial", "reduce", var layer, var last] => $"spatial_att.gate_s.gate_s_{layer}_reduce0.{last}",
        ["spatial", "dilated", var i, var layer, var last] => $"spatial_att.gate_s.gate_s_{layer}_di_{i}.{last}",
        [.., var last] => $"spatial_att.gate_s.gate_s_conv_final.{last}",
        _ => throw new ArgumentException("no name", nameof(name)),
    };

    private void Passes(GoldenFile file)
    {
        string path = _folder.PathOf("case.safetensors");
        File.WriteAllBytes(path, file.ToBytes());
        GoldenResult result = GoldenRunner.Run(path);
        Assert.True(result.Outcome == GoldenOutcome.Pass, result.Line());
    }
}
