using TorchSharp.Attention.Onnx.Schema;
using ElementType = TorchSharp.Attention.Onnx.Schema.TensorProto.Types.DataType;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Writes linear layers with weights of eight bits and inputs that get theirs while running: y = (s_x · s_w) · Σ (q_x − z_x) (q_w
/// − z_w) + b, in the order of operators that ONNX Runtime fuses into one.
/// </summary>
internal static class DynamicWriter
{
    /// <exception cref="ArgumentException">There is nothing to quantize, or a weight is not finite.</exception>
    public static (ModelProto Model, IReadOnlyList<FloatNode> Kept) Write(PreparedModel prepared, QuantizationOptions options)
    {
        NodeGraph graph = new(prepared.Model);
        List<NodeProto> nodes = [];
        List<TensorProto> constants = [];
        List<FloatNode> kept = [];
        Dictionary<string, string[]> inputs = [];
        int layers = 0;
        foreach (NodeProto node in graph.Graph.Node)
        {
            string? why = !NodeGraph.Is(node, "MatMul") && !NodeGraph.Is(node, "Gemm") ? "no linear layer"
                : prepared.ExcludedBy(node) ?? QuantizationRules.WhyNoProduct(node, graph);
            if (why is not null)
            {
                kept.Add(new FloatNode(node.Name, node.OpType, why));
                nodes.Add(node.Clone());
                continue;
            }

            layers++;
            WriteLayer(node);
        }

        if (layers == 0)
        {
            throw new ArgumentException(
                $"'{prepared.Path}' has no linear layer that could be quantized dynamically. " +
                "Convolutions need static quantization: OnnxQuantizer.Quantize.");
        }

        ModelProto model = prepared.Model.Clone();
        model.Graph.Node.Clear();
        model.Graph.Node.AddRange(nodes);
        model.Graph.Initializer.AddRange(constants);
        NodeGraph.DropUnusedConstants(model.Graph);
        return (model, [.. kept.Where(node => node.Operator is "MatMul" or "Gemm" or "Conv")]);

        void WriteLayer(NodeProto node)
        {
            (float[] weights, int rows, int columns) = ByRows(node, graph);
            if (!weights.All(float.IsFinite))
            {
                throw new ArgumentException(
                    $"The weight '{node.Input[1]}' of '{node.Name}' holds NaN or infinity. " +
                    $"Mend the model, or keep the layer in float with {nameof(QuantizationOptions.ExcludeNames)}.");
            }

            WeightForm form = WeightForm.Of(options);
            QuantizedWeights quantized = QuantizedWeights.Of(weights, [rows, columns], 1, null, 1, options.PerChannel, form);
            string name = node.Input[1], output = node.Output[0];
            string values = Constant(form.Tensor(graph.Fresh($"{name}_quantized"), quantized.Levels, [rows, columns]));
            string zero = Constant(
                form.ZeroPoints(graph.Fresh($"{name}_zero_point"), quantized.Scales.Length, quantized.ScaleDims));
            string scale = Constant(
                NodeGraph.Tensor<float>(graph.Fresh($"{name}_scale"), ElementType.Float, quantized.Scales, quantized.ScaleDims));
            if (!inputs.TryGetValue(node.Input[0], out string[]? x))
            {
                inputs.Add(
                    node.Input[0],
                    x = [.. new[] { "quantized", "scale", "zero_point" }.Select(part => graph.Fresh($"{node.Input[0]}_{part}"))]);
                Add("DynamicQuantizeLinear", [node.Input[0]], x);
            }

            bool biased = node.OpType == "Gemm" && node.Input.Count > 2 && node.Input[2].Length > 0;
            string sums = graph.Fresh($"{output}_sums"), floats = graph.Fresh($"{output}_floats"), both = graph.Fresh(
                $"{output}_scale");
            string product = biased ? graph.Fresh($"{output}_product") : output;
            Add("MatMulInteger", [x[0], values, x[2], zero], [sums], node.Name);
            Add("Cast", [sums], [floats]).Attribute.Add(NodeGraph.Int("to", (long)ElementType.Float));
            Add("Mul", [x[1], scale], [both]);
            Add("Mul", [floats, both], [product]);
            if (biased) Add("Add", [product, Bias(node)], [output]);
        }

        string Bias(NodeProto node)
        {
            float beta = NodeGraph.Float(node, "beta", 1);
            if (beta == 1) return node.Input[2];
            TensorProto bias = graph.Constant(node.Input[2])!;
            return Constant(NodeGraph.Tensor<float>(
                graph.Fresh($"{bias.Name}_scaled"), ElementType.Float,
                NodeGraph.Floats(bias).Select(value => value * beta).ToArray(), bias.Dims));
        }

        string Constant(TensorProto tensor)
        {
            constants.Add(tensor);
            return tensor.Name;
        }

        NodeProto Add(string op, string[] from, string[] to, string? name = null)
        {
            NodeProto node = new() { OpType = op, Name = name ?? graph.Fresh($"{to[0]}/{op}") };
            node.Input.AddRange(from);
            node.Output.AddRange(to);
            nodes.Add(node);
            return node;
        }
    }

    /// <summary>The weight as (inputs, outputs), with the factor of a Gemm in it.</summary>
    private static (float[] Weights, int Rows, int Columns) ByRows(NodeProto node, NodeGraph graph)
    {
        TensorProto weight = graph.Constant(node.Input[1])!;
        float[] values = NodeGraph.Floats(weight);
        float alpha = node.OpType == "Gemm" ? NodeGraph.Float(node, "alpha", 1) : 1;
        if (alpha != 1) values = [.. values.Select(value => value * alpha)];
        int first = (int)weight.Dims[0], second = (int)weight.Dims[1];
        if (QuantizationRules.OutputAxis(node) == 1) return (values, first, second);
        float[] turned = new float[values.Length];
        for (int i = 0; i < first; i++)
        {
            for (int j = 0; j < second; j++) turned[(j * first) + i] = values[(i * second) + j];
        }

        return (turned, second, first);
    }
}
