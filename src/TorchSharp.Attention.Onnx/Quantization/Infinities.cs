using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Which values of a model may be infinite because the model says so: masks of minus infinity in front of a softmax, pads of
/// minus infinity in front of a maximum. Every other infinity is an overflow of float32.
/// </summary>
internal sealed class Infinities
{
    /// <summary>Operators whose output can be infinite because one of their inputs is.</summary>
    private static readonly HashSet<string> _carriers =
    [
        "Abs", "Add", "Cast", "Clip", "Concat", "DepthToSpace", "Div", "Dropout", "Elu", "Exp", "Expand", "Flatten", "Gather",
        "GatherElements", "GatherND", "GlobalMaxPool", "Identity", "LeakyRelu", "Log", "Max",
        "MaxPool", "Min", "Mul", "Neg", "Pad", "PRelu", "ReduceMax", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize",
        "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Sum", "Tile",
        "TopK", "Transpose", "Trilu", "Unsqueeze", "Where",
    ];

    private readonly HashSet<string> _meant = [];

    public Infinities(NodeGraph graph)
    {
        _meant.UnionWith(
            graph.Graph.Initializer.Where(constant => IsFloat(constant) && NodeGraph.Floats(constant).Any(float.IsInfinity))
                .Select(constant => constant.Name));
        foreach (NodeProto node in graph.Graph.Node)
        {
            if (Makes(node) || (node.Domain.Length == 0 && _carriers.Contains(node.OpType) && node.Input.Any(_meant.Contains)))
            {
                _meant.UnionWith(node.Output.Where(output => output.Length > 0));
            }
        }
    }

    /// <summary>Whether a value may be infinite by what the model says.</summary>
    public bool AreMeant(string value) => _meant.Contains(value);

    /// <summary>The logarithm of a mask of zeros and ones; a constant that is made while running.</summary>
    private static bool Makes(NodeProto node) => NodeGraph.Is(node, "Log")
        || (NodeGraph.Is(node, "ConstantOfShape") && NodeGraph.Attribute(node, "value")?.T is { } value && IsFloat(value)
            && NodeGraph.Floats(value).Any(float.IsInfinity));

    private static bool IsFloat(TensorProto constant) => constant.DataType == (int)TensorProto.Types.DataType.Float;
}
