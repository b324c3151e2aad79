using CsCheck;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// The fused kernels against libtorch's operations: values, gradients, second derivatives, layouts, special values, threads. The
/// kernels' switch is one for the process, hence one thread per property.
/// </summary>
public sealed class KernelTests : IDisposable
{
    private static readonly Gen<GateTrial> Trials = Gen.Select(
        Gen.OneOf(FusableGates.All.ToArray()), Gen.Int[0, 3], Gen.Int[1, 40], Gen.Int[1, 21], Gen.Int[1, 21], Gen.Enum<TrialLayout>(), Gen.Bool, Gen.Int,
        (gate, batch, channels, height, width, layout, training, seed)
            => new GateTrial(gate, batch, Math.Max(LeastChannels(gate), channels), height, width, seed) { Layout = layout, Training = training });

    private readonly KernelSettings _kernels = KernelSettings.ForAnySize();

    public void Dispose() => _kernels.Dispose();

    [Fact]
    public void Values_are_those_of_the_composed_operations() => Trials.Sample(trial => Compare(trial, ScalarType.Float32, 2e-5), iter: 400, threads: 1);

    [Fact]
    public void Bfloat16_values_are_within_its_rounding() => Trials.Sample(trial => Compare(trial with { Training = false }, ScalarType.BFloat16, 0.06), iter: 200, threads: 1);

    [Fact]
    public void Gradients_are_those_of_the_composed_operations() => Trials.Sample(trial => CompareGradients(trial, ties: false), iter: 300, threads: 1);

    [Fact]
    public void Gradients_of_shared_maxima_are_split_evenly() => Trials.Sample(trial => CompareGradients(trial, ties: true), iter: 200, threads: 1);

    [Fact]
    public void Gradients_reach_every_part_that_is_not_frozen() => Trials.Sample(
        trial =>
        {
            if (trial.Batch == 0) return true;
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = trial.Build(), exactModule = trial.Build(ScalarType.Float64);
            Tensor x = trial.Map(), weights = randn_like(x), exactX = x.to_type(ScalarType.Float64);
            if (!KernelComparison.MaximaAreClear(exactModule, exactX)) return true;
            foreach (bool inputLearns in (bool[])[false, true])
            {
                foreach ((string name, Modules.Parameter parameter) in module.named_parameters())
                {
                    parameter.requires_grad = !inputLearns && name[..Math.Max(0, name.LastIndexOf('.'))].Sum(letter => letter) % 2 == Math.Abs(trial.Seed % 2);
                }

                if (!inputLearns && !module.parameters().Any(parameter => parameter.requires_grad)) continue;
                foreach ((string name, Modules.Parameter parameter) in exactModule.named_parameters()) parameter.requires_grad = module.get_parameter(name)!.requires_grad;
                List<Tensor> expected = Numbers(() => KernelComparison.Gradients(module, x, weights, fused: false, inputLearns));
                if (HaveNaN(expected)) continue;
                List<Tensor> actual = Numbers(() => KernelComparison.Gradients(module, x, weights, fused: true, inputLearns));
                List<Tensor> exact = Numbers(() => KernelComparison.Gradients(exactModule, exactX, weights.to_type(ScalarType.Float64), fused: false, inputLearns));
                KernelComparison.NearOrAsGood(
                    exact, expected, actual, trial.Training ? 3e-3 : 3e-4,
                    () => KernelComparison.Gradients(exactModule, KernelComparison.Shaken(exactX), weights.to_type(ScalarType.Float64), fused: false, inputLearns));
            }

            return true;

            // libtorch's own batch norm now and then answers with NaN where a part of what it could learn is frozen, and not when asked again.
            static List<Tensor> Numbers(Func<List<Tensor>> gradients)
            {
                List<Tensor> found = gradients();
                return HaveNaN(found) ? gradients() : found;
            }

            static bool HaveNaN(List<Tensor> found) => found.Exists(one => one.isnan().any().ToBoolean());
        },
        iter: 150,
        threads: 1);

    [Fact]
    public void Second_derivatives_are_those_of_the_composed_operations() => Trials.Sample(
        trial =>
        {
            if (trial.Batch == 0 || trial.Training || !trial.Gate.HasSecondDerivatives) return true;
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = trial.Build(), exactModule = trial.Build(ScalarType.Float64);
            Tensor x = trial.Map(), weights = randn_like(x), direction = randn_like(x);
            if (!KernelComparison.MaximaAreClear(exactModule, x.to_type(ScalarType.Float64))) return true;
            Tensor expected = Second(fused: false), actual = Second(fused: true);
            KernelComparison.Near(expected, actual, 2e-3);
            return true;

            Tensor Second(bool fused)
            {
                Tensor input = x.detach().requires_grad_();
                Tensor y = KernelComparison.Run(module, input, fused);
                Tensor first = autograd.grad([y.mul(weights).sum()], [input], retain_graph: true, create_graph: true)[0];
                return autograd.grad([first.mul(direction).sum()], [input])[0];
            }
        },
        iter: 150,
        threads: 1);

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    [InlineData(1e-40f)]
    public void Special_values_propagate_as_composed(float value)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        foreach (FusableGate fusable in FusableGates.All)
        {
            foreach (TrialLayout layout in Enum.GetValues<TrialLayout>())
            {
                GateTrial trial = new(fusable, 2, 9, 5, 7, Seed: 3) { Layout = layout };
                using GateModule gate = trial.Build();
                Tensor x = trial.Map();
                x[0, 4, 2, 3] = tensor(value);
                x[1, 8, 4, 6] = tensor(value);
                Tensor expected = KernelComparison.Run(gate, x, fused: false), actual = KernelComparison.Run(gate, x, fused: true);
                float[] e = expected.contiguous().data<float>().ToArray(), a = actual.contiguous().data<float>().ToArray();
                for (int i = 0; i < e.Length; i++)
                {
                    bool same = float.IsFinite(e[i]) ? Math.Abs(e[i] - a[i]) <= 2e-5 : e[i].Equals(a[i]);
                    Assert.True(same, $"{gate}, {layout}, element {i}: {e[i]} composed, {a[i]} fused");
                }
            }
        }
    }

    [Fact]
    public void Writing_over_the_input_and_adding_a_shortcut_give_the_same_values() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable quiet = no_grad();
            using GateModule module = trial.Build();
            module.eval();
            Tensor x = trial.Map(), shortcut = (trial with { Seed = trial.Seed ^ 1 }).Map();
            Tensor refined = KernelComparison.Run(module, x, fused: false);
            AttentionKernels.Enabled = true;
            Tensor before = x.clone(), again = trial.Layout == TrialLayout.Strided ? x : trial.Map();
            KernelComparison.Near(refined, module.call(x), 2e-5);
            KernelComparison.Near(before, x, 0);
            Tensor? end = module.TryGateAddRelu(x, shortcut);
            if (end is not null) KernelComparison.Near(refined.add(shortcut).relu_(), end, 2e-5);
            Tensor y = module.RefineOwned(again);
            KernelComparison.Near(refined, y, 2e-5);
            if (end is not null && x.numel() > 0) Assert.True(y.eq(again).all().ToBoolean());
            return true;
        },
        iter: 150,
        threads: 1);

    [Fact]
    public void The_number_of_threads_changes_rounding_at_most_and_a_run_repeats_bit_for_bit()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        int threads = get_num_threads();
        try
        {
            foreach (FusableGate fusable in FusableGates.All)
            {
                foreach (TrialLayout layout in (TrialLayout[])[TrialLayout.Planes, TrialLayout.Pixels])
                {
                    GateTrial trial = new(fusable, 1, 64, 30, 28, Seed: 5) { Layout = layout };
                    using GateModule gate = trial.Build();
                    Tensor x = trial.Map();
                    set_num_threads(1);
                    Tensor one = KernelComparison.Run(gate, x, fused: true);
                    set_num_threads(3);
                    Tensor three = KernelComparison.Run(gate, x, fused: true), again = KernelComparison.Run(gate, x, fused: true);
                    KernelComparison.Near(one, three, 1e-6);
                    Near.Identical(three, again);
                }
            }
        }
        finally
        {
            set_num_threads(threads);
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(8)]
    [InlineData(16)]
    public void Narrow_tiles_of_many_threads_stay_in_their_places(int threads)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        int before = get_num_threads();
        try
        {
            foreach (int channels in (int[])[24, 200])
            {
                foreach (int side in (int[])[3, 5, 6, 7, 10, 13, 14, 17, 26])
                {
                    foreach (TrialLayout layout in (TrialLayout[])[TrialLayout.Planes, TrialLayout.Pixels])
                    {
                        GateTrial trial = new(FusableGates.Named("cbam"), 1, channels, side, side, Seed: 11) { Layout = layout };
                        using GateModule gate = trial.Build();
                        Tensor x = trial.Map();
                        set_num_threads(threads);
                        Tensor actual = KernelComparison.Run(gate, x, fused: true);
                        set_num_threads(1);
                        KernelComparison.Near(KernelComparison.Run(gate, x, fused: false), actual, 2e-5);
                    }
                }
            }
        }
        finally
        {
            set_num_threads(before);
        }
    }

    [Fact]
    public void Default_types_of_the_process_do_not_reach_the_kernels()
    {
        using DisposeScope scope = NewDisposeScope();
        GateTrial trial = new(FusableGates.Named("spatial"), 2, 12, 5, 7, Seed: 13);
        using GateModule gate = trial.Build();
        Tensor x = trial.Map(), weights = randn_like(x);
        List<Tensor> expected = KernelComparison.Gradients(gate, x, weights, fused: false);
        ScalarType type = get_default_dtype();
        set_default_dtype(ScalarType.Float64);
        try
        {
            List<Tensor> actual = KernelComparison.Gradients(gate, x, weights, fused: true);
            for (int i = 0; i < expected.Count; i++) KernelComparison.Near(expected[i], actual[i], 3e-4);
        }
        finally
        {
            set_default_dtype(type);
        }
    }

    [Fact]
    public void Eight_threads_at_once_get_what_one_gets()
    {
        GateTrial trial = new(FusableGates.Named("cbam"), 2, 32, 14, 14, Seed: 7);
        using DisposeScope scope = NewDisposeScope();
        using GateModule module = trial.Build();
        Tensor x = trial.Map();
        float[] expected;
        using (no_grad()) expected = KernelComparison.Run(module, x, fused: true).data<float>().ToArray();
        float[][] all = new float[8][];
        Thread[] workers = [.. Enumerable.Range(0, 8).Select(i => new Thread(() =>
        {
            using IDisposable quiet = no_grad();
            for (int round = 0; round < 50; round++)
            {
                using Tensor y = module.call(x);
                all[i] = y.data<float>().ToArray();
            }
        }))];
        foreach (Thread worker in workers) worker.Start();
        foreach (Thread worker in workers) worker.Join();
        Assert.All(all, values => Assert.Equal(expected, values));
    }

    [Fact]
    public void Hooks_on_a_half_are_called_and_then_nothing_is_overwritten()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        using Cbam cbam = new(16, new() { ReducedChannels = 4 });
        cbam.eval();
        Tensor x = randn(2, 16, 6, 6), before = x.clone(), expected = KernelComparison.Run(cbam, x.clone(), fused: false);
        AttentionKernels.Enabled = true;
        int calls = 0;
        var hook = cbam.ChannelHalf.register_forward_hook((_, _, output) =>
        {
            calls++;
            return output;
        });
        KernelComparison.Near(expected, cbam.RefineOwned(x), 1e-6);
        Assert.Equal(1, calls);
        hook.remove();
        var outer = cbam.register_forward_hook((_, _, output) => output);
        KernelComparison.Near(expected, cbam.RefineOwned(x), 1e-6);
        Assert.True(x.equal(before).all().ToBoolean());
        outer.remove();
        KernelComparison.Near(expected, cbam.RefineOwned(x), 1e-6);
        Assert.False(x.equal(before).all().ToBoolean());
    }

    [Fact]
    public void A_network_writes_over_no_map_that_a_caller_holds()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        AttentionKernels.Enabled = true;
        foreach ((string name, Func<FeatureNetwork> create) in Cases.Networks)
        {
            using FeatureNetwork network = create();
            network.eval();
            Tensor x = randn(2, 3, 32, 32), before = x.clone();
            IReadOnlyList<Tensor> first = network.Features(x);
            List<Tensor> kept = [.. first.Select(map => map.clone())];
            AttentionKernels.Enabled = false;
            IReadOnlyList<Tensor> composed = network.Features(x);
            AttentionKernels.Enabled = true;
            Assert.True(x.equal(before).all().ToBoolean(), name);
            for (int i = 0; i < kept.Count; i++)
            {
                KernelComparison.Near(kept[i], first[i], 0);
                KernelComparison.Near(composed[i], first[i], 1e-4);
            }
        }
    }

    [Fact]
    public void The_small_convolution_and_product_are_libtorchs() => Gen.Select(Gen.Int[1, 3], Gen.Int[1, 30], Gen.Int[1, 30], Gen.Int[0, 3], Gen.Enum<SpatialMapOrder>(), Gen.Int)
        .Sample(
            (batch, height, width, half, order, seed) =>
            {
                using DisposeScope scope = NewDisposeScope();
                using IDisposable quiet = no_grad();
                manual_seed(seed);
                AttentionKernels.Enabled = true;
                using Modules.Conv2d conv = nn.Conv2d(order == SpatialMapOrder.Average ? 1 : 2, 1, (2 * half) + 1, padding: half, bias: false);
                using Modules.BatchNorm2d norm = nn.BatchNorm2d(1);
                Subject.Randomize(norm, seed);
                norm.eval();
                Tensor pooled = randn(batch, 2, height, width);
                Tensor maps = order switch
                {
                    SpatialMapOrder.Average => pooled.mean([1], keepdim: true),
                    SpatialMapOrder.MaxMean => pooled.flip(1),
                    _ => pooled,
                };
                KernelComparison.Near(norm.call(conv.call(maps)), PositionConvolution.TryRun(pooled, order, conv, norm)!, 1e-5);
                Tensor x = randn(batch, height), weight = randn(width, height), bias = randn(width);
                KernelComparison.Near(nn.functional.linear(x, weight, bias), FewRowsProduct.TryRun(x, batch, weight, bias)!.view(batch, width), 1e-5);
                return true;
            },
            iter: 200,
        threads: 1);

    [Fact]
    public void The_small_convolutions_gradients_are_libtorchs() => Gen.Select(Gen.Int[1, 3], Gen.Int[1, 40], Gen.Int[1, 120], Gen.Int[0, 5], Gen.Enum<SpatialMapOrder>(), Gen.Int, Gen.Bool)
        .Sample(
            (batch, height, width, half, order, seed, infinite) =>
            {
                using DisposeScope scope = NewDisposeScope();
                manual_seed(seed);
                AttentionKernels.Enabled = true;
                using Modules.Conv2d conv = nn.Conv2d(order == SpatialMapOrder.Average ? 1 : 2, 1, (2 * half) + 1, padding: half, bias: false);
                using Modules.Conv2d exact = nn.Conv2d(order == SpatialMapOrder.Average ? 1 : 2, 1, (2 * half) + 1, padding: half, bias: false);
                exact.load_state_dict(conv.state_dict());
                exact.to(ScalarType.Float64);
                Tensor pooled = randn(batch, 2, height, width), dy = randn(batch, 1, height, width);
                if (infinite) pooled[0, 0, 0, width - 1] = float.PositiveInfinity;
                Tensor pooled64 = pooled.to_type(ScalarType.Float64).requires_grad_();
                pooled = pooled.requires_grad_();
                Tensor maps = order switch
                {
                    SpatialMapOrder.Average => pooled64.mean([1], keepdim: true),
                    SpatialMapOrder.MaxMean => pooled64.flip(1),
                    _ => pooled64,
                };
                exact.call(maps).backward([dy.to_type(ScalarType.Float64)]);
                PositionConvolutionGradients.TryRun(pooled, order, conv)!.backward([dy]);
                KernelComparison.Near(pooled64.grad!, pooled.grad!, 1e-5);

                // Only the taps that the infinite value meets are infinite.
                Tensor expected = exact.weight!.grad!, actual = conv.weight!.grad!;
                Assert.True(expected.isfinite().equal(actual.isfinite()).all().ToBoolean());
                KernelComparison.Near(expected.masked_fill(expected.isfinite().logical_not(), 0), actual.masked_fill(actual.isfinite().logical_not(), 0), 3e-4);
                return true;
            },
            iter: 200,
            threads: 1);

    /// <summary>A group norm of two values makes 1 and -1 of them, or nearly 0 where they nearly agree.</summary>
    private static int LeastChannels(FusableGate gate) => gate.Options is EfficientLocalAttentionOptions ? 4 : 1;

    private static bool Compare(GateTrial trial, ScalarType type, double tolerance)
    {
        using DisposeScope scope = NewDisposeScope();
        using GateModule module = trial.Build(type);
        Tensor x = trial.Map(type), before = x.clone();
        using IDisposable quiet = no_grad();
        Tensor expected = KernelComparison.Run(module, x, fused: false), actual = KernelComparison.Run(module, x, fused: true);
        Assert.Equal(expected.shape, actual.shape);
        Assert.Equal(expected.dtype, actual.dtype);
        Assert.True(x.equal(before).all().ToBoolean() || x.numel() == 0);
        // Batch norm over few values may divide by a tiny deviation, which magnifies rounding.
        KernelComparison.Near(expected, actual, trial.Training ? Math.Max(tolerance, 1e-3) : tolerance);
        return true;
    }

    private static bool CompareGradients(GateTrial trial, bool ties)
    {
        if (trial.Batch == 0) return true;
        using DisposeScope scope = NewDisposeScope();
        using GateModule module = trial.Build(ScalarType.Float32);
        Tensor x = trial.Map(ScalarType.Float32, ties), exactX = x.to_type(ScalarType.Float64);
        Tensor weights = randn_like(x);
        using GateModule exactModule = trial.Build(ScalarType.Float64);
        if (!KernelComparison.MaximaAreClear(exactModule, exactX)) return true;
        List<Tensor> expected = KernelComparison.Gradients(module, x, weights, fused: false), actual = KernelComparison.Gradients(module, x, weights, fused: true);
        Assert.Equal(expected.Count, actual.Count);
        List<Tensor> exact = KernelComparison.Gradients(exactModule, exactX, weights.to_type(ScalarType.Float64), fused: false);
        KernelComparison.NearOrAsGood(
            exact, expected, actual, trial.Training ? 3e-3 : 3e-4, () => KernelComparison.Gradients(exactModule, KernelComparison.Shaken(exactX), weights.to_type(ScalarType.Float64), fused: false));
        return true;
    }
}
