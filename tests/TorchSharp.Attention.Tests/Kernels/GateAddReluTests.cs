using CsCheck;

namespace TorchSharp.Attention.Tests;

/// <summary>The end of a residual block in training, max(x · g + shortcut, 0) as one function, against libtorch's operations.</summary>
public sealed class GateAddReluTests : IDisposable
{
    private static readonly IReadOnlyList<FusableGate> Gates = FusableGates.On(FusedPaths.AddRelu);

    private static readonly Gen<GateTrial> Trials = Gen.Select(
        Gen.OneOf(Gates.ToArray()), Gen.Int[1, 3], Gen.Int[1, 40], Gen.Int[2, 19], Gen.Bool, Gen.Bool, Gen.Int,
        (gate, batch, channels, side, pixels, training, seed)
            => new GateTrial(gate, batch, channels, side, side, seed) { Layout = pixels ? TrialLayout.Pixels : TrialLayout.Planes, Training = training });

    private readonly KernelSettings _kernels = KernelSettings.ForAnySize();

    public void Dispose() => _kernels.Dispose();

    [Fact]
    public void All_gradients_are_those_of_the_composed_operations() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            Agree(trial, ScalarType.Float32, (true, true, true), 3e-3);
        },
        iter: 250,
        threads: 1);

    [Fact]
    public void Frozen_parts_get_no_gradient_and_the_others_get_theirs() => Trials.Sample(
        trial =>
        {
            using GateModule gate = trial.Build();
            bool hasParameters = gate.parameters().Any();
            foreach (bool input in (bool[])[false, true])
            {
                foreach (bool residual in (bool[])[false, true])
                {
                    foreach (bool parameters in (bool[])[false, true])
                    {
                        if (!(input || residual || (parameters && hasParameters))) continue;
                        using DisposeScope scope = NewDisposeScope();
                        Agree(trial, ScalarType.Float32, (input, residual, parameters), 3e-3);
                    }
                }
            }
        },
        iter: 40,
        threads: 1);

    [Fact]
    public void Bfloat16_gradients_are_within_its_rounding() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            if (trial.Gate.Name is not ("se" or "se, max pool" or "channel, identity")) return;

            // Large enough that one hidden value beyond the ReLU on one path alone does not make the mean.
            int side = Math.Max(5, trial.Height);
            Agree(trial with { Training = false, Channels = Math.Max(8, trial.Channels), Height = side, Width = side }, ScalarType.BFloat16, (true, true, false), 0.08);
        },
        iter: 80,
        threads: 1);

    [Fact]
    public void Second_derivatives_are_those_of_the_composed_operations() => Trials.Sample(
        trial =>
        {
            if (!trial.Gate.HasSecondDerivatives) return;
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = trial.Build();
            (Tensor x, Tensor shortcut, Tensor weights) = Maps(trial);
            Tensor direction = randn_like(x);
            module.eval();
            Tensor expected = Second(fused: false), actual = Second(fused: true);
            Near(expected, actual, 2e-3);

            Tensor Second(bool fused)
            {
                Tensor input = x.detach().requires_grad_(), residual = shortcut.detach().requires_grad_();
                Tensor y = End(module, input, residual, fused);
                IList<Tensor> first = autograd.grad([y.mul(weights).sum()], [input, residual], retain_graph: true, create_graph: true);
                Assert.Equal(2, first.Count);
                return autograd.grad([first[0].mul(direction).sum()], [input])[0];
            }
        },
        iter: 60,
        threads: 1);

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void Special_values_send_back_what_the_composed_operations_do(float value)
    {
        foreach (FusableGate fusable in Gates)
        {
            foreach (bool pixels in (bool[])[false, true])
            {
                using DisposeScope scope = NewDisposeScope();
                GateTrial trial = new(fusable, 2, 9, 6, 6, Seed: 5) { Layout = pixels ? TrialLayout.Pixels : TrialLayout.Planes };
                using GateModule gate = trial.Build();
                (Tensor x, Tensor shortcut, Tensor weights) = Maps(trial);
                shortcut[1, 2, 1, 1] = tensor(value);
                List<Tensor> expected = Gradients(gate, x, shortcut, weights, fused: false, (true, true, true));
                List<Tensor> actual = Gradients(gate, x, shortcut, weights, fused: true, (true, true, true));
                for (int i = 0; i < expected.Count; i++)
                {
                    float[] e = expected[i].contiguous().data<float>().ToArray(), a = actual[i].contiguous().data<float>().ToArray();
                    for (int k = 0; k < e.Length; k++)
                    {
                        bool same = float.IsFinite(e[k]) ? Math.Abs(e[k] - a[k]) <= 2e-4 * Math.Max(1, Math.Abs(e[k])) : !float.IsFinite(a[k]);
                        Assert.True(same, $"{gate}, tensor {i}, element {k}: {e[k]} composed, {a[k]} fused");
                    }
                }
            }
        }
    }

    [Fact]
    public void An_infinite_value_beside_a_pooled_maximum_makes_no_gradient_infinite_that_libtorch_keeps_finite()
    {
        using DisposeScope scope = NewDisposeScope();
        GateTrial trial = new(FusableGates.Named("se, max pool"), 2, 9, 6, 6, Seed: 5);
        using GateModule gate = trial.Build();
        (Tensor x, Tensor shortcut, Tensor weights) = Maps(trial);
        x[0, 4, 2, 3] = tensor(float.NegativeInfinity);
        Tensor expected = Gradients(gate, x, shortcut, weights, fused: false, (true, true, true))[1];
        Tensor actual = Gradients(gate, x, shortcut, weights, fused: true, (true, true, true))[1];
        Assert.Equal(expected.isfinite().sum().ToInt64(), actual.isfinite().sum().ToInt64());
    }

    [Theory]
    [InlineData("x")]
    [InlineData("y")]
    public void A_change_in_place_before_the_backward_pass_is_an_exception(string changed)
    {
        foreach (bool residual in (bool[])[false, true])
        {
            using DisposeScope scope = NewDisposeScope();
            GateTrial trial = new(FusableGates.Named("cbam, timm"), 2, 16, 8, 8, Seed: 1) { Training = true };
            using GateModule gate = trial.Build();
            (Tensor leaf, Tensor shortcut, _) = Maps(trial);
            leaf.requires_grad_();
            Tensor x = leaf.add(leaf);
            AttentionKernels.Enabled = true;
            Tensor y = residual ? gate.TryGateAddRelu(x, shortcut)! : gate.call(x);
            Tensor loss = y.square().sum();
            if (changed == "x") x.zero_();
            else if (residual) y.zero_();
            else continue;
            Assert.ThrowsAny<Exception>(() => loss.backward());

            // And the next step works again.
            gate.call(leaf).sum().backward();
            Assert.NotNull(leaf.grad);
        }
    }

    [Fact]
    public void A_network_takes_the_same_step_with_and_without_kernels()
    {
        foreach (AttentionOptions options in (AttentionOptions[])[new SqueezeExcitationOptions { ReducedChannels = 4 }, CbamOptions.Timm with { ReducedChannels = 4 }])
        {
            using DisposeScope scope = NewDisposeScope();
            manual_seed(3);
            using ResNet network = ResNet.ResNet18(attention: AttentionPlan.Of(options));
            Tensor images = randn(4, 3, 64, 64);
            Dictionary<string, Tensor> start = network.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
            List<Tensor> composed = Step(fused: false), fused = Step(fused: true);
            for (int i = 0; i < composed.Count; i++) Near(composed[i], fused[i], 5e-3);

            List<Tensor> Step(bool fused)
            {
                network.load_state_dict(start);
                network.train();
                network.zero_grad();
                AttentionKernels.Enabled = fused;
                network.call(images).square().mean().backward();
                return [.. network.parameters().Select(parameter => parameter.grad!.clone())];
            }
        }
    }

    [Fact]
    public void A_hook_that_cuts_a_layer_off_cuts_nothing_else()
    {
        foreach (GateModule gate in (GateModule[])[new SqueezeExcitation(32), new ConcurrentSqueezeExcitation(32)])
        {
            using DisposeScope scope = NewDisposeScope();
            Modules.Conv2d layer = gate.modules().OfType<Modules.Conv2d>().First();
            layer.register_forward_hook((_, _, output) => output.detach());
            Tensor x = randn(2, 32, 9, 8).requires_grad_(), direction = randn(2, 32, 9, 8);
            List<Tensor> gradients = [];
            foreach (bool fused in (bool[])[false, true])
            {
                AttentionKernels.Enabled = fused;
                gradients.Add(autograd.grad([gate.call(x).mul(direction).sum()], [x])[0]);
            }

            Near(gradients[0], gradients[1], 1e-5);
            Assert.True(gradients[0].abs().max().ToSingle() > 0.1f);
            gate.Dispose();
        }
    }

    /// <summary>libtorch widens the product of the two to float32.</summary>
    [Fact]
    public void A_float32_gate_refuses_a_bfloat16_map_on_both_paths()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        foreach (GateModule gate in (GateModule[])[new GatedChannelTransformation(12), new StyleRecalibration(12)])
        {
            Tensor x = randn(2, 12, 5, 5).to_type(ScalarType.BFloat16);
            gate.eval();
            foreach (bool fused in new[] { false, true })
            {
                AttentionKernels.Enabled = fused;
                Assert.Contains("input is BFloat16", Assert.Throws<ArgumentException>(() => gate.call(x)).Message, StringComparison.Ordinal);
            }

            gate.to(ScalarType.BFloat16);
            Assert.Equal(ScalarType.BFloat16, gate.call(x).dtype);
            gate.Dispose();
        }
    }

    [Fact]
    public void A_thousand_steps_leave_no_tensor_alive()
    {
        AttentionKernels.Enabled = true;
        foreach (string name in (string[])["se", "spatial", "cbam, timm"])
        {
            GateTrial trial = new(FusableGates.Named(name), 2, 12, 5, 5, Seed: 2) { Training = true };
            using DisposeScope scope = NewDisposeScope();
            using GateModule gate = trial.Build();
            (Tensor x, Tensor shortcut, _) = Maps(trial);
            x.requires_grad_();
            shortcut.requires_grad_();
            for (int i = 0; i < 3; i++) Step();
            long before = LiveTensors.OfThread;
            for (int i = 0; i < 1000; i++) Step();
            Assert.Equal(before, LiveTensors.OfThread);

            void Step()
            {
                using Tensor y = gate.TryGateAddRelu(x, shortcut)!;
                using Tensor loss = y.sum();
                loss.backward();
            }
        }
    }

    private static void Agree(GateTrial trial, ScalarType type, (bool Input, bool Residual, bool Parameters) learns, double tolerance)
    {
        using GateModule module = trial.Build(type);
        (Tensor x, Tensor shortcut, Tensor weights) = Maps(trial, type);

        // Far from zero: the ReLU must not hang on how the sum was rounded.
        shortcut = type == ScalarType.BFloat16 ? shortcut.sign().mul(6) : AwayFromZero(module, x, shortcut);
        foreach (Modules.Parameter parameter in module.parameters()) parameter.requires_grad = learns.Parameters;
        List<Tensor> expected = Gradients(module, x, shortcut, weights, fused: false, learns);
        List<Tensor> actual = Gradients(module, x, shortcut, weights, fused: true, learns);
        Assert.Equal(expected.Count, actual.Count);
        if (type == ScalarType.BFloat16)
        {
            for (int i = 0; i < expected.Count; i++) Near(expected[i], actual[i], tolerance);
            return;
        }

        // A norm over two samples that are nearly alike magnifies any rounding: what the composed operations lose there, the kernels may lose, too.
        using GateModule precise = trial.Build(ScalarType.Float64);
        foreach (Modules.Parameter parameter in precise.parameters()) parameter.requires_grad = learns.Parameters;
        List<Tensor> exact = Gradients(precise, x.to_type(ScalarType.Float64), shortcut.to_type(ScalarType.Float64), weights.to_type(ScalarType.Float64), fused: false, learns);
        for (int i = 0; i < exact.Count; i++)
        {
            double lost = exact[i].sub(expected[i].to_type(ScalarType.Float64)).abs().max().ToDouble();
            Near(exact[i], actual[i].to_type(ScalarType.Float64), tolerance, 4 * lost);
        }
    }

    private static Tensor AwayFromZero(GateModule module, Tensor x, Tensor shortcut)
    {
        using IDisposable quiet = no_grad();
        Dictionary<string, Tensor> buffers = module.named_buffers().ToDictionary(entry => entry.name, entry => entry.buffer.clone());
        AttentionKernels.Enabled = false;
        Tensor sum = module.call(x).Plus(shortcut), near = sum.abs().lt(1e-3);
        foreach ((string name, Tensor buffer) in module.named_buffers()) buffer.copy_(buffers[name]);
        return shortcut.Plus(near.to_type(x.dtype));
    }

    private static List<Tensor> Gradients(
        GateModule module, Tensor x, Tensor shortcut, Tensor weights, bool fused, (bool Input, bool Residual, bool Parameters) learns)
    {
        module.zero_grad();
        Dictionary<string, Tensor> buffers = module.named_buffers().ToDictionary(entry => entry.name, entry => entry.buffer.clone());
        Tensor input = x.detach().requires_grad_(learns.Input), residual = shortcut.detach().requires_grad_(learns.Residual);
        Tensor y = End(module, input, residual, fused);
        y.mul(weights).sum().backward();
        List<Tensor> all = [y.detach()];
        if (learns.Input) all.Add(input.grad!.clone());
        if (learns.Residual) all.Add(residual.grad!.clone());
        if (learns.Parameters) all.AddRange(module.parameters().Select(p => p.grad is null ? zeros_like(p) : p.grad.clone()));
        using IDisposable quiet = no_grad();
        foreach ((string name, Tensor buffer) in module.named_buffers()) buffer.copy_(buffers[name]);
        return all;
    }

    private static Tensor End(GateModule module, Tensor x, Tensor shortcut, bool fused)
    {
        AttentionKernels.Enabled = fused;
        if (!fused) return module.call(x).add(shortcut).relu();
        Tensor? end = module.TryGateAddRelu(x, shortcut);
        bool learns = x.requires_grad || module.parameters().Any(parameter => parameter.requires_grad);
        Assert.Equal(learns, end is not null);
        return end ?? module.call(x).add(shortcut).relu();
    }

    private static void Near(Tensor expected, Tensor actual, double tolerance, double slack = 0)
    {
        double scale = Math.Max(1, expected.abs().max().to_type(ScalarType.Float64).ToDouble());

        // In bfloat16 a hidden value near zero may pass the ReLU between the layers on one path alone.
        Tensor errors = expected.sub(actual).abs();
        double error = (expected.dtype == ScalarType.BFloat16 ? errors.mean() : errors.max()).to_type(ScalarType.Float64).ToDouble();
        Assert.True(error <= (tolerance * scale) + slack, $"error {error} at scale {scale}");
    }

    private static (Tensor X, Tensor Shortcut, Tensor Weights) Maps(GateTrial trial, ScalarType type = ScalarType.Float32)
    {
        manual_seed(trial.Seed);
        return (trial.NextMap(type), trial.NextMap(type), trial.NextMap(type));
    }
}
