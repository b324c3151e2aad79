using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Copies for inference: values, keys, layouts, what stays untouched, what is refused.</summary>
public sealed class InferenceCopyTests
{
    public static TheoryData<string> NetworkNames => Cases.NetworkNames;

    public static TheoryData<string> Kinds => Row.Kinds;

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Outputs_and_features_are_those_of_evaluation(string name)
    {
        foreach ((ScalarType type, double tolerance) in new[] { (ScalarType.Float32, 1e-5), (ScalarType.Float64, 1e-11) })
        {
            manual_seed(7);
            using FeatureNetwork network = Trained(Cases.Networks[name](), type);
            using FeatureNetwork fused = network.FuseForInference();
            AssertSame(network, fused, tolerance);
        }
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Bfloat16_outputs_are_within_its_rounding(string name)
    {
        manual_seed(7);
        using FeatureNetwork network = Trained(Cases.Networks[name](), ScalarType.BFloat16);
        using FeatureNetwork fused = network.FuseForInference();
        AssertSame(network, fused, 0.08);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Every_kind_computes_the_same_inside_a_fused_network(string kind)
    {
        Row row = Row.Named(kind);
        AttentionPosition position = row.Options is BranchAttentionOptions ? AttentionPosition.ReplaceSpatialConv : AttentionPosition.BeforeAdd;
        if (row.GuideChannels > 0) return; // at the skip connections of the U-Nets above
        ResNetOptions options = Cases.TinyResNet with
        {
            StemWidth = row.Channels,
            Layers = [2, 1],
            StagePlanes = [row.Channels, row.Channels],
            Attention = AttentionPlan.Of(row.Options, position),
        };
        using FeatureNetwork network = Trained(new ResNet(options), ScalarType.Float32);
        using FeatureNetwork fused = network.FuseForInference();
        AssertSame(network, fused, 1e-4);
    }

    [Fact]
    public void Weights_are_those_of_the_equation()
    {
        using FeatureNetwork network = Trained(new ResNet(Cases.TinyResNet), ScalarType.Float64);
        using FeatureNetwork fused = network.FuseForInference();
        using DisposeScope scope = NewDisposeScope();
        Dictionary<string, Tensor> from = network.state_dict(), to = fused.state_dict();
        double weight = from["layer2.0.conv1.weight"][2, 1, 0, 2].item<double>(), gamma = from["layer2.0.bn1.weight"][2].item<double>();
        double variance = from["layer2.0.bn1.running_var"][2].item<double>(), mean = from["layer2.0.bn1.running_mean"][2].item<double>();
        double scale = gamma / Math.Sqrt(variance + 1e-5);
        Assert.Equal(weight * scale, to["layer2.0.conv1.weight"][2, 1, 0, 2].item<double>(), 1e-14);
        Assert.Equal(from["layer2.0.bn1.bias"][2].item<double>() - (mean * scale), to["layer2.0.conv1.bias"][2].item<double>(), 1e-14);
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Norms_are_gone_and_everything_else_has_its_key_and_values(string name)
    {
        using FeatureNetwork network = Trained(Cases.Networks[name](), ScalarType.Float32);
        using FeatureNetwork fused = network.FuseForInference();
        Dictionary<string, Tensor> from = network.state_dict(), to = fused.state_dict();
        string[] norms = [.. Outside(network).Where(entry => entry.Module is BatchNorm2d).Select(entry => entry.Name + ".")];
        string[] added = [.. to.Keys.Except(from.Keys)];
        Assert.All(added, key => Assert.EndsWith(".bias", key, StringComparison.Ordinal));
        Assert.All(from.Keys.Except(to.Keys), key => Assert.Contains(norms, norm => key.StartsWith(norm, StringComparison.Ordinal)));
        Assert.DoesNotContain(Outside(fused), entry => entry.Module is BatchNorm2d);
        Assert.All(Attentions(network).Zip(Attentions(fused)), pair =>
        {
            Assert.Equal(pair.First.Name, pair.Second.Name);
            Assert.Equal(pair.First.Module.GetType(), pair.Second.Module.GetType());
            foreach ((string key, Tensor value) in pair.First.Module.state_dict()) Near.Identical(value, to[$"{pair.Second.Name}.{key}"]);
        });
        Assert.Equal(Attentions(network).Count, Attentions(fused).Count);
        Assert.All(fused.parameters(), parameter => Assert.False(parameter.requires_grad));
        Assert.True(fused.IsFused);
        Assert.False(network.IsFused);
    }

    [Fact]
    public void The_original_and_the_random_numbers_do_not_notice()
    {
        using ResNet network = (ResNet)Trained(Cases.Networks["resnet bottleneck, attention everywhere"](), ScalarType.Float32);
        network.train();
        using DisposeScope scope = NewDisposeScope();
        Dictionary<string, Tensor> before = network.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
        manual_seed(5);
        Tensor expected = rand(3);
        manual_seed(5);
        using ResNet fused = network.FuseForInference();
        Near.Identical(expected, rand(3));
        foreach ((string key, Tensor value) in network.state_dict()) Near.Identical(before[key], value);
        Assert.True(network.training);
        Assert.False(fused.training);
        Assert.All(network.parameters(), parameter => Assert.True(parameter.requires_grad));

        // It trains on, and the copy keeps its own values.
        Tensor x = randn(4, 3, 16, 16), y = fused.call(x);
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.1);
        network.call(x).square().sum().backward();
        optimizer.step();
        Assert.NotEqual(before["bn1.running_mean"].Doubles(), network.state_dict()["bn1.running_mean"].Doubles());
        Assert.NotEqual(before["conv1.weight"].Doubles(), network.state_dict()["conv1.weight"].Doubles());
        Near.Identical(y, fused.call(x));
    }

    [Fact]
    public void A_copy_refuses_training_and_fusing_again()
    {
        using UNet network = new(new UNetOptions { Widths = [4, 8], Encoder = null });
        using UNet fused = network.FuseForInference();
        Assert.Contains("fused for inference", Assert.Throws<InvalidOperationException>(() => fused.train()).Message, StringComparison.Ordinal);
        Assert.False(fused.training);
        fused.train(false);
        fused.eval();
        Assert.Contains("fused already", Assert.Throws<InvalidOperationException>(fused.FuseForInference).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Values_of_several_types_are_refused()
    {
        using ResNet network = new(Cases.TinyResNet);
        network.named_children().Single(child => child.name == "fc").module.to(ScalarType.Float64);
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(network.FuseForInference);
        Assert.Contains("'fc.weight' is Float64", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(UNetNorm.Instance)]
    [InlineData(UNetNorm.Group)]
    [InlineData(UNetNorm.None)]
    public void Norms_of_the_image_stay(UNetNorm norm)
    {
        UNetOptions options = new() { Widths = [8, 8, 16], Norm = norm, UpSampling = UNetUpSampling.TransposedBlock };
        using FeatureNetwork network = Trained(new UNet(options), ScalarType.Float64);
        using FeatureNetwork fused = network.FuseForInference();
        Assert.Equal(network.state_dict().Keys, fused.state_dict().Keys);
        AssertSame(network, fused, 1e-11);
    }

    [Fact]
    public void Transposed_convolutions_and_biases_fold_too()
    {
        UNetOptions options = new() { Widths = [4, 6, 8], ConvolutionBias = true, UpSampling = UNetUpSampling.TransposedBlock };
        using FeatureNetwork network = Trained(new UNet(options), ScalarType.Float64);
        using FeatureNetwork fused = network.FuseForInference();
        Assert.DoesNotContain(fused.state_dict().Keys, key => key.Contains("norm", StringComparison.Ordinal));
        AssertSame(network, fused, 1e-11);
    }

    [Fact]
    public void The_encoder_of_a_unet_fuses_alone()
    {
        using FeatureNetwork network = Trained(Cases.Networks["unet on resnet, bilinear, group norm"](), ScalarType.Float64);
        ResNet encoder = (ResNet)network.named_children().Single(child => child.name == "encoder").module;
        using ResNet fused = encoder.FuseForInference();
        encoder.eval();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 3, 12, 9, ScalarType.Float64);
        foreach ((Tensor expected, Tensor actual) in encoder.Features(x).Zip(fused.Features(x))) Near.Equal(expected, actual, 1e-11, "encoder");
    }

    [Fact]
    public void Maps_lie_channels_last_until_weights_outweigh_them()
    {
        using ResNet network = new(Cases.TinyResNet with { StagePlanes = [4, 8, 16] });
        using ResNet fused = network.FuseForInference();
        using DisposeScope scope = NewDisposeScope();

        // Stage 3 starts from 8 × 8 positions: as many as four times its planes, and twice that for a batch of two.
        Assert.Equal([true, true, true, false], fused.Features(randn(1, 3, 16, 16)).Select(ChannelsLast));
        Assert.Equal([true, true, true, true], fused.Features(randn(2, 3, 16, 16)).Select(ChannelsLast));
        fused.to(ScalarType.Float64);
        Assert.Equal([false, false, false, false], fused.Features(randn(1, 3, 16, 16, ScalarType.Float64)).Select(ChannelsLast));

        static bool ChannelsLast(Tensor map) => map.stride(1) == 1;
    }

    [Fact]
    public void Logits_of_a_unet_are_contiguous()
    {
        using UNet network = new(new UNetOptions { Widths = [4, 8], Classes = 3 });
        using UNet fused = network.FuseForInference();
        using Tensor x = randn(2, 3, 9, 8), logits = fused.call(x);
        Assert.True(logits.is_contiguous());
    }

    [Theory]
    [InlineData("resnet basic")]
    [InlineData("resnet bottleneck, attention everywhere")]
    [InlineData("mobilenetv2, attention everywhere")]
    public void Gradients_of_the_input_are_those_of_evaluation(string name)
    {
        using FeatureNetwork network = Trained(Cases.Networks[name](), ScalarType.Float64);
        using FeatureNetwork fused = network.FuseForInference();
        network.eval();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 3, 13, 11, ScalarType.Float64);
        Near.Equal(Gradient(network), Gradient(fused), 1e-9, name);
        fused.to(ScalarType.Float32);
        x = x.to_type(ScalarType.Float32);
        Tensor single = Gradient(fused);
        network.to(ScalarType.Float32);
        Near.Equal(Gradient(network).Doubles(), single.Doubles(), 1e-3, name, ofLargest: 1);

        Tensor Gradient(FeatureNetwork from)
        {
            Tensor leaf = x.clone().requires_grad_(true);
            from.call(leaf).square().sum().backward();
            return leaf.grad!;
        }
    }

    [Theory]
    [InlineData(AttentionPosition.BeforeAdd)]
    [InlineData(AttentionPosition.AfterConv2)]
    public void What_a_hook_sees_of_an_attention_is_not_written_over(AttentionPosition position)
    {
        using ResNet network = new(Cases.TinyResNet with { Attention = AttentionPlan.Of(new EfficientChannelAttentionOptions(), position) });
        using ResNet fused = network.FuseForInference();
        using DisposeScope scope = NewDisposeScope();
        List<(Tensor Seen, Tensor Then)> maps = [];
        foreach ((string _, nn.Module module) in Attentions(fused))
        {
            ((AttentionModule)module).register_forward_hook((_, input, output) =>
            {
                foreach (Tensor map in new[] { input, output }) maps.Add((map.alias().DetachFromDisposeScope(), map.clone().DetachFromDisposeScope()));
                return output;
            });
        }

        using (no_grad()) fused.call(randn(1, 3, 16, 16));
        Assert.Equal(6, maps.Count);
        foreach ((Tensor seen, Tensor then) in maps)
        {
            Near.Identical(then, seen);
            seen.Dispose();
            then.Dispose();
        }
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Multiply_accumulates_are_those_of_the_original(string name)
    {
        using FeatureNetwork network = Cases.Networks[name]();
        using FeatureNetwork fused = network.FuseForInference();
        Assert.Equal(ModelCost.Measure(network, 1, 3, 16, 16).MultiplyAccumulates, ModelCost.Measure(fused, 1, 3, 16, 16).MultiplyAccumulates);
        Assert.Equal(fused.parameters().Sum(parameter => parameter.numel()), ModelCost.Measure(fused, 1, 3, 16, 16).Parameters);
    }

    [Fact]
    public void A_copy_made_inside_a_dispose_scope_outlives_it()
    {
        foreach ((string name, Func<FeatureNetwork> create) in Cases.Networks)
        {
            FeatureNetwork fused;
            using (NewDisposeScope())
            {
                using FeatureNetwork network = Trained(create(), ScalarType.Float64);
                fused = network.FuseForInference();
            }

            Assert.All(fused.state_dict(), entry => Assert.False(entry.Value.IsInvalid, $"{name}: {entry.Key}"));
            fused.Dispose();
        }
    }

    /// <summary>As after a training: every value and every running statistic is its own.</summary>
    internal static FeatureNetwork Trained(FeatureNetwork network, ScalarType type)
    {
        manual_seed(11);
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        foreach ((string name, nn.Module module) in network.named_modules())
        {
            if (module is not BatchNorm2d norm) continue;
            norm.weight!.uniform_(0.5, 1.5);
            norm.bias!.uniform_(-0.5, 0.5);
            norm.running_mean!.uniform_(-0.5, 0.5);
            norm.running_var!.uniform_(0.5, 2);
        }

        network.to(type);
        return network;
    }

    /// <summary>Large and small, odd and even, with and without gradients; the copy's mode does not depend on the original's.</summary>
    private static void AssertSame(FeatureNetwork network, FeatureNetwork fused, double tolerance)
    {
        network.eval();
        using DisposeScope scope = NewDisposeScope();
        foreach (long[] size in new long[][] { [2, 3, 33, 21], [1, 3, 9, 8], [3, 3, 16, 16] })
        {
            Tensor x = randn(size, fused.parameters().First().dtype);
            Tensor before = x.clone();
            Compare(network.call(x), fused.call(x), "output");
            using (no_grad())
            {
                Compare(network.call(x), fused.call(x), "output without gradients");
                foreach ((Tensor expected, Tensor actual) in network.Features(x).Zip(fused.Features(x))) Compare(expected, actual, "features");
            }

            Near.Identical(before, x);
        }

        void Compare(Tensor expected, Tensor actual, string what)
        {
            Assert.Equal(expected.shape, actual.shape);
            Assert.Equal(expected.dtype, actual.dtype);
            Near.Equal(expected.Doubles(), actual.Doubles(), tolerance, what, ofLargest: 1);
        }
    }

    private static List<(string Name, nn.Module Module)> Attentions(nn.Module network) =>
        [.. network.named_modules().Where(entry => entry.module is IAttentionModule).Select(entry => (entry.name, entry.module))];

    /// <summary>Modules that are not part of an attention.</summary>
    private static List<(string Name, nn.Module Module)> Outside(nn.Module network)
    {
        string[] attentions = [.. Attentions(network).Select(entry => entry.Name + ".")];
        return [.. network.named_modules().Where(entry => !Array.Exists(attentions, name => entry.name.StartsWith(name, StringComparison.Ordinal)))
            .Select(entry => (entry.name, entry.module))];
    }
}
