using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Writes average pools whose last window reaches over the end, and whose pads count, so that the runtime's integer pool is
/// right. That pool divides such a window by its whole size; the rule is to divide by what lies inside the map and its pads.
/// Keeping the node in float does not help: between a dequantized input and a quantized output it is fused all the same.
/// </summary>
internal static class PoolPreparation
{
    /// <summary>Changes the graph; its outputs stay the same up to rounding.</summary>
    public static void Prepare(NodeGraph graph)
    {
        List<NodeProto> nodes = [];
        foreach (NodeProto node in graph.Graph.Node)
        {
            nodes.Add(node);
            if (!NodeGraph.Is(node, "AveragePool") || NodeGraph.Int(node, "ceil_mode", 0) == 0
                || NodeGraph.Int(node, "count_include_pad", 0) == 0)
            {
                continue;
            }

            NodeProto all = node.Clone();
            // Without pads nothing changes when they do not count.
            NodeGraph.Keep(node.Attribute, attribute => attribute.Name != "count_include_pad");
            if (NodeGraph.Attribute(node, "pads")?.Ints.Any(pad => pad != 0) == true) nodes.AddRange(Share(graph, node, all));
        }

        graph.Graph.Node.Clear();
        graph.Graph.Node.AddRange(nodes);
    }

    /// <summary>
    /// With pads: the mean of the values alone, times their share of the window. That share is what the pool itself makes of
    /// ones, and depends on the map's size alone.
    /// </summary>
    /// <param name="graph">The graph, for names and constants.</param>
    /// <param name="node">The pool whose pads do not count any more; its output gets another name.</param>
    /// <param name="all">The pool as it was.</param>
    private static List<NodeProto> Share(NodeGraph graph, NodeProto node, NodeProto all)
    {
        string input = node.Input[0], output = node.Output[0], place = $"{node.Name}/share";
        node.Output[0] = graph.Fresh($"{output}_inside");
        List<NodeProto> nodes = [];
        string shape = Add("Shape", [input]);
        string positions = Add("Slice", [shape, Whole("from", 2), Whole("to", long.MaxValue), Whole("axis", 0)]);
        string sizes = Add("Concat", [Whole("one", 1, 1), positions], NodeGraph.Int("axis", 0));
        AttributeProto one = new()
        {
            Name = "value",
            Type = AttributeProto.Types.AttributeType.Tensor,
            T = NodeGraph.Tensor<float>("", TensorProto.Types.DataType.Float, [1f], [1]),
        };
        string ones = Add("ConstantOfShape", [sizes], one);
        string share = Add("AveragePool", [ones], [.. all.Attribute]);
        Add("Mul", [node.Output[0], share]);
        nodes[^1].Output[0] = output;
        return nodes;

        string Whole(string name, params long[] values)
        {
            TensorProto constant = NodeGraph.Tensor<long>(
                graph.Fresh($"{place}/{name}"), TensorProto.Types.DataType.Int64, values, [values.Length]);
            graph.Graph.Initializer.Add(constant);
            return constant.Name;
        }

        string Add(string op, string[] inputs, params AttributeProto[] attributes)
        {
            string name = graph.Fresh($"{place}/{op}");
            NodeProto added = new() { OpType = op, Name = name, Output = { graph.Fresh($"{name}_output") } };
            added.Input.AddRange(inputs);
            added.Attribute.AddRange(attributes);
            nodes.Add(added);
            return added.Output[0];
        }
    }
}
