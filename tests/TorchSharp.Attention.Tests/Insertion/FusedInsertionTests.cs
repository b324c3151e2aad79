using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Attention that was inserted into a network is in its fused copy, at every place where it can stand.</summary>
public sealed class FusedInsertionTests
{
    private static readonly Dictionary<string, Func<FeatureNetwork>> Networks = new()
    {
        ["resnet of basic blocks"] = () => new ResNet(Cases.TinyResNet with { Layers = [1, 2], StagePlanes = [4, 8], Stem = ResNetStem.Standard }),
        ["resnet of bottlenecks"] = () => new ResNet(Cases.TinyResNet with { Block = ResNetBlock.Bottleneck, Layers = [2, 1], StagePlanes = [4, 4] }),
        ["resnet with attention and branches"] = () => new ResNet(Cases.TinyResNet with
        {
            Layers = [1, 1],
            StagePlanes = [4, 8],
            Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 2 }).Add(new SelectiveKernelOptions(), AttentionPosition.ReplaceSpatialConv).InStages(2)
                .Add(new BamOptions { Reduction = 2 }, AttentionPosition.StageEnd),
        }),
        ["mobilenet"] = () => new MobileNetV2(Cases.TinyMobileNet),
        ["unet, norms everywhere"] = () => new UNet(new UNetOptions { Widths = [4, 6, 8], UpSampling = UNetUpSampling.TransposedBlock, ConvolutionBias = true }),
        ["unet, bilinear"] = () => new UNet(new UNetOptions { Widths = [4, 8], UpSampling = UNetUpSampling.Bilinear }),
        ["unet, instance norm, merge"] = () => new UNet(UNetOptions.AttentionUNet with { Widths = [4, 6, 8], Norm = UNetNorm.Instance }),
        ["unet on resnet"] = () => new UNet(new UNetOptions { Widths = [4, 4, 4], Encoder = Cases.TinyResNet with { Layers = [1, 1], StagePlanes = [4, 8], Stem = ResNetStem.Standard }, Norm = UNetNorm.Group, NormGroups = 2 }),
    };

    public static TheoryData<string> Names => [.. Networks.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_place_on_either_side_computes_the_same(string name)
    {
        using DisposeScope outer = NewDisposeScope();
        Tensor x = randn(2, 3, 19, 17, ScalarType.Float64);
        List<(string Path, InsertionSide Side)> places = [];
        using (FeatureNetwork probe = InferenceCopyTests.Trained(Networks[name](), ScalarType.Float64))
        {
            string[] paths = [.. probe.named_modules().Select(entry => entry.name).Where(path => !IsRepeated(path))];
            foreach (string path in paths)
            {
                foreach (InsertionSide side in Enum.GetValues<InsertionSide>())
                {
                    try
                    {
                        Plan(path, side).DryRun(probe, x);
                        places.Add((path, side));
                    }
                    catch (ArgumentException)
                    {
                    }
                }
            }

            string[] norms = [.. probe.named_modules().Where(entry => entry.module is BatchNorm2d && !IsRepeated(entry.name) && !InAttention(probe, entry.name)).Select(entry => entry.name)];
            Assert.All(norms, norm => Assert.Equal(2, places.Count(place => place.Path == norm)));
            Assert.True(places.Count > 20, $"{places.Count} places");
        }

        foreach ((string path, InsertionSide side) in places)
        {
            using DisposeScope scope = NewDisposeScope();
            using FeatureNetwork network = InferenceCopyTests.Trained(Networks[name](), ScalarType.Float64);
            Insert(network, Plan(path, side), x);
            Same(network, x, $"{name}: {side} {path}");
        }
    }

    /// <summary>MobileNetV2 has each kind of block many times.</summary>
    private static bool IsRepeated(string path) => path.Split('.') is ["features", { } feature, ..] && feature is not ("0" or "1" or "2" or "3" or "17" or "18");

    [Theory]
    [MemberData(nameof(Names))]
    public void All_places_at_once_twice_over(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 3, 19, 17, ScalarType.Float64);
        using FeatureNetwork network = InferenceCopyTests.Trained(Networks[name](), ScalarType.Float64);
        InsertionPlan plan = new([Rule<Conv2d>(InsertionSide.After), Rule<BatchNorm2d>(InsertionSide.Before), Rule<BatchNorm2d>(InsertionSide.After), Rule<Conv2d>(InsertionSide.Before)]);
        if (name == "unet, instance norm, merge") plan = new([Rule<Conv2d>(InsertionSide.After), Rule<Conv2d>(InsertionSide.Before)]);
        Insert(network, plan, x);
        Insert(network, InsertionPlan.After<Conv2d>(new SimAmOptions()), x);
        Same(network, x, name);

        static InsertionRule Rule<TModule>(InsertionSide side) => new(new EfficientChannelAttentionOptions()) { Side = side, ModuleType = typeof(TModule) };
    }

    [Fact]
    public void Keys_are_those_of_the_original_and_norms_in_front_of_an_attention_stay()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(1, 3, 16, 16);
        using ResNet network = (ResNet)InferenceCopyTests.Trained(ResNet.ResNet18(10), ScalarType.Float32);
        InsertionPlan plan = InsertionPlan.After("layer2", new SqueezeExcitationOptions()).AddAfter("layer3.*.bn2", new CbamOptions()).AddAfter("conv1", new SimAmOptions())
            .AddBefore("layer2.0.downsample.1", new EfficientChannelAttentionOptions());
        Insert(network, plan, x);
        using ResNet fused = network.FuseForInference();
        Assert.Equal(
            ["bn1", "layer2.0.downsample.1"], fused.named_modules().Where(entry => entry.module is BatchNorm2d && !InAttention(fused, entry.name)).Select(entry => entry.name).Order());
        Dictionary<string, Tensor> from = network.state_dict(), to = fused.state_dict();
        foreach ((string key, Tensor value) in from)
        {
            if (key.Contains("attn", StringComparison.Ordinal) || key.StartsWith("bn1.", StringComparison.Ordinal)) Near.Identical(value, to[key]);
        }

        Assert.Contains("layer2_attn.fc1.weight", to.Keys);
        Assert.Contains("layer3.1.bn2_attn.channel.fc1.weight", to.Keys);
        Assert.Contains("layer2.0.downsample_1_attn_before.conv.weight", to.Keys);
        Assert.All(fused.modules(), module => Assert.False(module.training));
        Assert.All(fused.parameters(), parameter => Assert.False(parameter.requires_grad));
        Same(network, x, "resnet-18", 1e-4);

        // It is an attention like others: recorded, measured, and without effect on the original.
        using (AttentionRecorder recorder = AttentionRecorder.Attach(fused))
        {
            fused.call(x);
            Assert.Contains("layer2_attn", recorder.CallOrder);
        }

        Assert.Equal(ModelCost.Measure(network, 1, 3, 32, 32).MultiplyAccumulates, ModelCost.Measure(fused, 1, 3, 32, 32).MultiplyAccumulates);
    }

    [Fact]
    public void Attention_inserted_into_a_part_alone_is_carried_along()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 3, 16, 16, ScalarType.Float64);
        using ResNet network = (ResNet)InferenceCopyTests.Trained(new ResNet(Cases.TinyResNet), ScalarType.Float64);
        nn.Module stage = network.named_children().Single(child => child.name == "layer2").module;
        Change(stage.InsertAttention(InsertionPlan.After("0", new SqueezeExcitationOptions { Reduction = 2 }), randn(1, 4, 8, 8, ScalarType.Float64)));
        Same(network, x, "in a stage");
    }

    [Fact]
    public void Random_numbers_hooks_memory_and_the_original_do_not_notice()
    {
        using ResNet network = (ResNet)InferenceCopyTests.Trained(new ResNet(Cases.TinyResNet), ScalarType.Float32);
        using Tensor x = randn(1, 3, 16, 16);
        network.InsertAttention(InsertionPlan.After("conv1", new CbamOptions { Reduction = 2 }).AddAfter("layer2.0.bn1", new SqueezeExcitationOptions { Reduction = 2 }), x);
        string[] keys = [.. network.state_dict().Keys];
        manual_seed(5);
        using Tensor expected = rand(3);
        network.FuseForInference().Dispose();
        long before = LiveTensors.OfThread;
        manual_seed(5);
        network.FuseForInference().Dispose();
        using Tensor found = rand(3);
        Near.Identical(expected, found);
        Assert.Equal(before + 1, LiveTensors.OfThread);
        Assert.Equal(keys, network.state_dict().Keys);
    }

    [Fact]
    public void Unknown_names_are_refused_by_name()
    {
        using ResNet network = new(Cases.TinyResNet);
        network.register_module("mine", nn.Conv2d(3, 3, 1));
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(network.FuseForInference);
        Assert.Contains("'mine' (Conv2d)", error.Message, StringComparison.Ordinal);
    }

    private static InsertionPlan Plan(string path, InsertionSide side)
        => new([new InsertionRule(new CbamOptions { RoundingDivisor = 1, Reduction = 2, KernelSize = 3 }) { Name = path, Side = side }]);

    private static bool InAttention(nn.Module network, string name)
        => network.named_modules().Any(entry => entry.module is IAttentionModule && name.StartsWith(entry.name + ".", StringComparison.Ordinal));

    private static void Insert(FeatureNetwork network, InsertionPlan plan, Tensor x) => Change(network.InsertAttention(plan, x.to_type(network.parameters().First().dtype)));

    /// <summary>An identity start that has left the identity.</summary>
    private static void Change(InsertionHandle handle)
    {
        using IDisposable quiet = no_grad();
        foreach (AttentionModule attention in handle.Attentions)
        {
            foreach ((string name, Parameter parameter) in attention.named_parameters())
            {
                if (name.EndsWith("alpha", StringComparison.Ordinal)) parameter.fill_(0.7);
            }
        }
    }

    private static void Same(FeatureNetwork network, Tensor x, string what, double tolerance = 1e-10)
    {
        using DisposeScope scope = NewDisposeScope();
        using FeatureNetwork fused = network.FuseForInference();
        network.eval();
        Near.Equal(network.call(x).Doubles(), fused.call(x).Doubles(), tolerance, what, ofLargest: 1);
        using IDisposable quiet = no_grad();
        Near.Equal(network.call(x).Doubles(), fused.call(x).Doubles(), tolerance, what, ofLargest: 1);
        foreach ((Tensor expected, Tensor actual) in network.Features(x).Zip(fused.Features(x))) Near.Equal(expected.Doubles(), actual.Doubles(), tolerance, what, ofLargest: 1);
    }
}
