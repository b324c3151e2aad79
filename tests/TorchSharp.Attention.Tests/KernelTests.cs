using CsCheck;

namespace TorchSharp.Attention.Tests;

/// <summary>The fused kernels against libtorch's operations: values, gradients, second derivatives, layouts, special values, threads.</summary>
public sealed class KernelTests : IDisposable
{
    /// <summary>Every gate that decomposes, once a kind of decomposition.</summary>
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
        channels => new LightCbam(channels, new() { ReducedChannels = 3 }),
    ];

    private static readonly Gen<Trial> Trials =
        Gen.Select(Gen.Int[0, Modules.Length - 1], Gen.Int[0, 3], Gen.Int[1, 40], Gen.Int[1, 21], Gen.Int[1, 21], Gen.Enum<Layout>(), Gen.Bool, Gen.Int)
            .Select((module, batch, channels, height, width, layout, training, seed)
                => new Trial(module, batch, channels, height, width, layout, training, seed));

    private readonly bool _enabled = AttentionKernels.Enabled;

    public enum Layout
    {
        Planes,
        Pixels,
        PlanesWithOffset,
        PixelsWithOffset,
        Strided,
    }

    public void Dispose() => AttentionKernels.Enabled = _enabled;

    [Fact]
    public void Values_are_those_of_the_composed_operations() => Trials.Sample(trial => trial.Compare(ScalarType.Float32, 2e-5), seed: "0000000000001", iter: 400);

    [Fact]
    public void Bfloat16_values_are_within_its_rounding() => Trials.Sample(trial => trial.Compare(ScalarType.BFloat16, 0.06), seed: "0000000000002", iter: 200);

    [Fact]
    public void Gradients_are_those_of_the_composed_operations() => Trials.Sample(trial => trial.CompareGradients(ties: false), seed: "0000000000003", iter: 300);

    [Fact]
    public void Gradients_of_shared_maxima_are_split_evenly() => Trials.Sample(trial => trial.CompareGradients(ties: true), seed: "0000000000004", iter: 200);

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
            Tensor x = Random(this, ScalarType.Float32, ties);
            Tensor weights = randn_like(x);
            List<Tensor> expected = Gradients(module, x, weights, fused: false), actual = Gradients(module, x, weights, fused: true);
            Assert.Equal(expected.Count, actual.Count);
            for (int i = 0; i < expected.Count; i++) Near(expected[i], actual[i], Training ? 3e-3 : 3e-4);
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

        private static List<Tensor> Gradients(GateModule module, Tensor x, Tensor weights, bool fused)
        {
            module.zero_grad();
            Dictionary<string, Tensor> buffers = module.named_buffers().ToDictionary(entry => entry.name, entry => entry.buffer.clone());
            Tensor input = x.detach().requires_grad_();
            Tensor y = Run(module, input, fused);
            y.mul(weights).sum().backward();
            List<Tensor> all = [y.detach(), input.grad!.clone(), .. module.parameters().Select(p => p.grad is null ? zeros_like(p) : p.grad.clone())];
            using IDisposable quiet = no_grad();
            foreach ((string name, Tensor buffer) in module.named_buffers()) buffer.copy_(buffers[name]);
            return all;
        }

        private static Tensor Run(GateModule module, Tensor x, bool fused)
        {
            AttentionKernels.Enabled = fused;
            return module.call(x);
        }

        private static void Near(Tensor expected, Tensor actual, double tolerance)
        {
            if (expected.numel() == 0) return;
            double scale = Math.Max(1, expected.abs().max().to_type(ScalarType.Float64).ToDouble());
            double error = expected.sub(actual).abs().max().to_type(ScalarType.Float64).ToDouble();
            Assert.True(error <= tolerance * scale, $"error {error} at scale {scale}");
        }
    }
}
