using TorchSharp.Attention.Onnx.Schema;
using ElementType = TorchSharp.Attention.Onnx.Schema.TensorProto.Types.DataType;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Writes a plan in quantize–dequantize form: every value that exists as integers goes through QuantizeLinear and
/// DequantizeLinear, weights are constants of eight bits behind a DequantizeLinear, biases int32. In this form the file says
/// exactly what is computed, in standard operators; runtimes put integer kernels in place of what stands between.
/// </summary>
internal sealed class QdqWriter
{
    private readonly NodeGraph _graph;
    private readonly QuantizationPlan _plan;
    private readonly QuantizationOptions _options;
    private readonly WeightForm _form;
    private readonly FloatIslands _islands;
    private readonly Dictionary<string, string> _behindBarriers = [];
    private readonly IReadOnlyDictionary<string, ObservedValue> _observed;
    private readonly List<NodeProto> _nodes = [];
    private readonly List<TensorProto> _constants = [];
    private readonly Dictionary<string, (string Scale, string Zero)> _parameterNames = [];
    private readonly Dictionary<string, string> _dequantized = [];

    private QdqWriter(
        NodeGraph graph, QuantizationPlan plan, QuantizationOptions options, IReadOnlyDictionary<string, ObservedValue> observed)
    {
        (_graph, _plan, _options, _form, _observed) = (graph, plan, options, WeightForm.Of(options), observed);
        _islands = new FloatIslands(graph, plan, observed);
    }

    /// <summary>A new model; the prepared one stays as it is.</summary>
    public static ModelProto Write(
        ModelProto prepared, QuantizationPlan plan, QuantizationOptions options,
        IReadOnlyDictionary<string, ObservedValue> observed)
    {
        QdqWriter writer = new(new NodeGraph(prepared), plan, options, observed);
        writer.WriteNodes();
        ModelProto model = prepared.Clone();
        model.Graph.Node.Clear();
        model.Graph.Node.AddRange(writer._nodes);
        model.Graph.Initializer.AddRange(writer._constants);
        // Shapes of values that may not exist any more; runtimes infer them.
        model.Graph.ValueInfo.Clear();
        NodeGraph.DropUnusedConstants(model.Graph);
        return model;
    }

    private void WriteNodes()
    {
        foreach (string input in _graph.Inputs.Where(_plan.IsQuantized)) QuantizeValue(input, input);
        foreach (NodeProto node in _graph.Graph.Node)
        {
            if (_plan.IsAbsorbed(node)) continue;
            NodeRule rule = _plan.RuleOf(node);
            NodeProto written = rule == NodeRule.None ? node.Clone() : Integer(node, rule);
            string? enclosed = rule == NodeRule.None ? _islands.Enclosed(node) : null;
            for (int i = 0; i < written.Input.Count; i++)
            {
                string read = Read(written.Input[i], integer: rule != NodeRule.None && QuantizationRules.IsInteger(rule, i));
                written.Input[i] = written.Input[i] == enclosed ? BehindBarrier(enclosed, read) : read;
            }

            if (rule != NodeRule.None && written.Output.Count == 1) written.Output[0] = _plan.OutputOf(node);

            string[] outputs = [.. written.Output];
            for (int i = 0; i < outputs.Length; i++)
            {
                // An integer value that is the model's output keeps its name at the end of its way.
                if (_plan.IsInteger(outputs[i]) && _graph.Outputs.Contains(outputs[i]))
                {
                    written.Output[i] = _graph.Fresh($"{outputs[i]}_float");
                }
            }

            _nodes.Add(written);
            for (int i = 0; i < outputs.Length; i++)
            {
                if (outputs[i].Length > 0 && _plan.IsQuantized(outputs[i])) QuantizeValue(outputs[i], written.Output[i]);
            }
        }
    }

    /// <summary>
    /// Nodes read the integers' meaning where they must: integer nodes what they compute with,
    /// others where the value came as integers.
    /// </summary>
    private string Read(string input, bool integer)
        => _dequantized.TryGetValue(input, out string? dequantized) && (integer || _plan.IsInteger(input)) ? dequantized : input;

    /// <summary>
    /// A copy of a value, made by the maximum of it alone: an operator that no runtime has an integer form of or removes, as it
    /// would remove Identity. What reads it is in float to the end.
    /// </summary>
    private string BehindBarrier(string value, string read)
    {
        if (_behindBarriers.TryGetValue(value, out string? copy)) return copy;
        copy = _graph.Fresh($"{value}_in_float");
        AddNode("Max", [read], copy);
        return _behindBarriers[value] = copy;
    }

    private void QuantizeValue(string value, string source)
    {
        // What only moves numbers takes the parameters along by name, so that a runtime sees that they are the same.
        string owner =
            _graph.Producer(value) is { } producer && _plan.RuleOf(producer) == NodeRule.PassThrough && _plan.IsInteger(value)
            ? producer.Input[0]
            : value;
        if (!_parameterNames.TryGetValue(owner, out (string Scale, string Zero) names))
        {
            names = AddParameters(value, _plan.ParametersOf(value));
        }

        _parameterNames[value] = names;
        _dequantized[value] = AddPair(value, source, names, value == source ? null : value);
    }

    private (string Scale, string Zero) AddParameters(string value, AffineParameters parameters)
    {
        (string Scale, string Zero) names = (_graph.Fresh($"{value}_scale"), _graph.Fresh($"{value}_zero_point"));
        _constants.Add(NodeGraph.Tensor(names.Scale, ElementType.Float, [parameters.Scale]));
        _constants.Add(NodeGraph.Tensor(names.Zero, ElementType.Uint8, [(byte)parameters.ZeroPoint]));
        return names;
    }

    /// <summary>To integers and back.</summary>
    /// <returns>The way's end.</returns>
    private string AddPair(string value, string source, (string Scale, string Zero) names, string? end = null)
    {
        string quantized = _graph.Fresh($"{value}_quantized");
        end ??= _graph.Fresh($"{value}_dequantized");
        AddNode("QuantizeLinear", [source, names.Scale, names.Zero], quantized);
        AddNode("DequantizeLinear", [quantized, names.Scale, names.Zero], end);
        return end;
    }

    private NodeProto Integer(NodeProto node, NodeRule rule) => rule switch
    {
        NodeRule.WeightedLayer => WithQuantizedWeights(node),
        NodeRule.ChannelMean => WithQuantizedWeights(ChannelMean(node)),
        NodeRule.Average when node.OpType == "ReduceMean" => GlobalAverage(node),
        _ => node.Clone(),
    };

    /// <summary>A mean over positions in the form that runtimes have an integer kernel for.</summary>
    private NodeProto GlobalAverage(NodeProto node)
    {
        NodeProto pool =
            new() { OpType = "GlobalAveragePool", Name = node.Name, Input = { node.Input[0] }, Output = { node.Output[0] } };
        // Also where a second node, whose place it takes, averages the rows' means.
        if (NodeGraph.Int(node, "keepdims", 1) == 1) return pool;

        // The rest of this node is a Flatten, and the pool's own way comes in front of it.
        pool.Output[0] = _graph.Fresh($"{node.Output[0]}_pooled");
        pool.Input[0] = Read(pool.Input[0], integer: true);
        _nodes.Add(pool);
        string dequantized = AddPair(
            pool.Output[0], pool.Output[0], AddParameters(pool.Output[0], _plan.ParametersOf(_plan.OutputOf(node))));
        return new NodeProto
        {
            OpType = "Flatten",
            Name = _graph.Fresh($"{node.Name}/Flatten"),
            Input = { dequantized },
            Output = { node.Output[0] },
        };
    }

    private NodeProto ChannelMean(NodeProto node)
    {
        int channels = (int)_observed[node.Input[0]].Shape[1];
        float[] weights = new float[channels];
        Array.Fill(weights, 1f / channels);
        string name = _graph.Fresh($"{node.Name}_weight");
        _means.Add(name, weights);
        return new NodeProto { OpType = "Conv", Name = node.Name, Input = { node.Input[0], name }, Output = { node.Output[0] } };
    }

    private readonly Dictionary<string, float[]> _means = [];

    private NodeProto WithQuantizedWeights(NodeProto node)
    {
        NodeProto written = node.Clone();
        int axis = QuantizationRules.OutputAxis(node);
        bool mean = _means.TryGetValue(node.Input[1], out float[]? weights);
        long[] dims = mean ? [1, weights!.Length, 1, 1] : [.. _graph.Constant(node.Input[1])!.Dims];
        weights ??= _graph.Floats(node.Input[1])!;
        float[]? bias = node.Input.Count > 2 && node.Input[2].Length > 0 ? _graph.Floats(node.Input[2]) : null;
        if (node.OpType == "Gemm")
        {
            float alpha = NodeGraph.Float(node, "alpha", 1), beta = NodeGraph.Float(node, "beta", 1);
            if (alpha != 1) weights = [.. weights.Select(value => value * alpha)];
            if (beta != 1) bias = bias?.Select(value => value * beta).ToArray();
            NodeGraph.Keep(written.Attribute, attribute => attribute.Name is not ("alpha" or "beta"));
        }

        float inputScale = _plan.ParametersOf(node.Input[0]).Scale;
        QuantizedWeights quantized = QuantizedWeights.Of(weights, dims, axis, bias, inputScale, _options.PerChannel, _form);
        string name = node.Input[1];
        // A weight that two layers share may have two forms, since a bias can stretch its scale.
        string values = _graph.Fresh($"{name}_quantized"), scale = _graph.Fresh($"{name}_scale"), zero = _graph.Fresh(
            $"{name}_zero_point"), back = _graph.Fresh($"{name}_dequantized");
        _constants.Add(_form.Tensor(values, quantized.Levels, dims));
        _constants.Add(NodeGraph.Tensor<float>(scale, ElementType.Float, quantized.Scales, quantized.ScaleDims));
        _constants.Add(_form.ZeroPoints(zero, quantized.Scales.Length, quantized.ScaleDims));
        AddNode(
            "DequantizeLinear", [values, scale, zero], back, quantized.ScaleDims.Length > 0 ? NodeGraph.Int("axis", axis) : null);
        written.Input[1] = back;
        if (quantized.Bias is null) return written;

        string biasName = written.Input[2];
        string biasValues = _graph.Fresh($"{biasName}_quantized"), biasScale = _graph.Fresh($"{biasName}_scale"),
            biasZero = _graph.Fresh($"{biasName}_zero_point"), biasBack = _graph.Fresh($"{biasName}_dequantized");
        _constants.Add(NodeGraph.Tensor<int>(biasValues, ElementType.Int32, quantized.Bias, [quantized.Bias.Length]));
        _constants.Add(NodeGraph.Tensor<float>(biasScale, ElementType.Float, quantized.BiasScales, quantized.ScaleDims));
        _constants.Add(
            NodeGraph.Tensor<int>(biasZero, ElementType.Int32, new int[quantized.BiasScales.Length], quantized.ScaleDims));
        AddNode(
            "DequantizeLinear", [biasValues, biasScale, biasZero], biasBack,
            quantized.ScaleDims.Length > 0 ? NodeGraph.Int("axis", 0) : null);
        written.Input[2] = biasBack;
        return written;
    }

    private void AddNode(string op, string[] inputs, string output, AttributeProto? attribute = null)
    {
        NodeProto node = new() { OpType = op, Name = _graph.Fresh($"{output}/{op}"), Output = { output } };
        node.Input.AddRange(inputs);
        if (attribute is not null) node.Attribute.Add(attribute);
        _nodes.Add(node);
    }
}
