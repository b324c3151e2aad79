namespace TorchSharp.Attention.Tests;

/// <summary>Attention over sequences against plain loops: values, masks, gradients, types, memory, errors.</summary>
public class MultiHeadAttentionTests
{
    private const int N = 2, L = 3, S = 4, Width = 6;

    private static readonly MultiHeadAttentionOptions[] Settings =
    [
        new() { Heads = 2 },
        new() { Heads = 3, Bias = false },
        new() { Heads = 2, KeyWidth = 5, ValueWidth = 4 },
        new() { Heads = 1, KeyWidth = 7, Bias = false },
    ];

    public static TheoryData<int, string> Rows
    {
        get
        {
            TheoryData<int, string> rows = [];
            for (int i = 0; i < Settings.Length; i++)
            {
                foreach (string mask in new[] { "none", "padding", "causal", "added", "each head", "both" }) rows.Add(i, mask);
            }

            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Computes_the_formula_and_its_slopes(int settings, string mask)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(Settings[settings], mask);
        Tensor y = subject.Forward(requiresGrad: true);
        Near.Equal(subject.Oracle(), y.Doubles(), 1e-12, mask);

        Tensor slope = tensor(subject.Slope, y.shape);
        y.mul(slope).sum().backward();
        foreach ((string name, double[] values, Tensor variable) in subject.Variables())
        {
            double[] expected = [.. Enumerable.Range(0, values.Length).Select(i => subject.Difference(values, i))];
            double error = expected.Zip(variable.grad!.Doubles(), (e, a) => Math.Abs(e - a)).Max();
            Assert.True(error <= (1e-6 * expected.Max(Math.Abs)) + 1e-8, $"{name}: off by {error:g3}.");
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Weights_are_those_of_the_formula(int settings, string mask)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(Settings[settings], mask);
        Tensor weights = subject.Module.Weights(subject.Inputs[0], subject.Inputs[1], subject.Padding, subject.Mask);
        Near.Equal(subject.OracleWeights(), weights.Doubles(), 1e-12, mask);
    }

    [Fact]
    public void A_query_that_sees_no_key_gets_the_output_bias_and_finite_gradients()
    {
        using DisposeScope scope = NewDisposeScope();
        using MultiHeadAttention module = new(Width, new() { Heads = 2 });
        Tensor x = randn(1, L, Width, requires_grad: true);
        Tensor y = module.call(x, x, x, ones(1, L, dtype: ScalarType.Bool), null);
        Near.Identical(module.state_dict()["out_proj.bias"].expand(1, L, Width), y);
        Assert.True(module.Weights(x, x, ones(1, L, dtype: ScalarType.Bool)).eq(zeros(1)).all().ToBoolean());
        y.sum().add(module.Weights(x, x, ones(1, L, dtype: ScalarType.Bool)).sum()).backward();
        Assert.True(x.grad!.isfinite().all().ToBoolean());
    }

    [Fact]
    public void Padding_may_be_numbers_added_to_the_logits()
    {
        using DisposeScope scope = NewDisposeScope();
        using MultiHeadAttention module = new(Width, new() { Heads = 2 });
        Tensor x = randn(N, L, Width), added = randn(N, L), hidden = tensor([false, true, false, false, false, true], [N, L]);
        Tensor each = added.view(N, 1, 1, L).expand(N, 2, L, L).reshape(N * 2, L, L);
        Near.Equal(module.call(x, x, x, null, each), module.call(x, x, x, added, null), 1e-5, "numbers");
        Tensor infinite = zeros(N, L).masked_fill(hidden, double.NegativeInfinity);
        Near.Equal(module.call(x, x, x, hidden, null), module.call(x, x, x, infinite, null), 1e-5, "infinite");
        Near.Equal(module.Weights(x, x, hidden), module.Weights(x, x, infinite), 1e-5, "weights");
    }

    [Theory]
    [InlineData(ScalarType.Float32, 1e-5)]
    [InlineData(ScalarType.BFloat16, 5e-2)]
    public void Works_in_small_types_and_on_single_places(ScalarType dtype, double tolerance)
    {
        using DisposeScope scope = NewDisposeScope();
        using MultiHeadAttention module = new(Width, new() { Heads = 2 });
        using MultiHeadAttention precise = new(Width, new() { Heads = 2 });
        module.to(dtype);
        precise.to(ScalarType.Float64);
        using (no_grad())
        {
            foreach ((string key, Tensor value) in module.state_dict()) precise.state_dict()[key].copy_(value);
        }

        foreach (long length in new long[] { 1, 5 })
        {
            Tensor x = randn(1, length, Width).to_type(dtype);
            Tensor y = module.call(x);
            Assert.Equal(dtype, y.dtype);
            Near.Equal(precise.call(x.to_type(ScalarType.Float64)).Doubles(), y.Doubles(), tolerance, $"{dtype}", ofLargest: 1);
        }

        Assert.Equal([0, L, Width], module.call(empty(0, L, Width).to_type(dtype)).shape);
    }

    [Fact]
    public void A_thousand_steps_leave_no_tensor_alive()
    {
        using MultiHeadAttention module = new(Width, new() { Heads = 2, AttentionDropout = 0.1 });
        using Tensor x = randn(N, L, Width, requires_grad: true);
        using Tensor padding = zeros(N, L, dtype: ScalarType.Bool);
        Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 1000; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);

        void Step()
        {
            using Tensor y = module.call(x, x, x, padding, null);
            using Tensor loss = y.sum();
            loss.backward();
            using Tensor weights = module.Weights(x, x, padding);
        }
    }

    [Fact]
    public void Starts_as_pytorch_and_resets_with_the_seed()
    {
        using MultiHeadAttention module = new(64);
        Dictionary<string, Tensor> state = module.state_dict();
        Assert.Equal(["in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight"], state.Keys.Order());
        Assert.All(state["in_proj_bias"].Doubles(), value => Assert.Equal(0, value));
        Assert.InRange(state["in_proj_weight"].Doubles().Max(Math.Abs), 0.14, Math.Sqrt(6.0 / 256));
        Assert.InRange(state["out_proj.weight"].Doubles().Max(Math.Abs), 0.12, 0.125001);
        double[] first = Reset();
        Assert.Equal(first, Reset());

        double[] Reset()
        {
            manual_seed(3);
            module.ResetParameters();
            return module.state_dict()["in_proj_weight"].Doubles();
        }
    }

    [Fact]
    public void Bad_input_is_refused_by_name_value_and_remedy()
    {
        Refused("width", "at least 1", () => new MultiHeadAttention(0));
        Refused("Heads", "does not divide the width 6", () => new MultiHeadAttention(6, new() { Heads = 4 }));
        Refused("Heads", "at least 1", () => new MultiHeadAttention(6, new() { Heads = 0 }));
        Refused("KeyWidth", "at least 1", () => new MultiHeadAttention(8, new() { KeyWidth = 0 }));
        Refused("ValueWidth", "at least 1", () => new MultiHeadAttention(8, new() { ValueWidth = -1 }));
        Refused("AttentionDropout", "[0, 1)", () => new MultiHeadAttention(8, new() { AttentionDropout = 1 }));

        using DisposeScope scope = NewDisposeScope();
        using MultiHeadAttention module = new(8, new() { KeyWidth = 4 });
        (Tensor query, Tensor key, Tensor value) = (randn(2, 3, 8), randn(2, 5, 4), randn(2, 5, 8));
        Refused("query", "sequences (N, length, 8)", () => module.call(randn(2, 3, 7), key, value));
        Refused("query", "Int64", () => module.call(query.to_type(ScalarType.Int64), key, value));
        Refused("key", "(N, length, 4)", () => module.call(query));
        Refused("key", "must start with (2, 5)", () => module.call(query, randn(3, 5, 4), value));
        Refused("value", "must start with (2, 5)", () => module.call(query, key, randn(2, 4, 8)));
        Refused("keyPaddingMask", "it must be Bool or floating point, (2, 5)", () => module.call(query, key, value, zeros(2, 3, dtype: ScalarType.Bool), null));
        Refused("keyPaddingMask", "it must be Bool or floating point", () => module.call(query, key, value, zeros(2, 5, dtype: ScalarType.Int64), null));
        Refused("value", "value is Float64", () => module.call(query, key, value.to_type(ScalarType.Float64)));
        Refused("attentionMask", "(3, 5) or (16, 3, 5)", () => module.call(query, key, value, null, zeros(5, 3)));
        Assert.Throws<ArgumentNullException>(() => module.call(null!, key, value));
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
        private readonly MultiHeadAttentionOptions _options;
        private readonly double[][] _inputs;
        private readonly Dictionary<string, double[]> _state;
        private readonly double[] _mask = new double[N * 3 * L * S];

        public Subject(MultiHeadAttentionOptions options, string mask)
        {
            Random random = new(5);
            _options = options;
            Module = new MultiHeadAttention(Width, options);
            Module.to(ScalarType.Float64);
            _state = Module.state_dict().ToDictionary(e => e.Key, e => Draw((int)e.Value.numel(), 0.5));
            using (no_grad())
            {
                foreach ((string key, Tensor value) in Module.state_dict()) value.copy_(tensor(_state[key], value.shape));
            }

            _inputs = [Draw(N * L * Width), Draw(N * S * KeyWidth), Draw(N * S * ValueWidth)];
            Inputs = [tensor(_inputs[0], [N, L, Width]), tensor(_inputs[1], [N, S, KeyWidth]), tensor(_inputs[2], [N, S, ValueWidth])];
            Slope = Draw(N * L * Width);
            SetMask(mask, Draw(N * options.Heads * L * S));

            double[] Draw(int count, double scale = 1) => [.. Enumerable.Range(0, count).Select(_ => scale * random.Normal())];
        }

        public MultiHeadAttention Module { get; }

        public Tensor[] Inputs { get; }

        public double[] Slope { get; }

        public Tensor? Padding { get; private set; }

        public Tensor? Mask { get; private set; }

        private int KeyWidth => _options.KeyWidth ?? Width;

        private int ValueWidth => _options.ValueWidth ?? Width;

        public Tensor Forward(bool requiresGrad)
        {
            foreach (Tensor input in Inputs) input.requires_grad_(requiresGrad);
            return Module.call(Inputs[0], Inputs[1], Inputs[2], Padding, Mask);
        }

        public IEnumerable<(string Name, double[] Values, Tensor Variable)> Variables()
        {
            for (int i = 0; i < 3; i++) yield return ($"input {i}", _inputs[i], Inputs[i]);
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
            double[] weights = OracleWeights(), y = new double[N * L * Width];
            int d = Width / _options.Heads;
            double[] gathered = new double[N * L * Width];
            for (int i = 0; i < gathered.Length; i++)
            {
                (int n, int l, int c) = (i / (L * Width), i / Width % L, i % Width);
                for (int s = 0; s < S; s++) gathered[i] += weights[(((((n * _options.Heads) + (c / d)) * L) + l) * S) + s] * Projected(2, n, s, c);
            }

            for (int i = 0; i < y.Length; i++)
            {
                y[i] = _options.Bias ? _state["out_proj.bias"][i % Width] : 0;
                for (int c = 0; c < Width; c++) y[i] += _state["out_proj.weight"][(i % Width * Width) + c] * gathered[(i / Width * Width) + c];
            }

            return y;
        }

        public double[] OracleWeights()
        {
            int d = Width / _options.Heads;
            double[] weights = new double[N * _options.Heads * L * S];
            for (int row = 0; row < weights.Length / S; row++)
            {
                (int n, int head, int l) = (row / (_options.Heads * L), row / L % _options.Heads, row % L);
                double[] terms = [.. Enumerable.Range(0, S).Select(s => Math.Exp(_mask[(row * S) + s] + (Enumerable.Range(head * d, d)
                    .Sum(c => Projected(0, n, l, c) * Projected(1, n, s, c)) / Math.Sqrt(d))))];
                for (int s = 0; s < S; s++) weights[(row * S) + s] = terms[s] / terms.Sum();
            }

            return weights;
        }

        public void Dispose() => Module.Dispose();

        private double Projected(int part, int n, int place, int c)
        {
            (int width, int length) = part switch { 0 => (Width, L), 1 => (KeyWidth, S), _ => (ValueWidth, S) };
            bool packed = _state.ContainsKey("in_proj_weight");
            double[] weight = packed ? _state["in_proj_weight"] : _state[new[] { "q", "k", "v" }[part] + "_proj_weight"];
            double sum = _options.Bias ? _state["in_proj_bias"][(part * Width) + c] : 0;
            for (int i = 0; i < width; i++)
            {
                sum += weight[(((packed ? part * Width : 0) + c) * width) + i] * _inputs[part][(((n * length) + place) * width) + i];
            }

            return sum;
        }

        private void SetMask(string kind, double[] added)
        {
            bool padded = kind is "padding" or "both", causal = kind is "causal" or "both";
            if (padded) Padding = tensor([.. Enumerable.Range(0, N * S).Select(i => i % S > 1 + (i / S))], [N, S]);
            if (causal) Mask = tensor([.. Enumerable.Range(0, L * S).Select(i => i % S > i / S)], [L, S]);
            if (kind == "added") Mask = tensor(added[..(L * S)], [L, S]);
            if (kind == "each head") Mask = tensor(added, [N * _options.Heads, L, S]);
            for (int i = 0; i < N * _options.Heads * L * S; i++)
            {
                (int n, int l, int s) = (i / (_options.Heads * L * S), i / S % L, i % S);
                if ((padded && s > 1 + n) || (causal && s > l)) _mask[i] = double.NegativeInfinity;
                if (kind == "added") _mask[i] = added[i % (L * S)];
                if (kind == "each head") _mask[i] = added[i];
            }
        }
    }
}
