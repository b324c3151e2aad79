using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>How a node becomes an integer one.</summary>
internal enum NodeRule
{
    /// <summary>There is no integer form of it, or the rules want none.</summary>
    None,

    /// <summary>Convolution, linear layer: constant weights of their own scales, int32 bias.</summary>
    WeightedLayer,

    /// <summary>Sum or product of two values.</summary>
    Binary,

    /// <summary>A function of each number, by a table of 256 entries: sigmoid, leaky ReLU.</summary>
    LookupTable,

    /// <summary>A mean over positions, whose output has a range of its own.</summary>
    Average,

    /// <summary>A mean over channels: a 1×1 convolution with the weights 1/C, which eight bits hold exactly.</summary>
    ChannelMean,

    /// <summary>Moves or selects numbers, so that output and input share scale and zero point.</summary>
    PassThrough,

    /// <summary>Joins values along an axis.</summary>
    Concat,
}

/// <summary>Which rule a node has, by its operator and settings alone.</summary>
internal static class QuantizationRules
{
    /// <summary>The rule, or why there is none.</summary>
    public static (NodeRule Rule, string Reason) Of(
        NodeProto node, NodeGraph graph, IReadOnlyDictionary<string, ObservedValue> observed)
    {
        if (node.Domain.Length > 0) return (NodeRule.None, $"operator of '{node.Domain}'");
        return node.OpType switch
        {
            "Conv" or "Gemm" or "MatMul" => Weighted(node, graph),
            "Add" or "Mul" when node.Input.All(observed.ContainsKey) => (NodeRule.Binary, ""),
            "Add" or "Mul" => (NodeRule.None, "one of its inputs is a constant"),
            "Sigmoid" or "LeakyRelu" => (NodeRule.LookupTable, ""),
            "GlobalAveragePool" when Rank(node, observed) == 4 => (NodeRule.Average, ""),
            "AveragePool" when Rank(node, observed) == 4 && IsIntegerPool(node) => (NodeRule.Average, ""),
            "ReduceMean" => Mean(node, graph, observed),
            "MaxPool" when node.Output.Count == 1 => (NodeRule.PassThrough, ""),
            "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze" or "Transpose" or "Slice" or "Gather" or "Expand" or "Identity"
                or "ReduceMax" or "DepthToSpace" or "SpaceToDepth" or "Split" => (NodeRule.PassThrough, ""),
            "Resize" when NodeGraph.Text(node, "mode", "nearest") == "nearest" => (NodeRule.PassThrough, ""),
            "Concat" when node.Input.All(observed.ContainsKey) => (NodeRule.Concat, ""),
            _ => (NodeRule.None, "no integer form"),
        };
    }

    /// <summary>
    /// Whether an integer node reads its input of that place as integers. The other places hold
    /// constants, shapes, the factors of a resize.
    /// </summary>
    public static bool IsInteger(NodeRule rule, int input) => input == 0 || rule is NodeRule.Binary or NodeRule.Concat;

    /// <summary>Axes of a reduction, counted from the front; null where they are not constant.</summary>
    public static long[]? Axes(NodeProto node, NodeGraph graph, int rank)
    {
        long[]? axes = NodeGraph.Attribute(node, "axes") is { } attribute ? [.. attribute.Ints]
            : node.Input.Count > 1 && node.Input[1].Length > 0 ? NodeGraph.Longs(graph.Constant(node.Input[1]))
            : [.. Enumerable.Range(0, rank).Select(axis => (long)axis)];
        return axes is null ? null : [.. axes.Select(axis => axis < 0 ? axis + rank : axis).Order()];
    }

    /// <summary>The bounds of a ReLU or clip; null for other nodes and for bounds that are no constants.</summary>
    public static ValueRange? Bounds(NodeProto? node, NodeGraph graph)
    {
        if (NodeGraph.Is(node, "Relu")) return new ValueRange(0, double.PositiveInfinity);
        if (!NodeGraph.Is(node, "Clip")) return null;
        double[] bounds = [double.NegativeInfinity, double.PositiveInfinity];
        for (int i = 1; i < node!.Input.Count; i++)
        {
            if (node.Input[i].Length == 0) continue;
            if (graph.Floats(node.Input[i]) is not [float bound]) return null;
            bounds[i - 1] = bound;
        }

        // The quantized range always holds zero, so a clip that excludes it cannot be one.
        return bounds[0] <= 0 && bounds[1] >= 0 ? new ValueRange(bounds[0], bounds[1]) : null;
    }

    private static (NodeRule Rule, string Reason) Weighted(NodeProto node, NodeGraph graph)
    {
        if (WhyNoProduct(node, graph) is { } reason) return (NodeRule.None, reason);
        TensorProto weight = graph.Constant(node.Input[1])!;
        if (node.OpType == "MatMul" || node.Input.Count < 3 || node.Input[2].Length == 0) return (NodeRule.WeightedLayer, "");
        return graph.BiasOf(node, weight.Dims[OutputAxis(node)]) is null
            ? (NodeRule.None, "its bias is no constant of one number an output")
            : (NodeRule.WeightedLayer, "");
    }

    /// <summary>The axis of the weight that counts the outputs.</summary>
    public static int OutputAxis(NodeProto node)
        => node.OpType == "Conv" || (node.OpType == "Gemm" && NodeGraph.Int(node, "transB", 0) == 1) ? 0 : 1;

    /// <summary>Why a convolution, Gemm or MatMul has no weights that could be quantized; null where it has.</summary>
    public static string? WhyNoProduct(NodeProto node, NodeGraph graph)
        => graph.Floats(node.Input[1]) is null ? "its weight is no float32 constant"
            : node.OpType == "MatMul" && graph.Constant(node.Input[1])!.Dims.Count != 2 ? "its weight is no matrix"
            : node.OpType == "Gemm" && NodeGraph.Int(node, "transA", 0) != 0 ? "its input is transposed"
            : node.OpType == "Gemm" && NodeGraph.Float(node, "beta", 1) != 1 && node.Input.Count > 2 && node.Input[2].Length > 0
                && graph.Floats(node.Input[2]) is null ? "its bias is no constant"
            : null;

    /// <summary>
    /// Whether the runtime's integer pool divides as the file says. It divides a last window that reaches over the end by its
    /// whole size, unless the pads do not count; preparing the model has seen to that.
    /// </summary>
    private static bool IsIntegerPool(NodeProto node)
        => NodeGraph.Attribute(node, "dilations")?.Ints.Any(step => step != 1) != true
            && (NodeGraph.Int(node, "ceil_mode", 0) == 0 || NodeGraph.Int(node, "count_include_pad", 0) == 0);

    /// <summary>
    /// The second node of a mean over a row that is followed by the mean of the rows' means; null where the node is not the
    /// first.
    /// </summary>
    public static NodeProto? SecondStage(NodeProto node, NodeGraph graph, IReadOnlyDictionary<string, ObservedValue> observed)
        => NodeGraph.Is(node, "ReduceMean") && Rank(node, observed) == 4 && Axes(node, graph, 4) is [3]
            && NodeGraph.Int(node, "keepdims", 1) == 1
            && graph.OnlyConsumer(node.Output[0]) is { } next && NodeGraph.Is(next, "ReduceMean") && Axes(next, graph, 4) is [2]
            && NodeGraph.Int(next, "keepdims", 1) == 1 ? next : null;

    private static (NodeRule Rule, string Reason) Mean(
        NodeProto node, NodeGraph graph, IReadOnlyDictionary<string, ObservedValue> observed)
        => Rank(node, observed) != 4 ? (NodeRule.None, "a mean that is not over a map") : Axes(node, graph, 4) switch
        {
            [2, 3] => (NodeRule.Average, ""),
            [3] when SecondStage(node, graph, observed) is not null => (NodeRule.Average, ""),
            [1] when NodeGraph.Int(node, "keepdims", 1) == 1 => (NodeRule.ChannelMean, ""),
            _ => (NodeRule.None, "a mean over other axes than positions or channels"),
        };

    private static int Rank(NodeProto node, IReadOnlyDictionary<string, ObservedValue> observed)
        => observed.TryGetValue(node.Input[0], out ObservedValue? value) ? value.Shape.Length : 0;
}
