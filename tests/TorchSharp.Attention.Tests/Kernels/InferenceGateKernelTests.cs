using CsCheck;

namespace TorchSharp.Attention.Tests;

/// <summary>A whole gate in one parallel call: every step that a module may write down, any number of threads, groups of samples, both pools.</summary>
public sealed class InferenceGateKernelTests : IDisposable
{
    /// <summary>The gates of the list, and every activation with every gate function.</summary>
    private static readonly FusableGate[] Gates =
    [
        .. from activation in Enum.GetValues<GateActivation>()
           from gate in Enum.GetValues<GateFunction>()
           where activation != GateActivation.GELU
           from maximum in (bool[])[false, true]
           select new FusableGate($"se, {activation}, {gate}{(maximum ? ", max pool" : "")}", new SqueezeExcitationOptions
           {
               ReducedChannels = 5, Activation = activation, Gate = gate, Norm = gate == GateFunction.Sigmoid, MaxPool = maximum,
           }),
        .. FusableGates.On(FusedPaths.OneRegion),
    ];

    private readonly KernelSettings _kernels = KernelSettings.On();
    private readonly int _threads = get_num_threads();
    private readonly long _bytes = NativeTeam.BytesWorthAThread;
    private readonly long _group = InferenceGateKernel.GroupBytes;

    public void Dispose()
    {
        _kernels.Dispose();
        NativeTeam.BytesWorthAThread = _bytes;
        NativeTeam.WithoutOpenMp = false;
        NativeTeam.MostGranted = int.MaxValue;
        InferenceGateKernel.GroupBytes = _group;
        set_num_threads(_threads);
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(3, false)]
    [InlineData(16, false)]
    [InlineData(1, true)]
    [InlineData(3, true)]
    public void Values_are_those_of_the_composed_operations_and_repeat(int threads, bool pool)
    {
        NativeTeam.BytesWorthAThread = 1;
        NativeTeam.WithoutOpenMp = pool;
        set_num_threads(threads);
        Gen.Select(Gen.OneOf(Gates), Gen.Int[1, 7], Gen.Int[1, 70], Gen.Int[1, 19], Gen.Int[1, 19], Gen.Bool, Gen.Bool, Gen.Int)
            .Sample(
                (gate, batch, channels, height, width, pixels, alone, seed) =>
                {
                    InferenceGateKernel.GroupBytes = alone ? 1 : 4 << 20;
                    using DisposeScope scope = NewDisposeScope();
                    using IDisposable quiet = no_grad();
                    GateTrial trial = new(gate, batch, channels, height, width, seed) { Layout = LayoutOf(pixels) };
                    using GateModule module = trial.Build();
                    Tensor x = trial.Map(), shortcut = trial.NextMap();
                    AttentionKernels.Enabled = false;
                    Tensor expected = module.call(x);
                    AttentionKernels.Enabled = true;
                    Tensor actual = InOneCall(module, x, overwrite: false, null), again = InOneCall(module, x, overwrite: false, null);
                    KernelComparison.Near(expected, actual, 2e-5);
                    Near.Identical(actual, again);
                    KernelComparison.Near(expected.add(shortcut).relu_(), InOneCall(module, x.clone(), overwrite: true, shortcut), 2e-5);
                    return true;
                },
                iter: 120,
                threads: 1);
    }

    /// <summary>Shapes whose batches no number of threads divides, groups of one sample to the whole batch, and teams smaller than asked for.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Odd_batches_and_small_teams_give_the_composed_values(bool pool)
    {
        NativeTeam.BytesWorthAThread = 1;
        NativeTeam.WithoutOpenMp = pool;
        using IDisposable quiet = no_grad();
        foreach (string name in (string[])["se", "se, wide, no bias, identity", "eca", "channel, bias", "spatial", "spatial, average, identity", "cbam, timm", "lcbam"])
        {
            foreach (bool pixels in (bool[])[false, true])
            {
                FusableGate gate = FusableGates.Named(name);
                using GateModule module = new GateTrial(gate, 1, 8, 9, 7, Seed: 5).Build();
                foreach (int batch in (int[])[1, 5, 11, 21])
                {
                    using DisposeScope scope = NewDisposeScope();
                    Tensor x = new GateTrial(gate, batch, 8, 9, 7, Seed: batch) { Layout = LayoutOf(pixels) }.Map();
                    AttentionKernels.Enabled = false;
                    Tensor expected = module.call(x);
                    AttentionKernels.Enabled = true;
                    foreach (int samples in (int[])[1, 3, 5, 64])
                    {
                        InferenceGateKernel.GroupBytes = samples * 4 * 8 * 63;
                        foreach ((int asked, int granted) in (ReadOnlySpan<(int, int)>)[(2, 2), (2, 1), (3, 2), (5, 3)])
                        {
                            set_num_threads(asked);
                            NativeTeam.MostGranted = granted;
                            KernelComparison.Near(expected, InOneCall(module, x, overwrite: false, null), 2e-5);
                        }
                    }
                }
            }
        }
    }

    [Theory]
    [InlineData(false, 11, 128, 28)]
    [InlineData(false, 21, 256, 14)]
    [InlineData(false, 41, 512, 7)]
    [InlineData(false, 21, 64, 28)]
    [InlineData(true, 7, 64, 56)]
    [InlineData(true, 5, 64, 64)]
    [InlineData(true, 3, 64, 90)]
    [InlineData(true, 11, 64, 56)]
    public void Networks_batches_give_the_composed_values_every_time(bool pixels, int batch, int channels, int side)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor x = new GateTrial(FusableGates.All[0], batch, channels, side, side, Seed: 1) { Layout = LayoutOf(pixels) }.Map();
        foreach (GateModule module in (GateModule[])[new Cbam(channels), new ChannelAttention(channels), new LightCbam(channels), new SpatialAttention(channels), new SqueezeExcitation(channels)])
        {
            module.eval();
            AttentionKernels.Enabled = false;
            Tensor expected = module.call(x);
            AttentionKernels.Enabled = true;
            foreach (int threads in (int[])[2, 4])
            {
                set_num_threads(threads);
                for (int i = 0; i < 6; i++) KernelComparison.Near(expected, module.call(x), 2e-5);
            }

            module.Dispose();
        }
    }

    [Fact]
    public void Many_tiny_maps_and_a_wide_layer_fit_in_memory()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        using SqueezeExcitation module = new(1, new() { ReducedChannels = 2048 });
        module.eval();
        Tensor x = randn(600_000, 1, 1, 1), y = InOneCall(module, x, overwrite: false, null);
        AttentionKernels.Enabled = false;
        foreach (long first in (long[])[0, 299_990, 599_980]) KernelComparison.Near(module.call(x.narrow(0, first, 20)), y.narrow(0, first, 20), 2e-5);
    }

    [Fact]
    public void Gates_with_a_step_that_one_region_does_not_know_run_by_separate_passes()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor x = randn(2, 24, 6, 6);
        foreach (GateModule module in (GateModule[])
            [
                new SqueezeExcitation(24, new() { Activation = GateActivation.GELU }),
                new EfficientChannelAttention(24, EfficientChannelAttentionOptions.TimmMlp),
                new StyleRecalibration(24),
                new GatedChannelTransformation(24),
            ])
        {
            module.eval();
            AttentionKernels.Enabled = true;
            Assert.Null(TryInOneCall(module, x, overwrite: false, null));
            Tensor fused = module.call(x);
            AttentionKernels.Enabled = false;
            KernelComparison.Near(module.call(x), fused, 2e-5);
            module.Dispose();
        }
    }

    [Fact]
    public void A_gate_with_a_hooked_layer_or_a_norm_in_training_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor x = randn(2, 24, 6, 6);
        AttentionKernels.Enabled = true;
        using SqueezeExcitation se = new(24, new() { Norm = true });
        Assert.Null(TryInOneCall(se, x, overwrite: false, null));
        se.eval();
        Assert.NotNull(TryInOneCall(se, x, overwrite: false, null));
        int calls = 0;
        var hook = ((Modules.Conv2d)se.named_children().First(child => child.name == "fc1").module).register_forward_hook((_, _, output) =>
        {
            calls++;
            return output;
        });
        Assert.Null(TryInOneCall(se, x, overwrite: false, null));
        se.call(x);
        Assert.Equal(1, calls);
        hook.remove();
        se.call(x);
        Assert.Equal(1, calls);
    }

    [Fact]
    public unsafe void Nothing_beyond_a_map_or_a_weight_is_read_or_written()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("Guard pages are set up by Linux's mmap.");
        NativeTeam.BytesWorthAThread = 1;
        set_num_threads(2);
        AttentionKernels.Enabled = true;
        foreach (bool atEnd in (bool[])[false, true])
        {
            foreach (bool pixels in (bool[])[false, true])
            {
                foreach (FusableGate gate in Gates)
                {
                    foreach ((int batch, int channels, int height, int width) in (ReadOnlySpan<(int, int, int, int)>)[(1, 3, 1, 2), (2, 17, 5, 7), (3, 37, 4, 4)])
                    {
                        using DisposeScope scope = NewDisposeScope();
                        using IDisposable quiet = no_grad();
                        using GuardedMemory memory = new(atEnd);
                        using GateModule module = new GateTrial(gate, batch, channels, height, width, Seed: 3).Build();
                        MapView view = new(memory.Take(4 * batch * channels * height * width), batch, channels, height * width, pixels, half: false);
                        Tensor shape = zeros(batch, channels, height, width);
                        Assert.NotNull(InferenceGateKernel.TryRun(GateParts.Of(module)!.Value, view, shape, overwrite: true, null));
                    }
                }
            }

            foreach ((int rows, int inputs, int outputs) in (ReadOnlySpan<(int, int, int)>)[(1, 1, 1), (7, 5, 6), (4, 16, 4), (3, 33, 9), (2, 19, 3)])
            {
                using GuardedMemory memory = new(atEnd);
                float* x = (float*)memory.Take(4 * rows * inputs), w = (float*)memory.Take(4 * inputs * outputs), y = (float*)memory.Take(4 * rows * outputs);
                DenseRows<Simd512>.Run(x, rows, w, inputs, y, outputs, 0, outputs);
                DenseRows<Simd128>.Run(x, rows, w, inputs, y, outputs, 0, outputs);
            }
        }
    }

    [Fact]
    public unsafe void Gate_functions_are_libtorchs_up_to_infinity()
    {
        using DisposeScope scope = NewDisposeScope();
        float[] values = [.. Enumerable.Range(-2300, 4600).Select(i => i * 0.05f), float.NaN, float.PositiveInfinity, float.NegativeInfinity, 1e30f, -1e30f, 1e-40f, -0f];
        Tensor x = tensor(values);
        Check(ElementFunction.Sigmoid, x.sigmoid());
        Check(ElementFunction.HardSigmoid, nn.functional.hardsigmoid(x));
        Check(ElementFunction.SiLU, nn.functional.silu(x));
        Check(ElementFunction.HardSwish, nn.functional.hardswish(x));
        Check(ElementFunction.ReLU, nn.functional.relu(x));
        Check(ElementFunction.ReLU6, nn.functional.relu6(x));

        void Check(ElementFunction function, Tensor expected)
        {
            float[] wanted = expected.data<float>().ToArray();
            foreach (int lanes in (int[])[16, 8, 4])
            {
                float[] found = [.. values];
                fixed (float* first = found)
                {
                    if (lanes == 16) ElementFunctions<Simd512>.Apply(function, null, first, found.Length);
                    else if (lanes == 8) ElementFunctions<Simd256>.Apply(function, null, first, found.Length);
                    else ElementFunctions<Simd128>.Apply(function, null, first, found.Length);
                }

                for (int i = 0; i < found.Length; i++)
                {
                    bool same = float.IsFinite(wanted[i]) ? Math.Abs(wanted[i] - found[i]) <= 4e-7 * Math.Max(1, Math.Abs(wanted[i])) : wanted[i].Equals(found[i]);
                    Assert.True(same, $"{function}({values[i]}), {lanes} lanes: {wanted[i]} libtorch, {found[i]} here");
                }
            }
        }
    }

    private static TrialLayout LayoutOf(bool pixels) => pixels ? TrialLayout.Pixels : TrialLayout.Planes;

    private static Tensor InOneCall(GateModule module, Tensor x, bool overwrite, Tensor? residual)
    {
        Tensor? refined = TryInOneCall(module, x, overwrite, residual);
        Assert.NotNull(refined);
        return refined;
    }

    private static Tensor? TryInOneCall(GateModule module, Tensor x, bool overwrite, Tensor? residual)
    {
        Assert.True(MapView.TryOf(x, out MapView view));
        return InferenceGateKernel.TryRun(GateParts.Of(module)!.Value, view, x, overwrite, residual);
    }
}
