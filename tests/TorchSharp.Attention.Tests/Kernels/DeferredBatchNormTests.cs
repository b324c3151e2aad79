using CsCheck;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// The end of a residual block in training whose last norm is never written, max(x · g(x) + shortcut, 0) with x = norm(z), against libtorch's
/// operations in float64.
/// </summary>
public sealed class DeferredBatchNormTests : IDisposable
{
    private static readonly IReadOnlyList<FusableGate> Gates = FusableGates.On(FusedPaths.AfterNorm);

    private static readonly Gen<BlockTrial> Trials = Gen.Select(
        Gen.OneOf(Gates.ToArray()), Gen.Int[1, 4], Gen.Int[1, 40], Gen.Int[2, 21], Gen.Int[2, 21], Gen.Bool, Gen.Int,
        (gate, batch, channels, height, width, ends, seed) => new BlockTrial(new GateTrial(gate, batch, channels, height, width, seed), ends));

    private readonly KernelSettings _kernels = KernelSettings.ForAnySize();
    private readonly ITestOutputHelper _output;

    public DeferredBatchNormTests(ITestOutputHelper output) => _output = output;

    public void Dispose() => _kernels.Dispose();

    [Fact]
    public void Output_statistics_and_all_gradients_are_those_of_the_composed_operations_in_float64() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            Block block = new(trial);
            if (block.MaximaAreClear()) HeldToFloat64(block, (one, fused) => one.Run(fused), 2e-4);
        },
        iter: 300,
        threads: 1);

    [Theory]
    [InlineData(0f, 1f)]
    [InlineData(-1f, 1f)]
    [InlineData(1f, 30f)]
    public void Norms_with_zero_or_negative_weights_or_inputs_far_from_zero_agree_with_float64(float weight, float distance)
    {
        foreach (FusableGate gate in Gates)
        {
            using DisposeScope scope = NewDisposeScope();
            Block block = new(gate, 3, 9, 7, 6, seed: 4);
            using (no_grad())
            {
                block.Norm.weight!.fill_(weight);
                block.Input.mul_(0.5).add_(distance);
            }

            HeldToFloat64(block, (one, fused) => one.Run(fused), 1e-3);
        }
    }

    [Fact]
    public void Values_of_a_channel_that_rounding_makes_equal_share_the_gradient_of_its_maximum()
    {
        foreach (FusableGate gate in Gates)
        {
            using DisposeScope scope = NewDisposeScope();
            Block block = new(gate, 3, 9, 7, 6, seed: 4);
            using (no_grad())
            {
                block.Norm.weight!.fill_(1e-9);
                block.Norm.bias!.fill_(1);
            }

            // In float64 they would not be one.
            Agree(block.Run(fused: false), block.Run(fused: true), 1e-3);
        }
    }

    [Fact]
    public void Positions_that_share_a_maximum_share_its_gradient() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            Block block = new(trial);

            // Whole numbers: every plane has its largest value many times.
            block.Input.round_();
            if (block.MaximaAreClear()) HeldToFloat64(block, (one, fused) => one.Run(fused), 3e-4);
        },
        iter: 60,
        threads: 1);

    [Fact]
    public void Frozen_parts_get_no_gradient_and_the_others_get_theirs()
    {
        foreach (bool input in (bool[])[false, true])
        {
            foreach (bool norm in (bool[])[false, true])
            {
                foreach (bool shortcut in (bool[])[false, true])
                {
                    foreach (bool gate in (bool[])[false, true])
                    {
                        if (!(input || norm)) continue;
                        for (int i = 0; i < Gates.Count; i++)
                        {
                            using DisposeScope scope = NewDisposeScope();
                            Block block = new(new BlockTrial(new GateTrial(Gates[i], 2, 11, 6, 5, Seed: i), Ends: i % 2 == 0 || shortcut)) { Learns = (input, norm, shortcut, gate) };
                            HeldToFloat64(block, (one, fused) => one.Run(fused), 2e-4);
                        }
                    }
                }
            }
        }
    }

    [Fact]
    public void Second_derivatives_are_those_of_the_composed_operations() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            if (!trial.Gate.Gate.HasSecondDerivatives || trial.Gate.Batch * trial.Gate.Height * trial.Gate.Width < 12) return;
            Block block = new(trial);
            if (block.MaximaAreClear()) HeldToFloat64(block, (one, fused) => one.RunTwice(fused), 5e-3);
        },
        iter: 60,
        threads: 1);

    [Fact]
    public void A_graph_kept_gives_the_same_gradients_again()
    {
        foreach (FusableGate gate in Gates)
        {
            using DisposeScope scope = NewDisposeScope();
            Block block = new(gate, 2, 9, 6, 6, seed: 8);
            Tensor z = block.Input.requires_grad_(), shortcut = block.Shortcut.requires_grad_();
            Tensor loss = block.Gate.TryFuseAfterNorm(block.Norm, z, shortcut)!.mul(block.Direction).sum();
            Tensor[] wanted = [z, block.Norm.weight!, block.Norm.bias!, shortcut];
            IList<Tensor> first = autograd.grad([loss], wanted, retain_graph: true);

            // The norm's own step does not run for those two; what it would have taken must not be taken by the next pass.
            autograd.grad([loss], [shortcut], retain_graph: true);
            if (block.Gate.parameters().FirstOrDefault() is { } parameter) autograd.grad([loss], [parameter], retain_graph: true);
            IList<Tensor> kernels = autograd.grad([loss], wanted, retain_graph: true);
            IList<Tensor> again = autograd.grad([loss], wanted, create_graph: true, retain_graph: true);
            IList<Tensor> last = autograd.grad([loss], wanted);
            for (int i = 0; i < wanted.Length; i++)
            {
                Assert.True(first[i].Equals(kernels[i]), $"kernels {i}");
                Near(first[i], again[i], 2e-5, $"composed {i}");
                Near(first[i], last[i], 2e-5, $"again {i}");
            }
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void Special_values_spread_as_in_the_composed_operations(float value)
    {
        foreach (FusableGate gate in Gates)
        {
            using DisposeScope scope = NewDisposeScope();
            Block block = new(gate, 2, 9, 6, 6, seed: 8);
            block.Input[1, 2, 1, 1] = tensor(value);
            List<(string Name, Tensor Value)> composed = block.Run(fused: false), fused = block.Run(fused: true);
            foreach (((string name, Tensor expected), (_, Tensor actual)) in composed.Zip(fused))
            {
                Assert.True(expected.isfinite().Equals(actual.isfinite()), $"{block.Gate} {name}");
            }
        }
    }

    [Fact]
    public void Views_other_layouts_single_positions_and_hooks_are_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        Block block = new(FusableGates.Named("se"), 2, 8, 4, 4, seed: 1);
        Tensor pixels = block.Input.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), strided = randn(2, 8, 4, 8).slice(3, 0, 8, 2);
        Assert.Null(Try(pixels, block.Shortcut));
        Assert.Null(Try(strided, block.Shortcut));
        Assert.Null(Try(block.Input, strided));
        Assert.Null(Try(randn(1, 8, 1, 1), randn(1, 8, 1, 1)));
        Assert.Throws<ArgumentException>(() => Try(block.Input.to_type(ScalarType.BFloat16), block.Shortcut.to_type(ScalarType.BFloat16)));
        Assert.NotNull(Try(block.Input, block.Shortcut));
        AttentionKernels.Enabled = false;
        Assert.Null(Try(block.Input, block.Shortcut));
        AttentionKernels.Enabled = true;
        using (no_grad()) Assert.Null(Try(block.Input, block.Shortcut));
        block.Norm.eval();
        Assert.Null(Try(block.Input, block.Shortcut));
        block.Norm.train();
        var listening = block.Norm.register_forward_hook((_, _, output) => output);
        Assert.Null(Try(block.Input, block.Shortcut));
        listening.remove();
        foreach (nn.Module<Tensor, Tensor> layer in (nn.Module<Tensor, Tensor>[])[block.Gate, block.Gate.modules().OfType<Conv2d>().First()])
        {
            listening = layer.register_forward_hook((_, _, output) => output);
            Assert.Null(Try(block.Input, block.Shortcut));
            listening.remove();
        }

        Assert.NotNull(Try(block.Input, block.Shortcut));

        // Nothing was counted by those that ran the layers.
        Assert.Equal(2, block.Norm.num_batches_tracked!.ToInt64());

        Tensor? Try(Tensor z, Tensor shortcut) => block.Gate.TryFuseAfterNorm(block.Norm, z.detach().requires_grad_(), shortcut);
    }

    [Fact]
    public void A_view_with_an_offset_is_read_where_it_lies()
    {
        using DisposeScope scope = NewDisposeScope();
        Block block = new(FusableGates.Named("cbam, timm"), 2, 8, 5, 4, seed: 1), offset = new(FusableGates.Named("cbam, timm"), 2, 8, 5, 4, seed: 1);
        offset.Input = cat([randn(1, 8, 5, 4), offset.Input]).narrow(0, 1, 2);
        offset.Shortcut = cat([randn(1, 8, 5, 4), offset.Shortcut]).narrow(0, 1, 2);
        foreach (((string name, Tensor expected), (_, Tensor actual)) in block.Run(fused: true).Zip(offset.Run(fused: true)))
        {
            Assert.True(expected.Equals(actual), name);
        }
    }

    [Theory]
    [InlineData("z")]
    [InlineData("y")]
    public void A_change_in_place_before_the_backward_pass_is_an_exception(string changed)
    {
        using DisposeScope scope = NewDisposeScope();
        Block block = new(FusableGates.Named("cbam, timm"), 2, 16, 8, 8, seed: 1);
        Tensor z = block.Input.requires_grad_().mul(block.Direction);
        Tensor y = block.Gate.TryFuseAfterNorm(block.Norm, z, block.Shortcut)!;
        Tensor loss = y.square().sum();
        if (changed == "z") z.zero_();
        else y.zero_();
        Assert.ThrowsAny<Exception>(() => loss.backward());

        // And the next step works again.
        block.Gate.TryFuseAfterNorm(block.Norm, block.Input, block.Shortcut)!.sum().backward();
        Assert.True(block.Input.grad!.isfinite().all().ToBoolean());
    }

    [Fact]
    public void The_same_numbers_with_any_number_of_threads_and_run_after_run()
    {
        int threads = get_num_threads();
        try
        {
            foreach (BlockTrial trial in (BlockTrial[])
                [
                    new(new(FusableGates.Named("se"), 2, 33, 17, 19, 2)), new(new(FusableGates.Named("cbam, timm"), 3, 16, 28, 28, 2)),
                    new(new(FusableGates.Named("cbam, official"), 1, 40, 9, 30, 2), Ends: false), new(new(FusableGates.Named("eca"), 2, 3, 70, 90, 2)),
                ])
            {
                using DisposeScope scope = NewDisposeScope();
                Block block = new(trial);
                set_num_threads(1);
                List<(string Name, Tensor Value)> one = block.Run(fused: true);
                foreach (int count in (int[])[2, 3, 8])
                {
                    set_num_threads(count);
                    List<(string Name, Tensor Value)> some = block.Run(fused: true), again = block.Run(fused: true);
                    Agree(one, some, 1e-5);
                    foreach (((string name, Tensor first), (_, Tensor second)) in some.Zip(again)) Assert.True(first.Equals(second), name);
                }
            }
        }
        finally
        {
            set_num_threads(threads);
        }
    }

    [Fact]
    public void Eight_threads_train_at_once_as_one_alone()
    {
        BlockTrial[] trials = [.. Enumerable.Range(0, 8).Select(i => new BlockTrial(new GateTrial(Gates[i % Gates.Count], 2, 24, 14, 15, Seed: i), Ends: i % 3 != 0))];
        string[][] alone = [.. trials.Select(trial => Steps(trial))], together = new string[trials.Length][];
        Thread[] threads = [.. trials.Select((trial, i) => new Thread(() => together[i] = Steps(trial)))];
        foreach (Thread thread in threads) thread.Start();
        foreach (Thread thread in threads) thread.Join();
        for (int i = 0; i < trials.Length; i++) Assert.Equal(alone[i], together[i]);

        // Bits of all results; random numbers are the process's.
        static string[] Steps(BlockTrial trial)
        {
            using DisposeScope scope = NewDisposeScope();
            Block block;
            lock (Gates) block = new Block(trial);
            return [.. Enumerable.Range(0, 20).SelectMany(_ => block.Run(fused: true)).Select(entry => entry.Name + Convert.ToHexString(entry.Value.contiguous().bytes))];
        }
    }

    [Fact]
    public void A_thousand_steps_leave_no_tensor_alive()
    {
        foreach (string name in (string[])["se", "se, max pool", "cbam, timm"])
        {
            using DisposeScope scope = NewDisposeScope();
            Block block = new(FusableGates.Named(name), 2, 12, 5, 5, seed: 2);
            block.Input.requires_grad_();
            block.Shortcut.requires_grad_();
            for (int i = 0; i < 3; i++) Step(backward: true);
            long before = LiveTensors.OfThread;
            for (int i = 0; i < 1000; i++) Step(backward: i % 10 != 0);
            Assert.Equal(before, LiveTensors.OfThread);
            for (int i = 0; i < 3; i++) Penalty();
            before = LiveTensors.OfThread;
            for (int i = 0; i < 100; i++) Penalty();
            Assert.Equal(before, LiveTensors.OfThread);

            void Step(bool backward)
            {
                using Tensor y = block.Gate.TryFuseAfterNorm(block.Norm, block.Input, block.Shortcut)!;
                using Tensor loss = y.sum();
                if (backward) loss.backward();
            }

            void Penalty()
            {
                using Tensor y = block.Gate.TryFuseAfterNorm(block.Norm, block.Input, block.Shortcut)!;
                using Tensor sum = y.square().DetachFromDisposeScope(), loss = sum.sum().DetachFromDisposeScope();
                IList<Tensor> first = autograd.grad([loss], [block.Input], retain_graph: true, create_graph: true);
                using Tensor square = first[0].square().DetachFromDisposeScope(), penalty = square.sum().DetachFromDisposeScope();
                penalty.backward();
                first[0].Dispose();
            }
        }
    }

    [Theory]
    [InlineData("basic")]
    [InlineData("bottleneck")]
    [InlineData("mobilenet")]
    public void A_network_steps_as_without_kernels_and_keeps_the_same_statistics(string kind)
    {
        foreach (AttentionOptions options in (AttentionOptions[])[new SqueezeExcitationOptions { ReducedChannels = 4 }, EfficientChannelAttentionOptions.Paper, CbamOptions.Timm with { ReducedChannels = 4 }])
        {
            using DisposeScope scope = NewDisposeScope();
            manual_seed(3);
            AttentionPlan plan = AttentionPlan.Of(options);
            using FeatureNetwork network = kind == "mobilenet"
                ? new MobileNetV2(new MobileNetV2Options { WidthMultiplier = 0.5, Classes = 5, Attention = plan })
                : new ResNet(new ResNetOptions
                {
                    Block = kind == "basic" ? ResNetBlock.Basic : ResNetBlock.Bottleneck,
                    Layers = [1, 2],
                    StagePlanes = [16, 24],
                    Classes = 5,
                    Attention = plan,
                });
            Tensor images = randn(4, 3, 48, 48);
            Dictionary<string, Tensor> start = network.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
            Dictionary<string, Tensor> composed = Step(fused: false);
            long before = DeferredBatchNorm.Begun;
            Dictionary<string, Tensor> fused = Step(fused: true);
            Assert.Equal(kind == "mobilenet" ? 17 : 3, DeferredBatchNorm.Begun - before);

            network.to(ScalarType.Float64);
            images = images.to_type(ScalarType.Float64);
            Dictionary<string, Tensor> exact = Step(fused: false);

            // Held to float64, as far as the composed operations in float32 keep to it.
            double composedError = Middle(composed), fusedError = Middle(fused);
            _output.WriteLine($"{kind} {options}: {composedError:0.0e0} composed, {fusedError:0.0e0} fused");
            Assert.True(fusedError <= 3 * composedError, $"{composedError} composed, {fusedError} fused");

            double Middle(Dictionary<string, Tensor> found) => exact.Keys.Select(name => Error(name, found)).Order().ElementAt(exact.Count / 2);

            double Error(string name, Dictionary<string, Tensor> found)
                => (exact[name].sub(found[name]).norm() / exact[name].norm().clamp_min(1e-9)).ToDouble();

            Dictionary<string, Tensor> Step(bool fused)
            {
                network.load_state_dict(start);
                network.train();
                network.zero_grad();
                AttentionKernels.Enabled = fused;
                network.call(images).square().mean().backward();
                Dictionary<string, Tensor> all = network.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.grad!.to_type(ScalarType.Float64).clone());
                foreach ((string name, Tensor buffer) in network.named_buffers()) all[name] = buffer.to_type(ScalarType.Float64).clone();
                return all;
            }
        }
    }

    /// <summary>
    /// Against the composed operations in float64, or where those in float32 are as far from them (a ReLU's or a maximum's edge between the two
    /// roundings), against those.
    /// </summary>
    private static void HeldToFloat64(Block block, Func<Block, bool, List<(string Name, Tensor Value)>> run, double tolerance)
    {
        block.KeepOffTheEdge();
        List<(string Name, Tensor Value)> exact = run(block.InFloat64(), false), fused = run(block, true);
        if (exact.Zip(fused).All(pair => Distance(pair.First.Value, pair.Second.Value) <= tolerance)) return;
        Agree(run(block, false), fused, tolerance);
    }

    private static void Agree(List<(string Name, Tensor Value)> expected, List<(string Name, Tensor Value)> actual, double tolerance)
    {
        Assert.Equal(expected.Select(entry => entry.Name), actual.Select(entry => entry.Name));
        foreach (((string name, Tensor value), (_, Tensor other)) in expected.Zip(actual)) Near(value, other, tolerance, name);
    }

    private static void Near(Tensor expected, Tensor actual, double tolerance, string name)
    {
        double distance = Distance(expected, actual);
        Assert.True(distance <= tolerance, $"{name}: {distance} of {expected.abs().max().to_type(ScalarType.Float64).ToDouble()}");
    }

    /// <summary>Of the largest value, or of one where that is smaller.</summary>
    private static double Distance(Tensor expected, Tensor actual)
    {
        double scale = Math.Max(1, expected.abs().max().to_type(ScalarType.Float64).ToDouble());
        return expected.to_type(ScalarType.Float64).sub(actual.to_type(ScalarType.Float64)).abs().max().ToDouble() / scale;
    }

    /// <summary>A gate after a norm, with or without a shortcut and the ReLU after it.</summary>
    private sealed record BlockTrial(GateTrial Gate, bool Ends = true);

    /// <summary>Norm, gate and shortcut of a trial.</summary>
    private sealed class Block
    {
        private readonly BlockTrial _trial;

        public Block(FusableGate gate, int batch, int channels, int height, int width, int seed)
            : this(new BlockTrial(new GateTrial(gate, batch, channels, height, width, seed)))
        {
        }

        public Block(BlockTrial trial)
        {
            _trial = trial;
            Gate = (trial.Gate with { Training = true }).Build();
            Norm = nn.BatchNorm2d(trial.Gate.Channels);
            nn.init.normal_(Norm.weight!);
            nn.init.normal_(Norm.bias!);
            (Input, Shortcut, Direction) = (trial.Gate.NextMap(), trial.Gate.NextMap(), trial.Gate.NextMap());
        }

        public GateModule Gate { get; }

        public BatchNorm2d Norm { get; }

        public Tensor Input { get; set; }

        public Tensor Shortcut { get; set; }

        public Tensor Direction { get; private set; }

        public (bool Input, bool Norm, bool Shortcut, bool Gate) Learns { get; init; } = (true, true, true, true);

        public Block InFloat64()
        {
            Block exact = new(_trial) { Learns = Learns };
            exact.Gate.to(ScalarType.Float64);
            exact.Norm.load_state_dict(Norm.state_dict());
            exact.Norm.to(ScalarType.Float64);
            exact.Input = Input.detach().to_type(ScalarType.Float64);
            exact.Shortcut = Shortcut.detach().to_type(ScalarType.Float64);
            exact.Direction = Direction.to_type(ScalarType.Float64);
            return exact;
        }

        /// <summary>Moves the shortcut where the sum before the ReLU is so near zero that rounding may decide its sign.</summary>
        public void KeepOffTheEdge()
        {
            using IDisposable quiet = no_grad();
            Block exact = InFloat64();
            AttentionKernels.Enabled = false;
            Tensor near = exact.Gate.call(exact.Norm.call(exact.Input)).add(exact.Shortcut).abs().lt(1e-3);
            AttentionKernels.Enabled = true;
            Shortcut = Shortcut.add(near.to_type(ScalarType.Float32).mul(0.01));
        }

        /// <summary>Whether no rounding can decide what is the largest, over the positions of a channel or over the gated channels of a position.</summary>
        public bool MaximaAreClear()
        {
            using IDisposable quiet = no_grad();
            Block exact = InFloat64();
            Tensor x = exact.Norm.call(exact.Input);
            bool clear = KernelComparison.IsClear(x.amax([2, 3], keepdim: true), x) && KernelComparison.MaximaAreClear(exact.Gate, x);
            AttentionKernels.Enabled = true;
            return clear;
        }

        /// <summary>Output, running statistics and gradients of one step from the same state.</summary>
        public List<(string Name, Tensor Value)> Run(bool fused)
        {
            (Tensor z, Tensor shortcut, Tensor y, Action restore) = Forward(fused);
            y.mul(Direction).sum().backward();
            List<(string Name, Tensor Value)> all = [("y", y.detach())];
            if (Learns.Input) all.Add(("dz", z.grad!.clone()));
            if (Learns.Shortcut && _trial.Ends) all.Add(("shortcut", shortcut.grad!.clone()));
            if (Learns.Norm) all.AddRange([("weight", Norm.weight!.grad!.clone()), ("bias", Norm.bias!.grad!.clone())]);
            foreach ((string name, Parameter parameter) in Gate.named_parameters())
            {
                Assert.True(Learns.Gate || parameter.grad is null);
                if (Learns.Gate) all.Add((name, parameter.grad is null ? zeros_like(parameter) : parameter.grad.clone()));
            }

            all.AddRange([("mean", Norm.running_mean!.clone()), ("variance", Norm.running_var!.clone()), ("batches", Norm.num_batches_tracked!.to_type(ScalarType.Float32).clone())]);
            restore();
            return all;
        }

        /// <summary>The derivative of a directional derivative.</summary>
        public List<(string Name, Tensor Value)> RunTwice(bool fused)
        {
            (Tensor z, Tensor shortcut, Tensor y, Action restore) = Forward(fused);
            Tensor[] wanted = [z, Norm.weight!, Norm.bias!];
            IList<Tensor> first = autograd.grad([y.mul(Direction).sum()], [.. wanted, .. _trial.Ends ? [shortcut] : Array.Empty<Tensor>()], retain_graph: true, create_graph: true);
            Tensor again = first[0].mul(Direction).sum().add(first[1].sum()).add(first[2].square().sum());
            if (_trial.Ends) again = again.add(first[3].mul(y).sum());
            IList<Tensor> second = autograd.grad([again], wanted);
            restore();
            return [.. first.Select((value, i) => ($"first {i}", value.detach())), .. second.Select((value, i) => ($"second {i}", value))];
        }

        private (Tensor Z, Tensor Shortcut, Tensor Y, Action Restore) Forward(bool fused)
        {
            Dictionary<string, Tensor> gate = Gate.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
            Dictionary<string, Tensor> norm = Norm.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
            Gate.zero_grad();
            Norm.zero_grad();
            foreach (Parameter parameter in Gate.parameters()) parameter.requires_grad = Learns.Gate;
            foreach (Parameter parameter in Norm.parameters()) parameter.requires_grad = Learns.Norm;
            Tensor z = Input.detach().requires_grad_(Learns.Input), shortcut = Shortcut.detach().requires_grad_(Learns.Shortcut);
            AttentionKernels.Enabled = fused;
            Tensor? y = fused ? Gate.TryFuseAfterNorm(Norm, z, _trial.Ends ? shortcut : null) : Gate.call(Norm.call(z));
            if (!fused && _trial.Ends) y = y!.add(shortcut).relu();
            Assert.NotNull(y);
            AttentionKernels.Enabled = true;
            return (z, shortcut, y, Restore);

            void Restore()
            {
                Gate.load_state_dict(gate);
                Norm.load_state_dict(norm);
            }
        }
    }
}
