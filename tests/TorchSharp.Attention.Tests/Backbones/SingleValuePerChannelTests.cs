using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// A batch norm in training that would see a single value per channel: networks refuse the batch before anything changes, attentions work on it, and users' norms can
/// be guarded.
/// </summary>
public sealed class SingleValuePerChannelTests
{
    private static readonly Dictionary<string, (Func<FeatureNetwork> Create, string Norm, int Side)> Networks = new()
    {
        ["resnet-18"] = (() => ResNet.ResNet18(4), "layer4.0.bn1", 32),
        ["resnet-18 of se"] = (() => ResNet.ResNet18(4, AttentionPlan.Of(new SqueezeExcitationOptions())), "layer4.0.bn1", 32),
        ["resnet-18 of cbam, norm pending"] = (() => ResNet.ResNet18(4, AttentionPlan.Of(new CbamOptions())), "layer4.0.bn1", 32),
        ["bottlenecks"] = (() => new ResNet(Tiny with { Block = ResNetBlock.Bottleneck }), "layer3.0.bn2", 16),
        ["bottlenecks of branches"] = (() => new ResNet(Tiny with
        {
            Block = ResNetBlock.Bottleneck,
            Attention = AttentionPlan.Of(new SelectiveKernelOptions(), AttentionPosition.ReplaceSpatialConv),
        }), "layer3.0.bn3", 16),
        ["small stem"] = (() => new ResNet(Tiny with { Stem = ResNetStem.Small }), "layer3.0.bn1", 4),
        ["mobilenet"] = (() => new MobileNetV2(new MobileNetV2Options { WidthMultiplier = 0.35 }), "features.14.conv.1.1", 32),
        ["mobilenet of branches"] = (() => new MobileNetV2(new MobileNetV2Options
        {
            WidthMultiplier = 0.35,
            Attention = AttentionPlan.Of(new SelectiveKernelOptions(), AttentionPosition.ReplaceSpatialConv),
        }), "features.14.conv.3", 32),
        ["unet on resnet"] = (() => new UNet(new UNetOptions { Encoder = Tiny }), "layer3.0.bn1", 16),
        ["unet on mobilenet"] = (() => new UNet(new UNetOptions { Encoder = new MobileNetV2Options { WidthMultiplier = 0.35 } }), "features.14.conv.1.1", 32),
    };

    public static TheoryData<string> Names => [.. Networks.Keys];

    private static ResNetOptions Tiny => new() { Layers = [1, 1, 1], StagePlanes = [4, 4, 8], StemWidth = 4, Classes = 3 };

    [Theory]
    [MemberData(nameof(Names))]
    public void One_image_that_ends_at_one_position_is_refused_before_anything_changes(string name)
    {
        (Func<FeatureNetwork> create, string norm, int side) = Networks[name];
        using DisposeScope scope = NewDisposeScope();
        using FeatureNetwork network = create();
        network.train();
        network.call(randn(2, 3, side, side)).sum().backward();
        Dictionary<string, Tensor> before = network.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());

        foreach (Action act in new Action[] { () => network.call(randn(1, 3, side, side)), () => network.Features(randn(1, 3, side, side)), () => network.call(randn(1, 3, side, 1)) })
        {
            ArgumentException error = Assert.Throws<ArgumentException>(act);
            Assert.Equal("input", error.ParamName);
            Assert.StartsWith($"Expected more than 1 value per channel when training: the norm '{norm}' of ", error.Message, StringComparison.Ordinal);
            Assert.Contains("eval()", error.Message, StringComparison.Ordinal);
            foreach ((string key, Tensor value) in network.state_dict()) Near.Identical(before[key], value);
        }

        // What PyTorch takes, too: evaluation, two images, one position more. And one that has no sample changes no statistic.
        network.call(randn(2, 3, side, side)).sum().backward();
        network.call(randn(1, 3, side, side + 1)).sum().backward();
        Assert.All(network.state_dict(), entry => Assert.True(entry.Value.isfinite().all().item<bool>(), entry.Key));
        network.eval();
        Assert.True(network.call(randn(1, 3, side, side)).isfinite().all().item<bool>());
    }

    [Fact]
    public void An_empty_batch_leaves_running_statistics_alone()
    {
        using DisposeScope scope = NewDisposeScope();
        foreach ((string _, (Func<FeatureNetwork> create, _, int side)) in Networks)
        {
            using FeatureNetwork network = create();
            network.train();
            network.call(randn(2, 3, side, side));
            Dictionary<string, Tensor> before = network.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
            network.call(randn(0, 3, side, side));
            foreach ((string key, Tensor value) in network.state_dict())
            {
                if (!key.EndsWith("num_batches_tracked", StringComparison.Ordinal)) Near.Identical(before[key], value);
            }
        }
    }

    [Fact]
    public void Norms_in_evaluation_mode_inside_a_network_in_training_take_one_value()
    {
        using DisposeScope scope = NewDisposeScope();
        using ResNet network = new(Tiny);
        network.train();
        foreach ((string name, nn.Module module) in network.named_modules())
        {
            if (name.StartsWith("layer3", StringComparison.Ordinal) && module is BatchNorm2d) module.eval();
        }

        Tensor variance = network.state_dict()["layer3.0.bn1.running_var"].clone();
        network.call(randn(1, 3, 16, 16)).sum().backward();
        Near.Identical(variance, network.state_dict()["layer3.0.bn1.running_var"]);
        Assert.All(network.state_dict(), entry => Assert.True(entry.Value.isfinite().all().item<bool>(), entry.Key));

        // One of them back in training, and the network itself in evaluation: the norm's own mode counts.
        network.eval();
        network.named_modules().Single(entry => entry.name == "layer3.0.downsample.1").module.train();
        Assert.Contains("'layer3.0.downsample.1'", Assert.Throws<ArgumentException>(() => network.call(randn(1, 3, 16, 16))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_block_alone_refuses_too()
    {
        using DisposeScope scope = NewDisposeScope();
        using ResNet network = new(Tiny);
        network.train();
        nn.Module<Tensor, Tensor> block = (nn.Module<Tensor, Tensor>)network.named_modules().Single(entry => entry.name == "layer3.0").module;
        Assert.Contains("more than 1 value per channel", Assert.Throws<ArgumentException>(() => block.call(randn(1, 4, 2, 2))).Message, StringComparison.Ordinal);
        foreach (string name in new[] { "layer3.0.bn1", "layer3.0.bn2" }) network.named_modules().Single(entry => entry.name == name).module.eval();
        Assert.Contains("more than 1 value per channel", Assert.Throws<ArgumentException>(() => block.call(randn(1, 4, 2, 2))).Message, StringComparison.Ordinal);
        Assert.All(network.state_dict(), entry => Assert.True(entry.Value.isfinite().all().item<bool>(), entry.Key));
    }

    /// <summary>The plain U-Net's norms work on a single position with their running statistics.</summary>
    [Fact]
    public void A_unet_with_a_bottleneck_of_one_position_stays_right()
    {
        using DisposeScope scope = NewDisposeScope();
        using UNet network = new(new UNetOptions { Widths = [4, 8, 8], UpSampling = UNetUpSampling.TransposedBlock });
        network.train();
        Tensor variance = network.state_dict()["bottleneck.norm1.running_var"].clone(), finest = network.state_dict()["encoder1.norm1.running_var"].clone();
        network.call(randn(1, 3, 4, 4)).sum().backward();
        Near.Identical(variance, network.state_dict()["bottleneck.norm1.running_var"]);
        Assert.NotEqual(finest.Doubles(), network.state_dict()["encoder1.norm1.running_var"].Doubles());
        Assert.All(network.state_dict(), entry => Assert.True(entry.Value.isfinite().all().item<bool>(), entry.Key));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Norms_of_a_users_network_are_guarded_where_the_plan_says_so(bool guarded)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = nn.Sequential(
            ("conv", nn.Conv2d(3, 8, 3, stride: 2, padding: 1)), ("bn", nn.BatchNorm2d(8)), ("relu", nn.ReLU()), ("pool", nn.AdaptiveAvgPool2d(1)),
            ("mix", nn.Conv2d(8, 8, 1)), ("mixed", nn.BatchNorm2d(8)), ("flat", nn.Flatten()), ("fc", nn.Linear(8, 4)), ("last", nn.BatchNorm1d(4)));
        InsertionPlan plan = InsertionPlan.After("relu", new SqueezeExcitationOptions { Reduction = 2 }) with { GuardBatchNorms = guarded };
        plan = plan.AddAfter("conv", new SimAmOptions()).Where((_, _) => true).WithoutIdentityStart();
        Assert.Equal(guarded, plan.GuardBatchNorms);
        InsertionHandle handle = network.InsertAttention(plan, randn(2, 3, 8, 8));
        network.train();
        network.call(randn(2, 3, 8, 8)).sum().backward();
        if (!guarded)
        {
            network.call(randn(1, 3, 8, 8));
            Assert.False(network.state_dict()["mixed.running_var"].isfinite().all().item<bool>(), "TorchSharp throws by itself now: the guard is no longer needed.");
            return;
        }

        Tensor before = network.state_dict()["mixed.running_var"].clone();
        ArgumentException error = Assert.Throws<ArgumentException>(() => network.call(randn(1, 3, 8, 8)));
        Assert.Contains("the norm 'mixed'", error.Message, StringComparison.Ordinal);
        Near.Identical(before, network.state_dict()["mixed.running_var"]);
        network.named_modules().Single(entry => entry.name == "mixed").module.eval();
        Assert.Contains("the norm 'last'", Assert.Throws<ArgumentException>(() => network.call(randn(1, 3, 8, 8))).Message, StringComparison.Ordinal);
        Assert.All(network.state_dict(), entry => Assert.True(entry.Value.isfinite().all().item<bool>(), entry.Key));
        network.eval();
        Assert.Equal([1, 4], network.call(randn(1, 3, 8, 8)).shape);
        network.train();
        handle.Remove();
        network.call(randn(1, 3, 8, 8));
        Assert.False(network.state_dict()["last.running_var"].isfinite().all().item<bool>());
    }

    [Fact]
    public void The_guard_leaves_the_librarys_own_norms_alone()
    {
        using ResNet network = new(Tiny);
        using Tensor x = randn(2, 3, 16, 16);
        network.InsertAttention(InsertionPlan.After("layer1.0.bn1", new BamOptions { Reduction = 2 }) with { GuardBatchNorms = true }, x);
        Assert.All(network.modules().OfType<BatchNorm2d>(), norm => Assert.Equal(0, NormGuard.HooksOn(norm)));
    }

    /// <summary>A map that an attention behind a guarded norm takes the place of is freed as without the guard.</summary>
    [Fact]
    public void The_guard_keeps_no_map()
    {
        using nn.Module<Tensor, Tensor> network = nn.Sequential(("conv", nn.Conv2d(3, 8, 3)), ("bn", nn.BatchNorm2d(8)), ("relu", nn.ReLU()));
        using Tensor x = randn(2, 3, 8, 8);
        network.InsertAttention(InsertionPlan.After("bn", new SqueezeExcitationOptions { Reduction = 2 }) with { GuardBatchNorms = true }, x);
        network.eval();
        using IDisposable quiet = no_grad();
        network.call(x).Dispose();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 20; i++) network.call(x).Dispose();
        Assert.Equal(before, LiveTensors.OfThread);
    }
}
