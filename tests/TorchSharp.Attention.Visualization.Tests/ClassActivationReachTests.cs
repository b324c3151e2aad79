namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>Class activation where gradients are hard to have, where a layer runs several times, and where the output is not (N, classes).</summary>
public sealed class ClassActivationReachTests
{
    private static readonly ClassActivationMethod[] ByGradient = [ClassActivationMethod.GradCam, ClassActivationMethod.GradCamPlusPlus];

    /// <summary>Without a way out of inference mode libtorch ends the process here.</summary>
    [Fact]
    public void Inference_mode_of_the_caller_changes_nothing()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using Modules.Sequential model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3));
        Tensor input = randn(2, 3, 8, 8);
        foreach (ClassActivationMethod method in Enum.GetValues<ClassActivationMethod>())
        {
            using ClassActivationMaps expected = ClassActivation.Compute(model, input, "1", method);
            using (inference_mode())
            {
                using Tensor made = input.clone();
                using ClassActivationMaps maps = ClassActivation.Compute(model, made, "1", method);
                Assert.True(maps.Maps.equal(expected.Maps).all().ToBoolean(), method.ToString());
                Assert.True(maps.Maps.max().item<float>() > 0);
                Assert.True(is_inference_mode_enabled());
            }
        }
    }

    [Theory]
    [InlineData("backbone.3", true)]
    [InlineData("backbone", true)]
    [InlineData("backbone.3", false)]
    public void A_layer_under_no_grad_is_refused_by_the_methods_that_need_gradients(string layer, bool frozen)
    {
        using Frozen model = new(noGradient: true);
        foreach (Modules.Parameter parameter in model.parameters()) parameter.requires_grad = !frozen;
        using Tensor input = Images();
        foreach (ClassActivationMethod method in ByGradient)
        {
            ArgumentException error = Assert.Throws<ArgumentException>(() => ClassActivation.Compute(model, input, layer, method));
            Assert.Contains($"the layer '{layer}' under no_grad()", error.Message, StringComparison.Ordinal);
            Assert.Contains("ScoreCam", error.Message, StringComparison.Ordinal);
        }

        using ClassActivationMaps maps = ClassActivation.Compute(model, input, layer, ClassActivationMethod.ScoreCam);
        Assert.True(maps.Maps.max().item<float>() > 0);
        Assert.True(model.training);
    }

    /// <summary>The layer itself runs with gradients here; what follows cuts them off.</summary>
    [Fact]
    public void A_gradient_that_is_cut_off_behind_the_layer_is_an_error_and_not_a_map_of_zeros()
    {
        using Frozen model = new(noGradient: false);
        using Tensor input = Images();
        foreach (ClassActivationMethod method in ByGradient)
        {
            ArgumentException error = Assert.Throws<ArgumentException>(() => ClassActivation.Compute(model, input, "backbone.1", method));
            Assert.Contains("depend on the layer 'backbone.1', but no gradient reaches it", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Frozen_parameters_do_not_matter()
    {
        using DisposeScope scope = NewDisposeScope();
        using Modules.Sequential model = Twice();
        using Tensor input = Images();
        using ClassActivationMaps expected = ClassActivation.Compute(model, input, "2");
        foreach (Modules.Parameter parameter in model.parameters()) parameter.requires_grad = false;
        using ClassActivationMaps maps = ClassActivation.Compute(model, input, "2");
        Assert.True(maps.Maps.equal(expected.Maps).all().ToBoolean());
    }

    /// <summary>One ReLU object at two places: each call has a map of its own, that of a network with two ReLUs.</summary>
    [Fact]
    public void A_layer_that_runs_twice_needs_the_call()
    {
        using DisposeScope scope = NewDisposeScope();
        using Modules.Sequential shared = Twice();
        Modules.ReLU first = nn.ReLU(), second = nn.ReLU();
        nn.Module<Tensor, Tensor>[] layers = [.. shared.children().Cast<nn.Module<Tensor, Tensor>>()];
        using Modules.Sequential apart = nn.Sequential(layers[0], first, layers[2], second, layers[4], layers[5], layers[6]);
        using Tensor input = Images();
        string message = Assert.Throws<ArgumentException>(() => ClassActivation.Compute(shared, input, "1")).Message;
        Assert.Contains("runs the layer '1' 2 times", message, StringComparison.Ordinal);
        Assert.Contains("Call = 0", message, StringComparison.Ordinal);
        foreach (ClassActivationMethod method in Enum.GetValues<ClassActivationMethod>())
        {
            foreach ((int call, string layer) in new[] { (0, "1"), (1, "3") })
            {
                using ClassActivationMaps expected = ClassActivation.Compute(apart, input, layer, method);
                using ClassActivationMaps maps = ClassActivation.Compute(shared, input, "1", new ClassActivationOptions { Method = method, Call = call });
                Assert.True(maps.Maps.equal(expected.Maps).all().ToBoolean(), $"{method}, call {call}");
            }
        }

        Assert.Contains("counted from 0", Assert.Throws<ArgumentException>(() => ClassActivation.Compute(shared, input, "1", new ClassActivationOptions { Call = 2 })).Message, StringComparison.Ordinal);
    }

    /// <summary>y = W x for each pixel: the gradient of the sum over a set of pixels is W inside and 0 outside, so w_k = W_ck · |set| / (h · w).</summary>
    [Fact]
    public void A_segmentation_is_explained_by_the_sum_over_its_pixels()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(5);
        using Modules.Sequential model = nn.Sequential(nn.Conv2d(1, 4, 3, padding: 1), nn.Conv2d(4, 3, 1));
        Tensor input = randn(2, 1, 6, 5), mask = zeros(2, 6, 5, dtype: ScalarType.Bool);
        mask[0, 2, 3] = true;
        mask[0, 5, 4] = true;
        mask[1, 0, 0] = true;
        Tensor features, weight;
        using (no_grad())
        {
            features = ((nn.Module<Tensor, Tensor>)model.children().First()).call(input);
            weight = ((Modules.Conv2d)model.children().Last()).weight![1].flatten();
        }

        double[] shares = [2.0 / 30, 1.0 / 30];
        using ClassActivationMaps all = ClassActivation.Compute(model, input, "0", new ClassActivationOptions { Target = ClassActivationTargets.Pixels(1) });
        using ClassActivationMaps part = ClassActivation.Compute(model, input, "0", new ClassActivationOptions { Target = ClassActivationTargets.Pixels(1, mask) });
        using ClassActivationMaps same = ClassActivation.Compute(model, input, "0", new ClassActivationOptions { Target = ClassActivationTargets.Pixels(1, mask[0]) });
        for (int n = 0; n < 2; n++)
        {
            Tensor expected = weight.view(4, 1, 1).mul(features[n]).sum([0L]).relu();
            Assert.Equal(0, all.Maps[n].sub(expected).abs().max().item<float>(), 1e-5f);
            Assert.Equal(0, part.Maps[n].sub(expected.mul((Scalar)shares[n])).abs().max().item<float>(), 1e-6f);
            Assert.Equal(0, same.Maps[n].sub(expected.mul((Scalar)shares[0])).abs().max().item<float>(), 1e-6f);
        }

        Assert.Empty(all.Classes);
        Assert.Equal(2, all.Scores.Count);
        using ClassActivationMaps score = ClassActivation.Compute(model, input, "0", new ClassActivationOptions { Method = ClassActivationMethod.ScoreCam, Target = ClassActivationTargets.Pixels(1, mask) });
        Assert.Equal([2, 6, 5], score.Maps.shape);
        Assert.Contains("ClassActivationTargets.Pixels", Assert.Throws<ArgumentException>(() => ClassActivation.Compute(model, input, "0")).Message, StringComparison.Ordinal);
        Assert.Contains("classes 0 to 2", Fails(ClassActivationTargets.Pixels(3)), StringComparison.Ordinal);
        Assert.Contains("6 rows and 5 columns", Fails(ClassActivationTargets.Pixels(0, ones(4, 4))), StringComparison.Ordinal);
        Assert.Contains("needs (N, L, K)", Fails(ClassActivationTargets.Tokens(0)), StringComparison.Ordinal);
        Assert.Contains("one floating-point score per output", Fails((output, _) => output), StringComparison.Ordinal);

        string Fails(Func<Tensor, int, Tensor> target)
            => Assert.Throws<ArgumentException>(() => ClassActivation.Compute(model, input, "0", new ClassActivationOptions { Target = target })).Message;
    }

    [Fact]
    public void A_U_Net_of_this_library_is_explained_at_its_bottleneck()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        using UNet network = new(new UNetOptions { InputChannels = 1, Classes = 2, Widths = [4, 8, 16], Attention = AttentionPlan.Of(new CbamOptions { Reduction = 2, KernelSize = 3 }, AttentionPosition.EncoderEnd) });
        string layer = network.named_modules().Last(pair => pair.module is Modules.Conv2d && pair.name.Contains("bottleneck", StringComparison.OrdinalIgnoreCase)).name;
        using ClassActivationMaps maps = ClassActivation.Compute(network, randn(2, 1, 16, 16), layer, new ClassActivationOptions { Target = ClassActivationTargets.Pixels(1) });
        Assert.Equal([2, 4, 4], maps.Maps.shape);
        Assert.True(maps.Maps.max().item<float>() > 0);
    }

    /// <summary>One logit z of two classes (0, z): the map of the positive class is that of the network with two logits.</summary>
    [Fact]
    public void One_logit_speaks_for_either_class()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(2);
        using Modules.Conv2d conv = nn.Conv2d(1, 4, 3);
        using Modules.Linear one = nn.Linear(4, 1);
        using Modules.Sequential model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), one), flat = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), one, nn.Flatten(0));
        Tensor input = randn(2, 1, 8, 8), weight = one.weight!.detach().view(1, 4, 1, 1), features;
        using (no_grad())
        {
            features = conv.call(input);
        }

        Tensor map = features.mul(weight).sum(1).div((Scalar)36.0);
        foreach (Modules.Sequential network in new[] { model, flat })
        {
            foreach (bool positive in new[] { true, false })
            {
                using ClassActivationMaps maps = ClassActivation.Compute(network, input, "0", new ClassActivationOptions { Target = ClassActivationTargets.OneLogit(positive) });
                Assert.Equal(0, maps.Maps.sub((positive ? map : map.neg()).relu()).abs().max().item<float>(), 1e-6f);
            }
        }
    }

    /// <summary>Patches become tokens behind a class token: the map is that of the same layer before the tokens.</summary>
    [Fact]
    public void Tokens_are_drawn_on_their_grid()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(4);
        using Patches model = new();
        Tensor input = randn(2, 1, 8, 12);
        ClassActivationOptions options = new() { Target = ClassActivationTargets.Tokens(1), TokenGrid = (2, 3) };
        using ClassActivationMaps maps = ClassActivation.Compute(model, input, "norm", options);
        using ClassActivationMaps expected = ClassActivation.Compute(model, input, "patches", options with { TokenGrid = null });
        Assert.Equal([2, 2, 3], maps.Maps.shape);
        Assert.True(expected.Maps.max().item<float>() > 0);
        Assert.Equal(0, maps.Maps.sub(expected.Maps).abs().max().item<float>(), 1e-6f);
        string error = Assert.Throws<ArgumentException>(() => ClassActivation.Compute(model, input, "norm", options with { TokenGrid = null })).Message;
        Assert.Contains("TokenGrid", error, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => ClassActivation.Compute(model, input, "norm", options with { TokenGrid = (4, 4) })).Message;
        Assert.Contains("at least 16", error, StringComparison.Ordinal);
    }

    /// <summary>The target itself, and not only two maps that share it.</summary>
    [Fact]
    public void Tokens_are_scored_by_the_mean_of_one_class_over_them()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(4);
        using Patches model = new();
        Tensor input = randn(2, 1, 8, 12), expected;
        using (no_grad()) expected = model.call(input).select(2, 1).mean([1L]);
        using ClassActivationMaps maps = ClassActivation.Compute(model, input, "norm", new ClassActivationOptions { Target = ClassActivationTargets.Tokens(1), TokenGrid = (2, 3) });
        for (int n = 0; n < 2; n++) Assert.Equal(expected[n].item<float>(), maps.Scores[n], 1e-5);
    }

    [Fact]
    public void Options_out_of_range_are_errors_that_name_the_option()
    {
        using Modules.Sequential model = Twice();
        using Tensor input = Images();
        Assert.Contains("Call is -1", Message(new ClassActivationOptions { Call = -1 }), StringComparison.Ordinal);
        Assert.Contains("ChannelsAtOnce is 0", Message(new ClassActivationOptions { ChannelsAtOnce = 0 }), StringComparison.Ordinal);
        Assert.Contains("TokenGrid is (0, 3)", Message(new ClassActivationOptions { TokenGrid = (0, 3) }), StringComparison.Ordinal);
        Assert.Contains("Classes and Target", Message(new ClassActivationOptions { Classes = [1], Target = ClassActivationTargets.Tokens(0) }), StringComparison.Ordinal);

        string Message(ClassActivationOptions options) => Assert.ThrowsAny<ArgumentException>(() => ClassActivation.Compute(model, input, "0", options)).Message;
    }

    private static Tensor Images()
    {
        manual_seed(11);
        return randn(1, 3, 16, 16);
    }

    /// <summary>conv, relu, conv, the same relu, pool, flatten, fc.</summary>
    private static Modules.Sequential Twice()
    {
        manual_seed(12);
        Modules.ReLU relu = nn.ReLU();
        return nn.Sequential(nn.Conv2d(3, 8, 3), relu, nn.Conv2d(8, 8, 3), relu, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3));
    }

    private sealed class Frozen : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Sequential backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding: 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding: 1), nn.ReLU());
        private readonly Modules.Linear fc = nn.Linear(8, 3);
        private readonly bool _noGradient;

        public Frozen(bool noGradient)
            : base(nameof(Frozen))
        {
            _noGradient = noGradient;
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            if (!_noGradient) return fc.call(backbone.call(x).detach().mean([2, 3]));
            Tensor features;
            using (no_grad()) features = backbone.call(x);
            return fc.call(features.mean([2, 3]));
        }
    }

    private sealed class Patches : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Conv2d patches = nn.Conv2d(1, 5, 4, stride: 4);
        private readonly Modules.Identity norm = nn.Identity();
        private readonly Modules.Linear fc = nn.Linear(5, 3);

        public Patches()
            : base(nameof(Patches)) => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            Tensor tokens = patches.call(x).flatten(2).transpose(1, 2);
            return fc.call(norm.call(cat([ones(x.size(0), 1, 5), tokens], 1)));
        }
    }
}
