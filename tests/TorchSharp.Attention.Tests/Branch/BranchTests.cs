namespace TorchSharp.Attention.Tests;

/// <summary>Branch modules: formulas, gradients, memory, types, properties, and their place in a residual network.</summary>
public sealed class BranchTests
{
    private static readonly (int N, int H, int W)[] Shapes = [(1, 5, 7), (3, 4, 3), (1, 1, 1), (2, 1, 1), (2, 9, 2)];

    public static TheoryData<string> Names => [.. BranchRow.All.Select(row => row.Name)];

    public static TheoryData<string, ScalarType> Types
    {
        get
        {
            TheoryData<string, ScalarType> types = [];
            foreach ((string name, _, _) in BranchRow.All)
            {
                types.Add(name, ScalarType.Float32);
                types.Add(name, ScalarType.BFloat16);
            }

            return types;
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void The_formula_holds_in_evaluation_and_training_with_running_statistics(string name)
    {
        foreach ((int n, int h, int w) in Shapes)
            foreach (bool training in new[] { false, true })
            {
                using DisposeScope scope = NewDisposeScope();
                using BranchModule module = Build(name, seed: 1, training);
                DenseMap x = Data.Random(n, module.Channels, h, w, 2);
                OracleState state = State(module);
                string what = $"{name}, ({n}, {h}, {w}), training {training}";

                // Batch norm of two nearly equal values divides by a tiny deviation, which magnifies the rounding of other sums.
                double tolerance = training ? 1e-9 : 1e-12;
                Near.Equal(Oracle(module, x, state), module.call(x.Tensor()), tolerance, what);
                Near.Equal(state, State(module), tolerance, what);
            }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void The_weights_are_the_formulas_and_sum_to_one(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using BranchModule module = Build(name, seed: 3);
        BranchAttentionOptions options = (BranchAttentionOptions)module.Options;
        DenseMap x = Data.Random(3, module.Channels, 5, 4, 4);
        Tensor weights = module.Weights(x.Tensor());
        Assert.Equal([3, weights.size(1), module.OutputChannels, 1, 1], weights.shape);
        Near.Equal(BranchOracle.Weights(options, x, module.Convolution, State(module)), weights.Doubles(), 1e-12, name);
        if (weights.size(1) == 1) return;
        Tensor sums = weights.sum(1);
        Near.Equal(ones_like(sums), sums, 1e-12, name);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Gradients_are_the_oracles_slopes(string name)
    {
        const double Step = 1e-6;
        foreach (bool training in new[] { false, true })
        {
            using DisposeScope scope = NewDisposeScope();
            using BranchModule module = Build(name, seed: 5, training);
            OracleState state = State(module);
            DenseMap x = Data.Random(3, module.Channels, 3, 2, 6);
            Tensor input = x.Tensor().requires_grad_();
            Tensor output = module.call(input);
            double[] slope = Data.Random(1, 1, 1, (int)output.numel(), 7).Values;
            output.mul(tensor(slope, output.shape)).sum().backward();

            Compare("input", x.Values, input);
            foreach ((string key, Modules.Parameter parameter) in module.named_parameters()) Compare(key, state.Entries[key], parameter);

            void Compare(string what, double[] values, Tensor variable)
            {
                // At most some dozen places of each tensor: the loops are slow.
                double[] actual = variable.grad!.Doubles();
                int stride = Math.Max(1, values.Length / 24);
                double largest = Math.Max(actual.Max(Math.Abs), 1e-3);
                for (int i = 0; i < values.Length; i += stride)
                {
                    double value = values[i];
                    values[i] = value + Step;
                    double above = Loss();
                    values[i] = value - Step;
                    double below = Loss();
                    values[i] = value;
                    double error = Math.Abs(((above - below) / (2 * Step)) - actual[i]) / largest;
                    Assert.True(error < 1e-5, $"{name}, training {training}, {what}[{i}]: off by {error:g3} of the largest.");
                }
            }

            double Loss() => Oracle(module, x, state.Copy()).Values.Zip(slope, (y, s) => y * s).Sum();
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_thousand_steps_leave_no_tensor_alive(string name)
    {
        using BranchModule module = Build(name, seed: 1, training: true, ScalarType.Float32, dropout: 0.1);
        using Tensor x = randn(2, module.Channels, 5, 4, requires_grad: true);
        for (int i = 0; i < 3; i++) Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 1000; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);

        void Step()
        {
            using Tensor y = module.call(x);
            using Tensor loss = y.sum();
            loss.backward();
            using Tensor weights = module.Weights(x);
        }
    }

    /// <summary>Values and all gradients against double precision at the same rounded weights, by length of the difference.</summary>
    [Theory]
    [MemberData(nameof(Types))]
    public void Small_types_are_right_within_their_rounding(string name, ScalarType dtype)
    {
        using DisposeScope scope = NewDisposeScope();
        using BranchModule small = Build(name, seed: 8, dtype: dtype);
        using BranchModule precise = Build(name, seed: 8);
        using (no_grad())
        {
            foreach ((string key, Tensor value) in small.state_dict()) precise.state_dict()[key].copy_(value);
        }

        Tensor x = Data.Random(3, small.Channels, 4, 5, 9).Tensor(dtype).requires_grad_();
        Tensor wide = x.detach().to_type(ScalarType.Float64).requires_grad_();
        Tensor y = small.call(x), expected = precise.call(wide);
        Assert.Equal(dtype, y.dtype);
        y.sum().backward();
        expected.sum().backward();
        double tolerance = dtype == ScalarType.Float32 ? 1e-5 : 0.06;
        Close(expected, y, "output");
        Close(wide.grad!, x.grad!, "input");
        foreach ((string key, Modules.Parameter parameter) in small.named_parameters())
        {
            Assert.Equal(dtype, parameter.grad!.dtype);
        }

        void Close(Tensor right, Tensor actual, string what)
        {
            double off = right.sub(actual.to_type(ScalarType.Float64)).norm().ToDouble(), length = right.norm().ToDouble();
            Assert.True(off <= tolerance * length, $"{name}, {dtype}, {what}: off by {off / length:g3}.");
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Samples_are_independent_and_batches_may_be_permuted_empty_or_strided(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using BranchModule module = Build(name, seed: 10);
        Tensor x = Data.Random(4, module.Channels, 5, 6, 11).Tensor();
        Tensor y = module.call(x);
        Tensor order = tensor(new long[] { 2, 0, 3, 1 });
        Near.Equal(y.index_select(0, order), module.call(x.index_select(0, order)), 1e-12, name);
        for (int i = 0; i < 4; i++) Near.Equal(y.narrow(0, i, 1), module.call(x.narrow(0, i, 1)), 1e-12, name);
        Near.Equal(y, module.call(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), 1e-12, "channels last");
        Assert.Equal([0, y.size(1), y.size(2), y.size(3)], module.call(x.narrow(0, 0, 0)).shape);
        Assert.False(x.IsInvalid);
    }

    [Fact]
    public void Options_build_through_the_branch_contract_alone()
    {
        BranchAttentionOptions options = new SelectiveKernelOptions();
        using BranchModule same = options.Create(4);
        Assert.Equal((4, 4, 1), (same.Channels, same.OutputChannels, same.Stride));
        AttentionOptions general = options;
        Assert.Contains("Call Create(channels, outputChannels, stride)", Assert.Throws<ArgumentException>(() => general.Create(4)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Paper_starts_kaiming_and_a_reset_repeats_with_the_seed()
    {
        using SelectiveKernel module = new(64, new SelectiveKernelOptions { Initialization = AttentionInitialization.Paper });
        Tensor weight = module.state_dict()["paths.0.conv.weight"];
        Assert.InRange(weight.std().ToSingle() / Math.Sqrt(2.0 / (64 * 9)), 0.95, 1.05);
        double[] first = Reset();
        Assert.Equal(first, Reset());

        double[] Reset()
        {
            manual_seed(4);
            module.ResetParameters();
            return module.state_dict()["attn.fc_select.weight"].Doubles();
        }
    }

    [Theory]
    [InlineData(ResNetBlock.Bottleneck, "conv2", "bn2")]
    [InlineData(ResNetBlock.Basic, "conv1", "bn1")]
    public void A_branch_takes_the_place_of_the_convolution_its_norm_and_its_activation(ResNetBlock block, string conv, string norm)
    {
        ResNetOptions options = Cases.TinyResNet with
        {
            Block = block,
            Layers = [1, 2],
            StagePlanes = [4, 8],
            Attention = AttentionPlan.Of(new SplitAttentionOptions(), AttentionPosition.ReplaceSpatialConv).InStages(2),
        };
        using ResNet network = new(options);
        network.eval();
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        SplitAttention first = Assert.IsType<SplitAttention>(modules[$"layer2.0.{conv}"]);
        Assert.Equal((block == ResNetBlock.Basic ? 4 : 8, 8, 2), (first.Channels, first.OutputChannels, first.Stride));
        Assert.False(modules.ContainsKey($"layer2.0.{norm}"));
        Assert.True(modules.ContainsKey($"layer1.0.{norm}"));

        // The block by hand, with the branch between its other parts.
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, first.Channels == 4 ? 4 : 16, 7, 5);
        Tensor y = block == ResNetBlock.Basic
            ? Call("bn2", Call("conv2", Call("conv1", x)))
            : Call("bn3", Call("conv3", Call("conv2", Call("bn1", Call("conv1", x)).relu())));
        Tensor expected = y.add(Call("downsample", x)).relu();
        Assert.True(expected.allclose(Call("", x), 1e-6, 1e-6));

        Tensor Call(string name, Tensor input) =>
            ((nn.Module<Tensor, Tensor>)modules[name.Length == 0 ? "layer2.0" : $"layer2.0.{name}"]).call(input);
    }

    /// <summary>SK-ResNet-50 and a ResNeSt-like one, full width: counts by hand, shapes, a step, and nothing left.</summary>
    [Theory]
    [InlineData("selective-kernel")]
    [InlineData("selective-kernel timm")]
    [InlineData("split-attention")]
    public void A_resnet50_of_branches_has_the_counted_parameters_and_trains(string kind)
    {
        BranchAttentionOptions options = kind switch
        {
            "selective-kernel" => new SelectiveKernelOptions(),
            "selective-kernel timm" => SelectiveKernelOptions.Timm,
            _ => new SplitAttentionOptions(),
        };
        using ResNet network = ResNet.ResNet50(classes: 5, AttentionPlan.Of(options, AttentionPosition.ReplaceSpatialConv));
        using ResNet plain = ResNet.ResNet50(classes: 5);
        long expected = Count(plain);
        foreach ((int planes, int blocks) in new[] { (64, 3), (128, 4), (256, 6), (512, 3) })
        {
            expected += blocks * (OfBranch(planes) - (9L * planes * planes) - (2 * planes));
        }

        Assert.Equal(expected, Count(network));

        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.001);
        using Tensor x = randn(2, 3, 33, 40);
        using Tensor labels = tensor(new long[] { 1, 4 });
        Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 2; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);
        Assert.All(network.named_parameters(), p => Assert.True(p.parameter.grad is { } g && g.isfinite().all().ToBoolean(), p.name));

        network.eval();
        using DisposeScope scope = NewDisposeScope();
        Assert.Equal([[2, 64, 17, 20], [2, 256, 9, 10], [2, 512, 5, 5], [2, 1024, 3, 3], [2, 2048, 2, 2]], network.Features(x).Select(map => map.shape));

        void Step()
        {
            using DisposeScope inner = NewDisposeScope();
            optimizer.zero_grad();
            Tensor y = network.call(x);
            Assert.Equal([2, 5], y.shape);
            nn.functional.cross_entropy(y, labels).backward();
            optimizer.step();
        }

        long OfBranch(long c)
        {
            switch (options)
            {
                case SelectiveKernelOptions kernel:
                    long width = kernel.SplitInput ? Math.Max(8, c / 16) : Math.Max(32, c / 16), seen = kernel.SplitInput ? c / 2 : c;
                    return (2 * ((9 * seen * c) + (2 * c))) + (c * width) + (2 * width) + (width * 2 * c);
                default:
                    long inner = Math.Max(32, c * 2 / 4);
                    return (9 * (c / 2) * 2 * c) + (2 * 2 * c) + ((c + 1) * inner) + (2 * inner) + ((inner + 1) * 2 * c);
            }
        }

        static long Count(nn.Module module) => module.parameters().Sum(p => p.numel());
    }

    [Fact]
    public void A_branch_has_the_activation_of_the_convolution_that_it_replaces()
    {
        using DisposeScope scope = NewDisposeScope();
        foreach (BranchAttentionOptions options in new BranchAttentionOptions[] { new SelectiveKernelOptions(), new SplitAttentionOptions() })
        {
            // Weighted means of values up to 6 stay there; ReLU's do not.
            Assert.InRange(Largest(GateActivation.ReLU6), 5.9, 6.00001);
            Assert.True(Largest(GateActivation.ReLU) > 10);

            double Largest(GateActivation activation)
            {
                manual_seed(1);
                using BranchModule module = options.Create(new ConvolutionSpec(8, 8) { Groups = 8, Activation = activation });
                module.eval();
                return module.call(randn(2, 8, 9, 9).mul(100.0.ToScalar())).max().ToDouble();
            }
        }
    }

    [Theory]
    [InlineData("selective-kernel")]
    [InlineData("selective-kernel timm")]
    [InlineData("split-attention")]
    public void A_mobilenet_of_branches_has_depthwise_ones_in_place_of_its_convolutions(string kind)
    {
        BranchAttentionOptions options = kind switch
        {
            "selective-kernel" => new SelectiveKernelOptions(),
            "selective-kernel timm" => SelectiveKernelOptions.Timm,
            _ => new SplitAttentionOptions(),
        };
        using MobileNetV2 network = new(new() { Classes = 5, Attention = AttentionPlan.Of(options, AttentionPosition.ReplaceSpatialConv) });
        using MobileNetV2 plain = new(new() { Classes = 5 });
        (long parameters, long products) = (Count(plain), ModelCost.Measure(plain, 1, 3, 64, 64).MultiplyAccumulates);
        int[] expansion = [1, 6, 6, 6, 6, 6, 6], width = [16, 24, 32, 64, 96, 160, 320], blocks = [1, 2, 3, 4, 3, 3, 1], side = [32, 16, 8, 4, 4, 2, 2];
        int input = 32;
        for (int stage = 0; stage < 7; stage++)
            for (int block = 0; block < blocks[stage]; block++)
            {
                long c = input * expansion[stage], positions = side[stage] * side[stage];
                input = width[stage];
                (long more, long multiply) = OfBranch(c, positions);
                parameters += more - (9 * c) - (2 * c);
                products += multiply - (9 * c * positions);
            }

        ModelCost cost = ModelCost.Measure(network, 1, 3, 64, 64);
        Assert.Equal((parameters, products), (cost.Parameters, cost.MultiplyAccumulates));

        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        BranchModule first = Assert.IsAssignableFrom<BranchModule>(modules["features.1.conv.0.0"]);
        BranchModule second = Assert.IsAssignableFrom<BranchModule>(modules["features.2.conv.1.0"]);
        Assert.Equal(new ConvolutionSpec(32, 32) { Groups = 32, Activation = GateActivation.ReLU6 }, first.Convolution);
        Assert.Equal(new ConvolutionSpec(96, 96, 2) { Groups = 96, Activation = GateActivation.ReLU6 }, second.Convolution);
        Assert.False(modules.ContainsKey("features.2.conv.1.1"));
        Assert.Contains("(96 → 96, stride 2, groups 96, ", second.ToString(), StringComparison.Ordinal);

        // A block by hand, with the branch between its other parts.
        network.eval();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 16, 7, 5);
        Tensor y = Call("features.2.conv.3", Call("features.2.conv.2", Call("features.2.conv.1.0", Call("features.2.conv.0", x))));
        Assert.Equal([2, 24, 4, 3], y.shape);
        Assert.True(y.equal(Call("features.2", x)).all().ToBoolean());

        Tensor Call(string name, Tensor map) => ((nn.Module<Tensor, Tensor>)modules[name]).call(map);

        (long Parameters, long Products) OfBranch(long c, long positions)
        {
            switch (options)
            {
                case SelectiveKernelOptions kernel:
                    // Two depthwise paths; divided among them, each channel yields two outputs: as many kernels either way.
                    long w = kernel.SplitInput ? Rounded(c / 16.0, 8) : Math.Max(32, c / 16), selection = 3 * c * w;
                    return ((2 * (9 + 2) * c) + selection + (2 * w), (2 * 9 * c * positions) + selection);
                default:
                    long inner = Math.Max(32, c * 2 / 4), weights = 3 * c * inner;
                    return ((9 * 2 * c) + (2 * 2 * c) + weights + inner + (2 * c) + (2 * inner), (2 * 9 * c * positions) + weights);
            }
        }

        static long Rounded(double wanted, int divisor)
        {
            long rounded = Math.Max(divisor, divisor * (long)Math.Floor((wanted / divisor) + 0.5));
            return rounded < 0.9 * wanted ? rounded + divisor : rounded;
        }

        static long Count(nn.Module module) => module.parameters().Sum(p => p.numel());
    }

    [Fact]
    public void A_mobilenet_of_branches_trains_and_leaves_nothing_behind()
    {
        manual_seed(1);
        using FeatureNetwork network = Cases.Networks["mobilenetv2 of branches"]();
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.01);
        using Tensor x = randn(4, 3, 12, 9);
        using Tensor labels = tensor(new long[] { 0, 1, 2, 1 });
        for (int i = 0; i < 3; i++) Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 20; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);
        Assert.All(network.named_parameters(), p => Assert.True(p.parameter.grad is { } g && g.isfinite().all().ToBoolean(), p.name));

        void Step()
        {
            using DisposeScope scope = NewDisposeScope();
            optimizer.zero_grad();
            nn.functional.cross_entropy(network.call(x), labels).backward();
            optimizer.step();
        }
    }

    [Fact]
    public void A_depthwise_selective_kernel_of_equal_paths_is_the_convolution_it_replaces()
    {
        // Paths alike: whatever the weights, their mean is the depthwise convolution with norm and activation.
        using DisposeScope scope = NewDisposeScope();
        using MobileNetV2 plain = new(Cases.TinyMobileNet), branched = new(Cases.TinyMobileNet with
        {
            Attention = AttentionPlan.Of(new SelectiveKernelOptions { KernelSizes = [3, 3] }, AttentionPosition.ReplaceSpatialConv),
        });
        Subject.Randomize(plain, 3);
        Subject.Randomize(branched, 4);
        Dictionary<string, Tensor> from = plain.state_dict();
        using (no_grad())
        {
            foreach ((string key, Tensor value) in branched.state_dict())
            {
                string[] halves = key.Split(".0.paths.");
                if (halves.Length == 1 && !key.Contains(".attn.", StringComparison.Ordinal)) value.copy_(from[key]);
                if (halves.Length == 2) value.copy_(from[halves[0] + "." + halves[1][2..].Replace("conv", "0").Replace("bn", "1")]);
            }
        }

        plain.eval();
        branched.eval();
        manual_seed(7);
        Tensor x = randn(2, 3, 16, 16), y = branched.call(x);
        Assert.True(plain.call(x).allclose(y, 1e-4, 1e-5));
        Assert.True(y.std().ToDouble() > 1e-3);
    }

    [Fact]
    public void Branches_stand_where_a_convolution_is_replaced_and_nothing_else_does()
    {
        Refused(AttentionPlan.Of(new SelectiveKernelOptions()), "it replaces a convolution, which this place does not; place it at ReplaceSpatialConv of a MobileNetV2 or ResNet");
        Refused(AttentionPlan.Of(new CbamOptions(), AttentionPosition.ReplaceSpatialConv), "only branch kinds such as selective-kernel");
        Refused(
            AttentionPlan.Of(new SelectiveKernelOptions(), AttentionPosition.ReplaceSpatialConv)
                .Add(new SplitAttentionOptions(), AttentionPosition.ReplaceSpatialConv).InStages(3),
            "Rule 2 of the plan (split-attention at ReplaceSpatialConv of stages [3]) replaces a convolution of ResNet at stage 3, block 0");
        Refused(AttentionPlan.Of(new SelectiveKernelOptions { Groups = 48 }, AttentionPosition.ReplaceSpatialConv), "at stage 1, block 0, ReplaceSpatialConv");
        MobileRefused(SelectiveKernelOptions.Paper, "stage 2, block 1", "Groups is 32, which makes 32 groups that do not divide the 144 input channels of a path");
        MobileRefused(new SplitAttentionOptions { Groups = 32 }, "stage 1, block 0", "Groups is 32, which makes 64 groups that do not divide the 32 input channels");
        MobileRefused(
            new SelectiveKernelOptions { KernelSizes = [3, 5, 7], SplitInput = true }, "stage 1, block 0", "SplitInput divides 32 channels among 3 paths");
        MobileRefused(new CbamOptions(), "stage 1, block 0", "AfterDepthwise of a ConvNeXt, EfficientNet or MobileNetV2");

        AttentionPlan plan = AttentionPlan.Parse("selective-kernel:groups=2@replace-spatial-conv:3,4");
        Assert.Equal(plan, AttentionPlan.FromJson(plan.ToJson()));
        Assert.Equal(9, plan.Resolve("ResNet", new ResNetOptions { Block = ResNetBlock.Bottleneck, Layers = [3, 4, 6, 3] }.Sites()).Placed.Count());

        static void MobileRefused(AttentionOptions options, string where, string why)
        {
            MobileNetV2Options network = new() { Attention = AttentionPlan.Of(options, AttentionPosition.ReplaceSpatialConv) };
            string message = Assert.ThrowsAny<ArgumentException>(() => new MobileNetV2(network)).Message;
            Assert.Contains($"does not fit MobileNetV2 at {where}, ReplaceSpatialConv", message, StringComparison.Ordinal);
            Assert.Contains(why, message, StringComparison.Ordinal);
        }

        static void Refused(AttentionPlan plan, string message) => Assert.Contains(
            message, Assert.ThrowsAny<ArgumentException>(() => ResNet.ResNet18(attention: plan)).Message, StringComparison.Ordinal);
    }

    private static BranchModule Build(string name, int seed, bool training = false, ScalarType dtype = ScalarType.Float64, double dropout = 0)
    {
        (_, BranchAttentionOptions options, ConvolutionSpec convolution) = BranchRow.All.Single(row => row.Name == name);
        BranchModule module = (options with { Dropout = dropout }).Create(convolution);
        if (dtype != ScalarType.Float32) module.to(dtype);
        Subject.Randomize(module, seed);
        module.train(training);
        return module;
    }

    private static OracleState State(nn.Module module) => new(module.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.Doubles()));

    private static DenseMap Oracle(BranchModule module, DenseMap x, OracleState state)
        => BranchOracle.Forward((BranchAttentionOptions)module.Options, x, module.Convolution, state, module.training);
}
