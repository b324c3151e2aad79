using CsCheck;

namespace TorchSharp.Attention.Tests;

/// <summary>The kernels' switch is one for the process, hence one thread a property. The fused kernels against libtorch's operations: values, gradients, second derivatives, layouts, special values, threads.</summary>
public sealed class KernelTests : IDisposable
{
    /// <summary>Every gate that decomposes, once per kind of decomposition.</summary>
    private static readonly Func<int, GateModule>[] Modules =
    [
        channels => new SqueezeExcitation(channels, new() { ReducedChannels = 3 }),
        channels => new SqueezeExcitation(channels, new() { ReducedChannels = 3, MaxPool = true }),
        channels => new EffectiveSqueezeExcitation(channels),
        channels => new EfficientChannelAttention(channels),
        channels => new EfficientChannelAttention(channels, new() { Padding = ChannelPadding.Circular, KernelSize = 3 }),
        channels => new StyleRecalibration(channels),
        channels => new ChannelAttention(channels, new() { ReducedChannels = 3, Initialization = AttentionInitialization.Identity }),
        channels => new SpatialAttention(channels, SpatialAttentionOptions.Official),
        channels => new SpatialAttention(channels, new() { KernelSize = 3, MapOrder = SpatialMapOrder.Average }),
        channels => new Cbam(channels, new() { ReducedChannels = 3 }),
        channels => new Cbam(channels, CbamOptions.Timm with { ReducedChannels = 3, Initialization = AttentionInitialization.Identity }),
        channels => new GatedChannelTransformation(channels),
        channels => new GatedChannelTransformation(channels, new() { Norm = GctNorm.L1 }),
        channels => new GatherExcite(channels, new() { Extent = 0, MaxPool = true }),
        channels => new LightCbam(channels, new() { ReducedChannels = 3 }),
        channels => new Cbam(channels, new() { ReducedChannels = 3, Order = CbamOrder.Parallel, Initialization = AttentionInitialization.Identity }),
        channels => new Bam(channels, new() { ReducedChannels = 3 }),
        channels => new Bam(channels, BamOptions.Official with { ReducedChannels = 3, Initialization = AttentionInitialization.Identity }),
        channels => new ConcurrentSqueezeExcitation(channels, new() { ReducedChannels = 3 }),
        channels => new ConcurrentSqueezeExcitation(channels, new() { ReducedChannels = 3, Merge = ScseMerge.Maximum, Initialization = AttentionInitialization.Identity }),
        channels => new ConcurrentSqueezeExcitation(channels, new() { ReducedChannels = 3, Parts = ScseParts.Channel }),
        channels => new CoordinateAttention(channels, new() { ReducedChannels = 3 }),
        channels => new CoordinateAttention(channels, new() { ReducedChannels = 3, Norm = false, Residual = true, Initialization = AttentionInitialization.Identity }),
        channels => new EfficientLocalAttention(channels, new() { NormGroups = 1, Initialization = AttentionInitialization.Identity }),
        channels => new SimpleCoordinateAttention(channels, new() { ReducedChannels = 3 }),
        channels => new StripAttention(channels, new() { Residual = true, Initialization = AttentionInitialization.Identity }),
        channels => new TripletAttention(channels),
        channels => new TripletAttention(channels, new() { KernelSize = 3, Initialization = AttentionInitialization.Identity }),
        channels => new TripletAttention(channels, new() { KernelSize = 3, Spatial = false }),
        channels => new SimAm(channels),
        channels => new SimAm(channels, new() { Initialization = AttentionInitialization.Identity }),
        channels => new PolarizedSelfAttention(channels, new() { ReducedChannels = 3 }),
        channels => new PolarizedSelfAttention(channels, PolarizedSelfAttentionOptions.PaperSequential with { ReducedChannels = 3 }),
    ];

    /// <summary>Its norm takes all channels of a strip together, and of two values it makes 1 and -1, or nearly 0 where they nearly agree.</summary>
    private static readonly int GroupNormed = Array.FindIndex(Modules, create =>
    {
        using GateModule gate = create(4);
        return gate is EfficientLocalAttention;
    });

    private static readonly Gen<Trial> Trials =
        Gen.Select(Gen.Int[0, Modules.Length - 1], Gen.Int[0, 3], Gen.Int[1, 40], Gen.Int[1, 21], Gen.Int[1, 21], Gen.Enum<Layout>(), Gen.Bool, Gen.Int)
            .Select((module, batch, channels, height, width, layout, training, seed)
                => new Trial(module, batch, module == GroupNormed ? Math.Max(4, channels) : channels, height, width, layout, training, seed));

    private static readonly Scalar Rounding = 1e-12.ToScalar(), SinglePrecision = 5e-6.ToScalar(), SeventhDigit = 3e-7.ToScalar();

    private readonly bool _enabled = AttentionKernels.Enabled;
    private readonly long _smallest = FusedGate.SmallestTrained;
    private readonly long _smallestInferred = FusedGate.SmallestInferred;

    public KernelTests() => FusedGate.SmallestTrained = FusedGate.SmallestInferred = 0;

    public enum Layout
    {
        Planes,
        Pixels,
        PlanesWithOffset,
        PixelsWithOffset,
        Strided,
    }

    public void Dispose()
    {
        AttentionKernels.Enabled = _enabled;
        FusedGate.SmallestTrained = _smallest;
        FusedGate.SmallestInferred = _smallestInferred;
    }

    [Fact]
    public void Values_are_those_of_the_composed_operations() => Trials.Sample(trial => trial.Compare(ScalarType.Float32, 2e-5), iter: 400, threads: 1);

    [Fact]
    public void Bfloat16_values_are_within_its_rounding() => Trials.Sample(trial => (trial with { Training = false }).Compare(ScalarType.BFloat16, 0.06), iter: 200, threads: 1);

    [Fact]
    public void Gradients_are_those_of_the_composed_operations() => Trials.Sample(trial => trial.CompareGradients(ties: false), iter: 300, threads: 1);

    [Fact]
    public void Gradients_of_shared_maxima_are_split_evenly() => Trials.Sample(trial => trial.CompareGradients(ties: true), iter: 200, threads: 1);

    [Fact]
    public void Gradients_flow_through_whatever_is_not_frozen() => Trials.Sample(
        trial =>
        {
            if (trial.Batch == 0) return true;
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = trial.Build(ScalarType.Float32), exactModule = trial.Build(ScalarType.Float64);
            Tensor x = Random(trial, ScalarType.Float32), weights = randn_like(x), exactX = x.to_type(ScalarType.Float64);
            if (!MaximaAreClear(exactModule, exactX)) return true;
            foreach (bool inputLearns in (bool[])[false, true])
            {
                foreach ((string name, Modules.Parameter parameter) in module.named_parameters())
                {
                    parameter.requires_grad = !inputLearns && name[..Math.Max(0, name.LastIndexOf('.'))].Sum(letter => letter) % 2 == Math.Abs(trial.Seed % 2);
                }

                if (!inputLearns && !module.parameters().Any(parameter => parameter.requires_grad)) continue;
                foreach ((string name, Modules.Parameter parameter) in exactModule.named_parameters()) parameter.requires_grad = module.get_parameter(name)!.requires_grad;
                List<Tensor> expected = Numbers(() => Trial.Gradients(module, x, weights, fused: false, inputLearns));
                if (HaveNaN(expected)) continue;
                List<Tensor> actual = Numbers(() => Trial.Gradients(module, x, weights, fused: true, inputLearns));
                List<Tensor> exact = Numbers(() => Trial.Gradients(exactModule, exactX, weights.to_type(ScalarType.Float64), fused: false, inputLearns));
                Trial.NearOrAsGood(
                    exact, expected, actual, trial.Training ? 3e-3 : 3e-4,
                    () => Trial.Gradients(exactModule, Trial.Shaken(exactX), weights.to_type(ScalarType.Float64), fused: false, inputLearns));
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
            // libtorch has no second derivative of the hard sigmoid.
            if (trial.Batch == 0 || trial.Training || trial.Module == 2) return true;
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = trial.Build(ScalarType.Float32), exactModule = trial.Build(ScalarType.Float64);
            Tensor x = Random(trial, ScalarType.Float32), weights = randn_like(x), direction = randn_like(x);
            if (!MaximaAreClear(exactModule, x.to_type(ScalarType.Float64))) return true;
            Tensor expected = Second(fused: false), actual = Second(fused: true);
            Trial.Near(expected, actual, 2e-3);
            return true;

            Tensor Second(bool fused)
            {
                Tensor input = x.detach().requires_grad_();
                Tensor y = Trial.Run(module, input, fused);
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
        for (int module = 0; module < Modules.Length; module++)
        {
            foreach (Layout layout in Enum.GetValues<Layout>())
            {
                Trial trial = new(module, 2, 9, 5, 7, layout, Training: false, Seed: 3);
                using GateModule gate = trial.Build(ScalarType.Float32);
                Tensor x = Random(trial, ScalarType.Float32);
                x[0, 4, 2, 3] = tensor(value);
                x[1, 8, 4, 6] = tensor(value);
                Tensor expected = Trial.Run(gate, x, fused: false), actual = Trial.Run(gate, x, fused: true);
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
    public void Over_the_input_and_with_the_end_of_a_block_the_values_are_the_same() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable quiet = no_grad();
            using GateModule module = trial.Build(ScalarType.Float32);
            module.eval();
            Tensor x = Random(trial, ScalarType.Float32), shortcut = Random(trial with { Seed = trial.Seed ^ 1 }, ScalarType.Float32);
            Tensor refined = Trial.Run(module, x, fused: false);
            AttentionKernels.Enabled = true;
            Tensor before = x.clone(), again = trial.Layout == Layout.Strided ? x : Random(trial, ScalarType.Float32);
            Trial.Near(refined, module.call(x), 2e-5);
            Trial.Near(before, x, 0);
            Tensor? end = module.TryGateAddRelu(x, shortcut);
            if (end is not null) Trial.Near(refined.add(shortcut).relu_(), end, 2e-5);
            Tensor y = module.RefineOwned(again);
            Trial.Near(refined, y, 2e-5);
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
            for (int module = 0; module < Modules.Length; module++)
            {
                foreach (Layout layout in (Layout[])[Layout.Planes, Layout.Pixels])
                {
                    Trial trial = new(module, 1, 64, 30, 28, layout, Training: false, Seed: 5);
                    using GateModule gate = trial.Build(ScalarType.Float32);
                    Tensor x = Random(trial, ScalarType.Float32);
                    set_num_threads(1);
                    Tensor one = Trial.Run(gate, x, fused: true);
                    set_num_threads(3);
                    Tensor three = Trial.Run(gate, x, fused: true), again = Trial.Run(gate, x, fused: true);
                    Trial.Near(one, three, 1e-6);
                    Tests.Near.Identical(three, again);
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
                    foreach (Layout layout in (Layout[])[Layout.Planes, Layout.Pixels])
                    {
                        Trial trial = new(9, 1, channels, side, side, layout, Training: false, Seed: 11);
                        using GateModule gate = trial.Build(ScalarType.Float32);
                        Tensor x = Random(trial, ScalarType.Float32);
                        set_num_threads(threads);
                        Tensor actual = Trial.Run(gate, x, fused: true);
                        set_num_threads(1);
                        Trial.Near(Trial.Run(gate, x, fused: false), actual, 2e-5);
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
        Trial trial = new(7, 2, 12, 5, 7, Layout.Planes, Training: false, Seed: 13);
        using GateModule gate = trial.Build(ScalarType.Float32);
        Tensor x = Random(trial, ScalarType.Float32), weights = randn_like(x);
        List<Tensor> expected = Trial.Gradients(gate, x, weights, fused: false);
        ScalarType type = get_default_dtype();
        set_default_dtype(ScalarType.Float64);
        try
        {
            List<Tensor> actual = Trial.Gradients(gate, x, weights, fused: true);
            for (int i = 0; i < expected.Count; i++) Trial.Near(expected[i], actual[i], 3e-4);
        }
        finally
        {
            set_default_dtype(type);
        }
    }

    [Fact]
    public void Eight_threads_at_once_get_what_one_gets()
    {
        Trial trial = new(9, 2, 32, 14, 14, Layout.Planes, Training: false, Seed: 7);
        using DisposeScope scope = NewDisposeScope();
        using GateModule module = trial.Build(ScalarType.Float32);
        Tensor x = Random(trial, ScalarType.Float32);
        float[] expected;
        using (no_grad()) expected = Trial.Run(module, x, fused: true).data<float>().ToArray();
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
        Tensor x = randn(2, 16, 6, 6), before = x.clone(), expected = Trial.Run(cbam, x.clone(), fused: false);
        AttentionKernels.Enabled = true;
        int calls = 0;
        var hook = cbam.ChannelHalf.register_forward_hook((_, _, output) =>
        {
            calls++;
            return output;
        });
        Trial.Near(expected, cbam.RefineOwned(x), 1e-6);
        Assert.Equal(1, calls);
        hook.remove();
        var outer = cbam.register_forward_hook((_, _, output) => output);
        Trial.Near(expected, cbam.RefineOwned(x), 1e-6);
        Assert.True(x.equal(before).all().ToBoolean());
        outer.remove();
        Trial.Near(expected, cbam.RefineOwned(x), 1e-6);
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
                Trial.Near(kept[i], first[i], 0);
                Trial.Near(composed[i], first[i], 1e-4);
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
                Trial.Near(norm.call(conv.call(maps)), PositionConvolution.TryRun(pooled, order, conv, norm)!, 1e-5);
                Tensor x = randn(batch, height), weight = randn(width, height), bias = randn(width);
                Trial.Near(nn.functional.linear(x, weight, bias), FewRowsProduct.TryRun(x, batch, weight, bias)!.view(batch, width), 1e-5);
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
                Trial.Near(pooled64.grad!, pooled.grad!, 1e-5);

                // Only the taps that the infinite value meets are infinite.
                Tensor expected = exact.weight!.grad!, actual = conv.weight!.grad!;
                Assert.True(expected.isfinite().equal(actual.isfinite()).all().ToBoolean());
                Trial.Near(expected.masked_fill(expected.isfinite().logical_not(), 0), actual.masked_fill(actual.isfinite().logical_not(), 0), 3e-4);
                return true;
            },
            iter: 200,
            threads: 1);

    [Fact]
    public unsafe void Nothing_beyond_a_map_is_read_or_written()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("Guard pages are set up by Linux's mmap.");
        foreach ((int batch, int channels, int positions) in (ReadOnlySpan<(int, int, int)>)[(1, 1, 2), (2, 3, 49), (1, 37, 21), (3, 16, 16), (2, 5, 196), (1, 70, 3)])
        {
            foreach (bool pixels in (bool[])[false, true])
            {
                foreach (bool half in (bool[])[false, true])
                {
                    foreach (bool atEnd in (bool[])[false, true]) Guarded(batch, channels, positions, pixels, half, atEnd);
                }
            }
        }
    }

    /// <summary>Runs every kernel on buffers that end, or begin, where the next page may not be touched.</summary>
    private static unsafe void Guarded(int batch, int channels, int positions, bool pixels, bool half, bool atEnd)
    {
        using GuardedMemory memory = new(atEnd);
        int bytes = batch * channels * positions * (half ? 2 : 4);
        MapView view = new(memory.Take(bytes), batch, channels, positions, pixels, half);
        float* Channels() => (float*)memory.Take(batch * channels * 4);
        float* Positions() => (float*)memory.Take(batch * positions * 4);
        MapArguments a = view.Arguments();
        a.Scale = 1;
        a.GradY = memory.Take(bytes);
        a.Residual = memory.Take(bytes);
        a.Y = memory.Take(bytes);
        a.End = memory.Take(bytes);
        a.GradEnd = memory.Take(bytes);
        a.ChannelGate = Channels();
        a.ChannelMax = Channels();
        a.ChannelShift = Channels();
        a.ChannelSlope = Channels();
        a.ChannelPeak = Channels();
        a.PositionGate = Positions();
        a.PositionMax = Positions();
        a.PositionShift = Positions();
        a.PositionPeak = Positions();
        a.First = Channels();
        a.Second = Channels();
        a.ResultStride = channels;
        MapKernels.OverPositions<Summing>(view, a);
        MapKernels.OverPositions<Pooling>(view, a);
        MapKernels.OverPositions<Moments>(view, a);
        MapKernels.OverPositions<SquareSums>(view, a);
        MapKernels.OverPositions<Magnitudes>(view, a);
        MapKernels.OverPositions<ChannelDot>(view, a);
        MapKernels.OverPositions<ChannelGradient>(view, a);
        MapKernels.OverPositions<GatedChannelGradient>(view, a);
        MapKernels.OverPositions<ThroughAddRelu<ChannelDot>>(view, a);
        MapKernels.OverPositions<ThroughAddRelu<ChannelGradient>>(view, a);
        a.First = Positions();
        a.Second = Positions();
        a.ResultStride = positions;
        MapKernels.OverChannels<Pooling>(view, a);
        MapKernels.OverChannels<GatedPooling>(view, a);
        MapKernels.OverChannels<PositionGradient>(view, a);
        MapKernels.OverChannels<ThroughAddRelu<PositionGradient>>(view, a);
        MapKernels.Write<ApplyChannel>(view, a);
        MapKernels.Write<ApplyBoth>(view, a);
        MapKernels.Write<AddRectified<ApplyChannel>>(view, a);
        MapKernels.Write<AddRectified<ApplyBoth>>(view, a);
        MapKernels.Write<InputGradient>(view, a);
        MapKernels.Write<PooledInputGradient<ChannelPeaks>>(view, a);
        MapKernels.Write<PooledInputGradient<ChannelMoments>>(view, a);
        MapKernels.Write<GatedInputGradient<ChannelMeans>>(view, a);
        MapKernels.Write<GatedInputGradient<ChannelPeaks>>(view, a);
        MapKernels.Write<GatedInputGradient<ChannelMoments>>(view, a);
        MapKernels.Write<PooledInputGradient<ChannelMagnitudes>>(view, a);
    }

    [Fact]
    public void Nothing_beyond_a_mixed_map_or_its_strips_is_read_or_written()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("Guard pages are set up by Linux's mmap.");
        foreach ((int batch, int channels, int height, int width) in (ReadOnlySpan<(int, int, int, int)>)[(1, 1, 1, 2), (2, 3, 7, 7), (1, 37, 3, 7), (3, 16, 1, 16), (2, 5, 14, 13), (1, 70, 3, 1)])
        {
            foreach (bool pixels in (bool[])[false, true])
            {
                foreach (bool half in (bool[])[false, true])
                {
                    foreach (bool atEnd in (bool[])[false, true])
                    {
                        foreach (CombinationKind kind in Enum.GetValues<CombinationKind>())
                        {
                            if (kind != CombinationKind.SumOfThree) GuardedMix(kind, batch, channels, height, width, pixels, half, atEnd);
                            if (kind != CombinationKind.Energy) GuardedStrips(kind, batch, channels, height, width, pixels, half, atEnd);
                        }
                    }
                }
            }
        }
    }

    private static unsafe MapArguments Mixed(GuardedMemory memory, int batch, int channels, int height, int width, bool pixels, bool half, out MapView view)
    {
        int bytes = batch * channels * height * width * (half ? 2 : 4);
        view = new MapView(memory.Take(bytes), batch, channels, height * width, pixels, half);
        MapArguments a = view.Arguments();
        (a.Channels, a.Height, a.Width, a.Scale, a.ColumnScale, a.MixScale) = (channels, height, width, 1, 1, 1);
        a.GradY = memory.Take(bytes);
        a.Residual = memory.Take(bytes);
        a.Y = memory.Take(bytes);
        return a;
    }

    /// <summary>Every kernel of a mix of channels' and positions' factors.</summary>
    private static unsafe void GuardedMix(CombinationKind kind, int batch, int channels, int height, int width, bool pixels, bool half, bool atEnd)
    {
        using GuardedMemory memory = new(atEnd);
        MapArguments a = Mixed(memory, batch, channels, height, width, pixels, half, out MapView view);
        float* Channels() => (float*)memory.Take(batch * channels * 4);
        float* Positions() => (float*)memory.Take(batch * height * width * 4);
        a.FirstFactor = Channels();
        a.SecondFactor = kind == CombinationKind.Energy ? Channels() : Positions();
        a.ChannelMax = Channels();
        a.ChannelShift = Channels();
        a.ChannelSlope = Channels();
        a.ChannelPeak = Channels();
        a.PositionMax = Positions();
        a.PositionShift = Positions();
        a.PositionPeak = Positions();
        a.First = Channels();
        a.Second = Channels();
        a.ResultStride = channels;
        CombinationKernels kernels = CombinationKernels.For(kind);
        kernels.Apply(view, a, strips: false, endsBlock: false);
        kernels.Apply(view, a, strips: false, endsBlock: true);
        kernels.Totals(view, a, strips: false);
        if (kind == CombinationKind.Energy) kernels.Factors(view, a, strips: false);
        else kernels.First(view, a);
        foreach (ChannelStatistics reads in (ChannelStatistics[])[ChannelStatistics.Nothing, ChannelStatistics.Mean, ChannelStatistics.Mean | ChannelStatistics.Maximum, ChannelStatistics.Mean | ChannelStatistics.SquaredDeviations])
        {
            kernels.Input(view, a, new GateCombination(kind, reads));
        }

        if (kind == CombinationKind.Energy) return;
        a.First = Positions();
        a.Second = Positions();
        a.ResultStride = height * width;
        kernels.Second(view, a);
    }

    /// <summary>Every kernel of a mix of rows' and columns' factors, with a third of positions where the mix has one.</summary>
    private static unsafe void GuardedStrips(CombinationKind kind, int batch, int channels, int height, int width, bool pixels, bool half, bool atEnd)
    {
        using GuardedMemory memory = new(atEnd);
        MapArguments a = Mixed(memory, batch, channels, height, width, pixels, half, out MapView view);
        float* Strips() => (float*)memory.Take(batch * channels * (height + width) * 4);
        float* Positions() => (float*)memory.Take(batch * height * width * 4);
        a.FirstFactor = a.SecondFactor = Strips();
        a.ThirdFactor = Positions();
        a.ThirdMax = Positions();
        a.ThirdShift = Positions();
        a.ThirdPeak = Positions();
        a.ChannelMax = a.PositionMax = Strips();
        a.ChannelShift = a.PositionShift = Strips();
        a.ChannelPeak = a.PositionPeak = Strips();
        a.First = Strips();
        a.Second = Strips();
        CombinationKernels kernels = CombinationKernels.For(kind);
        StripKernels.Reduce<Summing>(view, a);
        StripKernels.Reduce<Pooling>(view, a);
        StripKernels.Reduce<SharedMaxima>(view, a);
        kernels.Apply(view, a, strips: true, endsBlock: false);
        kernels.Apply(view, a, strips: true, endsBlock: true);
        kernels.Factors(view, a, strips: true);
        kernels.Totals(view, a, strips: true);
        foreach (StripReads reads in (StripReads[])[StripReads.Means, StripReads.MeansAndMaxima]) kernels.Input(view, a, new GateCombination(kind, Strips: reads));
        if (kind != CombinationKind.SumOfThree) return;
        a.First = Positions();
        a.Second = Positions();
        a.ResultStride = height * width;
        a.PositionMax = Positions();
        MapKernels.OverChannels<ThirdGradient>(view, a);
    }

    /// <summary>
    /// Whether float32 takes what float64 takes where the larger of computed values is wanted, of x · c over channels or of x · c and x · s: candidates
    /// that nearly agree have gradients of their own. Maxima of the map itself are the same in both.
    /// </summary>
    internal static bool MaximaAreClear(GateModule exact, Tensor x)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        AttentionKernels.Enabled = false;
        if (exact is ICombinedGate { IsCombined: true, Combination: { Kind: CombinationKind.Larger } mix } combined)
        {
            CombinationFactors factors = combined.ComputeFactors(new PooledMap(x, mix));
            return IsClear(factors.First, factors.Second);
        }

        if (GateParts.Of(exact) is not { Channel: { } channels, Spatial: not null }) return true;
        Tensor gated = x.mul(channels.Module.EffectiveGate(x));
        return IsClear(gated.amax([1], keepdim: true), gated);
    }

    /// <summary>Whether other candidates for a maximum are the same as the largest or well apart from it.</summary>
    internal static bool IsClear(Tensor largest, Tensor others)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor gap = largest.sub(others).abs(), size = largest.abs().Plus(Scalars.One);
        return !gap.gt(size.mul(Rounding)).logical_and(gap.lt(size.mul(SinglePrecision))).any().ToBoolean();
    }

    private static Tensor Random(Trial trial, ScalarType type, bool ties = false)
    {
        manual_seed(trial.Seed);
        long n = trial.Batch, c = trial.Channels, h = trial.Height, w = trial.Width;
        Tensor values = randn(n + 1, c, h, w);
        if (ties) values = values.round();
        values = values.to_type(type);
        Tensor pixels = values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
        return trial.Layout switch
        {
            Layout.Planes => values.narrow(0, 0, n).contiguous(),
            Layout.Pixels => pixels.narrow(0, 0, n),
            Layout.PlanesWithOffset => values.narrow(0, 1, n),
            Layout.PixelsWithOffset => pixels.narrow(0, 1, n),
            _ => values.repeat(1, 1, 1, 2).slice(3, 0, 2 * w, 2).narrow(0, 0, n),
        };
    }

    public sealed record Trial(int Module, int Batch, int Channels, int Height, int Width, Layout Layout, bool Training, int Seed)
    {
        public bool Compare(ScalarType type, double tolerance)
        {
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = Build(type);
            Tensor x = Random(this, type), before = x.clone();
            using IDisposable quiet = no_grad();
            Tensor expected = Run(module, x, fused: false), actual = Run(module, x, fused: true);
            Assert.Equal(expected.shape, actual.shape);
            Assert.Equal(expected.dtype, actual.dtype);
            Assert.True(x.equal(before).all().ToBoolean() || x.numel() == 0);
            // Batch norm over few values may divide by a tiny deviation, which magnifies rounding.
            Near(expected, actual, Training ? Math.Max(tolerance, 1e-3) : tolerance);
            return true;
        }

        public bool CompareGradients(bool ties)
        {
            if (Batch == 0) return true;
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = Build(ScalarType.Float32);
            Tensor x = Random(this, ScalarType.Float32, ties), exactX = x.to_type(ScalarType.Float64);
            Tensor weights = randn_like(x);
            using GateModule exactModule = Build(ScalarType.Float64);
            if (!MaximaAreClear(exactModule, exactX)) return true;
            List<Tensor> expected = Gradients(module, x, weights, fused: false), actual = Gradients(module, x, weights, fused: true);
            Assert.Equal(expected.Count, actual.Count);
            List<Tensor> exact = Gradients(exactModule, exactX, weights.to_type(ScalarType.Float64), fused: false);
            NearOrAsGood(
                exact, expected, actual, Training ? 3e-3 : 3e-4, () => Gradients(exactModule, Shaken(exactX), weights.to_type(ScalarType.Float64), fused: false));
            return true;
        }

        public GateModule Build(ScalarType type)
        {
            manual_seed(Seed);
            GateModule module = Modules[Module](Channels);
            Subject.Randomize(module, Seed);
            module.to(type);
            module.train(Training);
            return module;
        }

        public static List<Tensor> Gradients(GateModule module, Tensor x, Tensor weights, bool fused, bool inputLearns = true)
        {
            module.zero_grad();
            Dictionary<string, Tensor> buffers = module.named_buffers().ToDictionary(entry => entry.name, entry => entry.buffer.clone());
            Tensor input = x.detach().requires_grad_(inputLearns);
            Tensor y = Run(module, input, fused);
            y.mul(weights).sum().backward();
            List<Tensor> all = [y.detach(), inputLearns ? input.grad!.clone() : x, .. module.parameters().Select(p => p.grad is null ? zeros_like(p) : p.grad.clone())];
            using IDisposable quiet = no_grad();
            foreach ((string name, Tensor buffer) in module.named_buffers()) buffer.copy_(buffers[name]);
            return all;
        }

        public static Tensor Run(GateModule module, Tensor x, bool fused)
        {
            AttentionKernels.Enabled = fused;
            return module.call(x);
        }

        /// <summary>A batch norm of two values has gradients that no float32 knows well: then composed operations set the measure.</summary>
        public static void NearOrAsGood(Tensor exact, Tensor composed, Tensor actual, double tolerance)
        {
            if (exact.numel() == 0) return;
            double scale = Math.Max(1, exact.abs().max().ToDouble()), composedError = exact.sub(composed).abs().max().ToDouble();
            Near(exact, actual, Math.Max(tolerance, 10 * composedError / scale));
        }

        /// <summary>
        /// The same for all gradients; where one is farther off, what the exact one changes by itself when the map changes in its seventh digit is allowed ten times: next to
        /// the edge of a hidden ReLU no float32 knows on which side it is. What is nothing but cancelled terms, as the gradient of a bias before a batch norm, is measured by the
        /// largest gradient.
        /// </summary>
        public static void NearOrAsGood(List<Tensor> exact, List<Tensor> composed, List<Tensor> actual, double tolerance, Func<List<Tensor>> shaken)
        {
            List<Tensor>? others = null;
            double largest = exact.Where(one => one.numel() > 0).Select(one => one.abs().max().ToDouble()).DefaultIfEmpty().Max();
            for (int i = 0; i < exact.Count; i++)
            {
                if (exact[i].numel() == 0) continue;
                double own = exact[i].abs().max().ToDouble(), scale = Math.Max(1, own), allowed = own < 1e-9 * largest ? tolerance * largest : tolerance;
                if (exact[i].sub(actual[i]).abs().max().ToDouble() > tolerance * scale)
                {
                    others ??= shaken();
                    allowed += 10 * exact[i].sub(others[i]).abs().max().ToDouble() / scale;
                }

                NearOrAsGood(exact[i], composed[i], actual[i], allowed);
            }
        }

        /// <summary>A map with other seventh digits.</summary>
        public static Tensor Shaken(Tensor x) => x.mul(randn_like(x).mul(SeventhDigit).Plus(Scalars.One));

        public static void Near(Tensor expected, Tensor actual, double tolerance)
        {
            if (expected.numel() == 0) return;
            double scale = Math.Max(1, expected.abs().max().to_type(ScalarType.Float64).ToDouble());
            double error = expected.sub(actual).abs().max().to_type(ScalarType.Float64).ToDouble();
            Assert.True(error <= tolerance * scale, $"error {error} at scale {scale}");
        }
    }
}
