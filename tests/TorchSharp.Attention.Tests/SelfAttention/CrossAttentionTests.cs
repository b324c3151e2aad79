namespace TorchSharp.Attention.Tests;

/// <summary>Attention from a map to a map or a sequence against plain loops: values, slopes, masks, types, memory, errors.</summary>
public class CrossAttentionTests
{
    private const int N = 2, C = 6, H = 2, W = 3, G = 5, S = 4;

    private static readonly CrossAttentionOptions[] Settings =
    [
        new() { Heads = 2 },
        new() { Heads = 3, Bias = false, Residual = false },
        new() { Heads = 2, HeadWidth = 4, ZeroInitScale = true },
        new() { Heads = 1, Residual = false },
    ];

    public static TheoryData<int, bool, bool> Rows
    {
        get
        {
            TheoryData<int, bool, bool> rows = [];
            for (int i = 0; i < Settings.Length; i++)
            {
                foreach (bool map in new[] { false, true })
                {
                    rows.Add(i, map, false);
                    rows.Add(i, map, true);
                }
            }

            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Computes_the_formula_and_its_slopes(int settings, bool map, bool padded)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(Settings[settings], map, padded);
        subject.Input.requires_grad_(true);
        subject.Context.requires_grad_(true);
        Tensor y = subject.Module.call(subject.Input, subject.Context, subject.Padding);
        Assert.Equal(subject.Input.shape, y.shape);
        Near.Equal(subject.Oracle(), y.Doubles(), 1e-12, "output");

        y.mul(tensor(subject.Slope, y.shape)).sum().backward();
        foreach ((string name, double[] values, Tensor variable) in subject.Variables())
        {
            double[] expected = [.. Enumerable.Range(0, values.Length).Select(i => subject.Difference(values, i))];
            double error = expected.Zip(variable.grad!.Doubles(), (e, a) => Math.Abs(e - a)).Max();
            Assert.True(error <= (1e-6 * expected.Max(Math.Abs)) + 1e-8, $"{name}: off by {error:g3}.");
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Weights_are_those_of_the_formula(int settings, bool map, bool padded)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(Settings[settings], map, padded);
        Tensor weights = subject.Module.Weights(subject.Input, subject.Context, subject.Padding);
        Assert.Equal([N, Settings[settings].Heads, H * W, S], weights.shape);
        Near.Equal(subject.OracleWeights(), weights.Doubles(), 1e-12, "weights");
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Permuting_the_batch_permutes_the_output(int settings, bool map, bool padded)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(Settings[settings], map, padded);
        Tensor order = tensor(new long[] { 1, 0 });
        Tensor expected = subject.Module.call(subject.Input, subject.Context, subject.Padding).index_select(0, order);
        Near.Equal(expected, subject.Module.call(
            subject.Input.index_select(0, order), subject.Context.index_select(0, order), subject.Padding?.index_select(0, order)), 1e-12, "permuted");
    }

    [Fact]
    public void A_map_is_the_sequence_of_its_positions_whatever_its_strides()
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(Settings[0], map: true, padded: false);
        Tensor sequence = subject.Context.flatten(2).transpose(1, 2).contiguous();
        Near.Equal(subject.Module.call(subject.Input, sequence), subject.Module.call(ChannelsLast(subject.Input), ChannelsLast(subject.Context)), 1e-12, "strides");

        static Tensor ChannelsLast(Tensor x) => x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
    }

    [Fact]
    public void A_sample_without_any_place_gathers_zeros_and_has_finite_gradients()
    {
        using DisposeScope scope = NewDisposeScope();
        using CrossAttention module = new(C, G, new() { Heads = 2, Residual = false });
        Tensor x = randn(1, C, H, W, requires_grad: true);
        Tensor context = randn(1, S, G, requires_grad: true);
        Tensor padding = ones(1, S, dtype: ScalarType.Bool);
        Tensor y = module.call(x, context, padding);
        Near.Equal(module.state_dict()["proj.bias"].view(1, C, 1, 1).expand(1, C, H, W), y, 1e-6, "bias");
        Assert.True(module.Weights(x, context, padding).eq(zeros(1)).all().ToBoolean());
        y.sum().add(module.Weights(x, context, padding).sum()).backward();
        Assert.True(x.grad!.isfinite().all().ToBoolean() && context.grad!.isfinite().all().ToBoolean());
    }

    [Theory]
    [InlineData(ScalarType.Float32, 1e-5)]
    [InlineData(ScalarType.BFloat16, 5e-2)]
    public void Works_in_small_types_and_on_single_places(ScalarType dtype, double tolerance)
    {
        using DisposeScope scope = NewDisposeScope();
        using CrossAttention module = new(C, G, new() { Heads = 2 });
        using CrossAttention precise = new(C, G, new() { Heads = 2 });
        module.to(dtype);
        precise.to(ScalarType.Float64);
        using (no_grad())
        {
            foreach ((string key, Tensor value) in module.state_dict()) precise.state_dict()[key].copy_(value);
        }

        foreach (long size in new long[] { 1, 3 })
        {
            Tensor x = randn(2, C, size, size).to_type(dtype), context = randn(2, G, size, 1).to_type(dtype);
            Tensor y = module.call(x, context);
            Assert.Equal(dtype, y.dtype);
            Near.Equal(precise.call(x.to_type(ScalarType.Float64), context.to_type(ScalarType.Float64)).Doubles(), y.Doubles(), tolerance, $"{dtype}", ofLargest: 1);
        }

        Assert.Equal([0, C, H, W], module.call(empty(0, C, H, W).to_type(dtype), empty(0, S, G).to_type(dtype)).shape);
    }

    [Fact]
    public void A_thousand_steps_leave_no_tensor_alive()
    {
        using CrossAttention module = new(C, G, new() { Heads = 2, AttentionDropout = 0.1, Dropout = 0.1, ZeroInitScale = true });
        using Tensor x = randn(N, C, H, W, requires_grad: true);
        using Tensor context = randn(N, S, G, requires_grad: true);
        using Tensor padding = zeros(N, S, dtype: ScalarType.Bool);
        Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 1000; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);

        void Step()
        {
            using Tensor y = module.call(x, context, padding);
            using Tensor loss = y.sum();
            loss.backward();
            using Tensor weights = module.Weights(x, context, padding);
        }
    }

    [Fact]
    public void A_zero_scale_starts_as_the_identity_and_resets_to_it()
    {
        using DisposeScope scope = NewDisposeScope();
        using CrossAttention module = new(C, G, new() { Heads = 2, ZeroInitScale = true });
        Assert.Equal(
            ["gamma", "kv.bias", "kv.weight", "proj.bias", "proj.weight", "q.bias", "q.weight"], module.state_dict().Keys.Order(StringComparer.Ordinal));
        Tensor x = randn(N, C, H, W), context = randn(N, S, G);
        Near.Identical(x, module.call(x, context));
        using (no_grad())
        {
            module.state_dict()["gamma"].copy_(ones(1));
        }

        Assert.NotEqual(x.Doubles(), module.call(x, context).Doubles());
        module.ResetParameters();
        Near.Identical(x, module.call(x, context));
    }

    [Fact]
    public void Bad_input_is_refused_by_name_value_and_remedy()
    {
        Refused("channels", "at least 1", () => new CrossAttention(0, 4));
        Refused("contextChannels", "at least 1", () => new CrossAttention(8, 0));
        Refused("Heads", "does not divide 6 channels", () => new CrossAttention(6, 4));
        Refused("Heads", "at least 1", () => new CrossAttention(6, 4, new() { Heads = 0 }));
        Refused("HeadWidth", "at least 1", () => new CrossAttention(8, 4, new() { HeadWidth = 0 }));
        Refused("AttentionDropout", "[0, 1)", () => new CrossAttention(8, 4, new() { AttentionDropout = 1 }));
        Refused("Dropout", "[0, 1)", () => new CrossAttention(8, 4, new() { Dropout = -1 }));
        Refused("ZeroInitScale", "Set Residual = true", () => new CrossAttention(8, 4, new() { ZeroInitScale = true, Residual = false }));

        using DisposeScope scope = NewDisposeScope();
        using CrossAttention module = new(8, 4);
        (Tensor x, Tensor sequence) = (randn(2, 8, 3, 3), randn(2, 5, 4));
        Refused("input", "built for 8 channels", () => module.call(randn(2, 7, 3, 3), sequence));
        Refused("context", "built for 4 channels", () => module.call(x, randn(2, 5, 3, 3)));
        Refused("context", "sequence (N, length, 4)", () => module.call(x, randn(2, 5, 3)));
        Refused("context", "sequence (N, length, 4)", () => module.call(x, randn(2, 0, 4)));
        Refused("context", "same batch and type", () => module.call(x, randn(3, 5, 4)));
        Refused("context", "same batch and type", () => module.call(x, sequence.to_type(ScalarType.Float64)));
        Refused("keyPaddingMask", "it must be Bool or floating point, (2, 5)", () => module.call(x, sequence, zeros(2, 5, dtype: ScalarType.Int64)));
        Refused("keyPaddingMask", "it must be Bool or floating point, (2, 5)", () => module.Weights(x, sequence, zeros(2, 3, dtype: ScalarType.Bool)));
        Assert.Throws<ArgumentNullException>(() => module.call(x, null!));
        Assert.Throws<ArgumentNullException>(() => module.call(null!, sequence));
    }

    private static void Refused(string parameter, string message, Func<object> act)
    {
        ArgumentException e = Assert.ThrowsAny<ArgumentException>(act);
        Assert.Equal(parameter, e.ParamName);
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    /// <summary>A module with seeded weights, its inputs, and the formula in loops.</summary>
    private sealed class Subject : IDisposable
    {
        private readonly CrossAttentionOptions _options;
        private readonly bool _map;
        private readonly double[] _input, _context;
        private readonly Dictionary<string, double[]> _state;

        public Subject(CrossAttentionOptions options, bool map, bool padded)
        {
            Random random = new(7);
            (_options, _map) = (options, map);
            Module = new CrossAttention(C, G, options);
            Module.to(ScalarType.Float64);
            _state = Module.state_dict().ToDictionary(e => e.Key, e => Draw((int)e.Value.numel(), 0.5));
            using (no_grad())
            {
                foreach ((string key, Tensor value) in Module.state_dict()) value.copy_(tensor(_state[key], value.shape));
            }

            (_input, _context, Slope) = (Draw(N * C * H * W), Draw(N * S * G), Draw(N * C * H * W));
            Input = tensor(_input, [N, C, H, W]);
            Context = map ? tensor(_context, [N, G, 2, S / 2]) : tensor(_context, [N, S, G]);
            if (padded) Padding = tensor([.. Enumerable.Range(0, N * S).Select(i => Hidden(i / S, i % S))], [N, S]);

            double[] Draw(int count, double scale = 1) => [.. Enumerable.Range(0, count).Select(_ => scale * random.Normal())];
        }

        public CrossAttention Module { get; }

        public Tensor Input { get; }

        public Tensor Context { get; }

        public Tensor? Padding { get; }

        public double[] Slope { get; }

        private int Width => _options.Heads * (_options.HeadWidth ?? C / _options.Heads);

        public IEnumerable<(string Name, double[] Values, Tensor Variable)> Variables()
        {
            yield return ("input", _input, Input);
            yield return ("context", _context, Context);
            foreach ((string name, Modules.Parameter parameter) in Module.named_parameters()) yield return (name, _state[name], parameter);
        }

        public double Difference(double[] values, int i)
        {
            double value = values[i];
            values[i] = value + 1e-6;
            double above = Oracle().Zip(Slope, (y, s) => y * s).Sum();
            values[i] = value - 1e-6;
            double below = Oracle().Zip(Slope, (y, s) => y * s).Sum();
            values[i] = value;
            return (above - below) / 2e-6;
        }

        public double[] Oracle()
        {
            double[] weights = OracleWeights(), y = new double[_input.Length];
            int d = Width / _options.Heads;
            for (int i = 0; i < y.Length; i++)
            {
                (int n, int c, int p) = (i / (C * H * W), i / (H * W) % C, i % (H * W));
                double sum = _options.Bias ? _state["proj.bias"][c] : 0;
                for (int inner = 0; inner < Width; inner++)
                {
                    double gathered = 0;
                    for (int s = 0; s < S; s++)
                    {
                        gathered += weights[(((((n * _options.Heads) + (inner / d)) * H * W) + p) * S) + s] * Key(n, s, Width + inner);
                    }

                    sum += _state["proj.weight"][(c * Width) + inner] * gathered;
                }

                if (_options.ZeroInitScale) sum *= _state["gamma"][0];
                y[i] = (_options.Residual ? _input[i] : 0) + sum;
            }

            return y;
        }

        public double[] OracleWeights()
        {
            int d = Width / _options.Heads;
            double[] weights = new double[N * _options.Heads * H * W * S];
            for (int row = 0; row < weights.Length / S; row++)
            {
                (int n, int head, int p) = (row / (_options.Heads * H * W), row / (H * W) % _options.Heads, row % (H * W));
                double[] terms = [.. Enumerable.Range(0, S).Select(s => Padding is not null && Hidden(n, s) ? 0 : Math.Exp(
                    Enumerable.Range(head * d, d).Sum(c => Query(n, p, c) * Key(n, s, c)) / Math.Sqrt(d)))];
                for (int s = 0; s < S; s++) weights[(row * S) + s] = terms[s] / terms.Sum();
            }

            return weights;
        }

        public void Dispose() => Module.Dispose();

        private static bool Hidden(int n, int s) => s > 1 + n;

        private double Query(int n, int p, int c)
        {
            double sum = _options.Bias ? _state["q.bias"][c] : 0;
            for (int i = 0; i < C; i++) sum += _state["q.weight"][(c * C) + i] * _input[(((n * C) + i) * H * W) + p];
            return sum;
        }

        /// <summary>Keys, and from the inner width on values.</summary>
        private double Key(int n, int s, int c)
        {
            double sum = _options.Bias ? _state["kv.bias"][c] : 0;
            for (int i = 0; i < G; i++)
            {
                sum += _state["kv.weight"][(c * G) + i] * _context[_map ? (((n * G) + i) * S) + s : (((n * S) + s) * G) + i];
            }

            return sum;
        }
    }
}
