using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// TorchSharp's multi-head attention over sequences (length, N, width): output and weights, the mean over heads. The module does
/// not tell its number of heads, so that it is found by what the module computes.
/// </summary>
internal static class MultiheadAttentionEmitter
{
    public static OnnxEmitters WithMultiheadAttention(this OnnxEmitters emitters)
        => emitters.WithMultiple<MultiheadAttention>(Write);

    private static OnnxValue[] Write(OnnxContext context, MultiheadAttention module, IReadOnlyList<OnnxValue> inputs)
    {
        if (inputs.Count != 3) throw context.Unsupported("it takes query, key and value; masks are not written.");
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Projections projections = new(module);
        OnnxValue query = inputs[0];
        long width = projections.Width,
            heads = projections.Heads(module) ?? throw context.Unsupported("add_bias_kv and add_zero_attn are not written.");
        OnnxValue key = context.Turn(Heads(1));
        OnnxValue weights = context.Softmax(context.MatMul(context.Mul(Heads(0), 1 / Math.Sqrt(width / heads)), key), -1);
        OnnxValue gathered = context.Transpose(context.MatMul(weights, Heads(2)), 2, 0, 1, 3);
        OnnxValue output = context.MatMul(
            context.Reshape(gathered, query[0], query[1], width), Constant(projections.Out.t(), "out_proj.weight_t"));
        if (projections.OutBias is { } bias) output = context.Add(output, Constant(bias, "out_proj.bias"));
        return [output, context.Reduce("ReduceMean", weights, [1], keep: false)];

        OnnxValue Heads(int part)
        {
            OnnxValue sequence = inputs[part];
            context.RequireStatic(sequence[2], "its weight has as many columns");
            OnnxValue projected = context.MatMul(
                sequence, Constant(projections.Weights[part].t(), $"in_proj.{"qkv"[part]}.weight_t"));
            if (projections.Biases is { } biases)
            {
                projected = context.Add(projected, Constant(biases[part], $"in_proj.{"qkv"[part]}.bias"));
            }

            return context.Transpose(context.Reshape(projected, sequence[0], sequence[1], heads, width / heads), 1, 2, 0, 3);
        }

        OnnxValue Constant(Tensor values, string name) => context.Parameter(values.contiguous(), name.Replace('.', '_'));
    }

    /// <summary>The module's weights by what they do.</summary>
    private sealed class Projections
    {
        public Projections(MultiheadAttention module)
        {
            Dictionary<string, Tensor> own =
                module.named_parameters().ToDictionary(entry => entry.name, entry => (Tensor)entry.parameter);
            Out = own["out_proj.weight"];
            OutBias = own.GetValueOrDefault("out_proj.bias");
            Weights = own.TryGetValue("in_proj_weight", out Tensor? all)
                ? all.chunk(3)
                : [own["q_proj_weight"], own["k_proj_weight"], own["v_proj_weight"]];
            Biases = own.GetValueOrDefault("in_proj_bias")?.chunk(3);
        }

        public long Width => Out.size(0);

        public Tensor[] Weights { get; }

        public Tensor[]? Biases { get; }

        public Tensor Out { get; }

        public Tensor? OutBias { get; }

        /// <summary>The number of heads with which these weights compute what the module does; null where none does.</summary>
        public long? Heads(MultiheadAttention module)
        {
            using DryRunScope dry = new(module);
            Tensor[] inputs = [
                .. Weights.Select(
                    (weight, part) => Wave(part == 0 ? 3 : 4, weight.size(1), part).to(weight.dtype, weight.device))];
            Tensor expected = Exact(module.call(inputs[0], inputs[1], inputs[2], need_weights: false).Item1);
            double scale = expected.abs().max().item<double>();
            Tensor[] exact = [.. inputs.Select(Exact)];
            (long Heads, double Error) best = Enumerable.Range(1, (int)Width).Select(heads => (long)heads).Where(
                heads => Width % heads == 0)
                .Select(heads => (Heads: heads, Error: Compute(exact, heads).sub(expected).abs().max().item<double>()))
                .MinBy(candidate => candidate.Error);

            // What the module's own type rounds off, over its four products.
            return best.Error <= Math.Max(1e-4, 16 * OnnxComparison.StepOf(Out.dtype)) * scale ? best.Heads : null;
        }

        private static Tensor Exact(Tensor values) => values.cpu().to_type(ScalarType.Float64);

        private Tensor Compute(Tensor[] inputs, long heads)
        {
            Tensor[] parts = [.. inputs.Select((sequence, part) =>
            {
                Tensor projected = nn.functional.linear(
                    sequence, Exact(Weights[part]), Biases is null ? null : Exact(Biases[part]));
                return projected.view(projected.size(0), 1, heads, Width / heads).permute(1, 2, 0, 3);
            })];
            Tensor gathered = nn.functional.scaled_dot_product_attention(
                parts[0], parts[1], parts[2]).permute(2, 0, 1, 3).reshape(-1, 1, Width);
            return nn.functional.linear(gathered, Exact(Out), OutBias is null ? null : Exact(OutBias));
        }

        /// <summary>A sequence of one sample without randomness, (length, 1, width).</summary>
        private static Tensor Wave(long length, long width, int seed)
            => tensor(
                [.. Enumerable.Range(0, (int)(length * width)).Select(i => (float)(3 * Math.Sin((i + 1) * (seed + 1.7))))],
                [length, 1, width]);
    }
}
