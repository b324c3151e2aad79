using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Brings a file of operator sets 9 to 12 to set 13, the first with a scale for each channel. Between them settings became inputs
/// (the bounds of a clip, the axes of a sum), softmax got another meaning, and Upsample became Resize; every other operator that
/// float networks use means the same in both.
/// </summary>
internal sealed class OpsetUpgrade
{
    /// <summary>The oldest set that is read.</summary>
    public const long Oldest = 9;

    private const long Target = 13;

    /// <summary>
    /// Operators whose setting became the input of that place, with what older versions take where it is
    /// absent: "" for leaving the input out.
    /// </summary>
    private static readonly Dictionary<string, (string Attribute, int Input)[]> _whole = new()
    {
        ["ReduceSum"] = [("axes", 1)],
        ["Squeeze"] = [("axes", 1)],
        ["Unsqueeze"] = [("axes", 1)],
        ["Split"] = [("split", 1)],
        ["Slice"] = [("starts", 1), ("ends", 2), ("axes", 3)],
        ["Pad"] = [("pads", 1)],
        ["TopK"] = [("k", 1)],
    };

    private static readonly Dictionary<string, (string Attribute, int Input)[]> _real = new()
    {
        ["Clip"] = [("min", 1), ("max", 2)],
        ["Pad"] = [("value", 2)],
    };

    private readonly string _path;
    private readonly NodeGraph _names;
    private readonly long _from;

    private OpsetUpgrade(ModelProto model, string path, long from) => (_names, _path, _from) = (new NodeGraph(model), path, from);

    /// <summary>Changes a model of an older set; leaves others alone.</summary>
    /// <exception cref="ArgumentException">It uses something whose meaning cannot be written in set 13.</exception>
    public static void Run(ModelProto model, string path)
    {
        OperatorSetIdProto set = model.OpsetImport.First(import => import.Domain is "" or "ai.onnx");
        if (set.Version >= Target) return;
        FloatPreparation.LiftConstants(model.Graph);
        new OpsetUpgrade(model, path, set.Version).Change(model.Graph);
        set.Version = Target;
        if (model.IrVersion >= 7) return;
        // Version 3 lists constants among the inputs; later ones take that to say that a caller may replace them.
        if (model.IrVersion < 4)
        {
            HashSet<string> constants = [.. model.Graph.Initializer.Select(constant => constant.Name)];
            NodeGraph.Keep(model.Graph.Input, input => !constants.Contains(input.Name));
        }

        model.IrVersion = 7;
    }

    private void Change(GraphProto graph)
    {
        List<NodeProto> nodes = [];
        foreach (NodeProto node in graph.Node)
        {
            foreach (GraphProto inner in node.Attribute.SelectMany(
                attribute => attribute.G is null ? attribute.Graphs : [attribute.G, .. attribute.Graphs]))
            {
                Change(inner);
            }

            if (node.Domain.Length == 0) Change(node, nodes);
            nodes.Add(node);
            if (node.Domain.Length == 0 && node.OpType is "Softmax" or "LogSoftmax" or "Hardmax") Flatten(node, nodes);
        }

        graph.Node.Clear();
        graph.Node.AddRange(nodes);
    }

    private void Change(NodeProto node, List<NodeProto> before)
    {
        switch (node.OpType)
        {
            case "Dropout":
                // A number that only training reads.
                Take(node, "ratio");
                break;
            case "Scatter":
                node.OpType = "ScatterElements";
                break;
            case "Upsample" or "Resize" when _from < 11:
                Resize(node);
                break;
        }

        foreach ((string name, int input) in _whole.GetValueOrDefault(node.OpType) ?? [])
        {
            if (Take(node, name) is not { } attribute) continue;
            long[] values = attribute.Ints.Count > 0 ? [.. attribute.Ints] : [attribute.I];
            Read(
                node, input,
                Constant(
                    before,
                    NodeGraph.Tensor<long>(Fresh(node, name), TensorProto.Types.DataType.Int64, values, [values.Length])));
        }

        foreach ((string name, int input) in _real.GetValueOrDefault(node.OpType) ?? [])
        {
            if (Take(node, name) is { } attribute)
            {
                Read(
                    node, input, Constant(
                        before, NodeGraph.Tensor<float>(Fresh(node, name), TensorProto.Types.DataType.Float, [attribute.F])));
            }
        }
    }

    /// <summary>
    /// Older softmaxes flatten their input to a matrix at their axis (1 unless said) and run over its rows. Over the last axis
    /// that is the same as today; otherwise it is written so.
    /// </summary>
    private void Flatten(NodeProto node, List<NodeProto> nodes)
    {
        long axis = Take(node, "axis")?.I ?? 1;
        node.Attribute.Add(NodeGraph.Int("axis", -1));
        if (axis == -1) return;
        nodes.RemoveAt(nodes.Count - 1);
        string input = node.Input[0], output = node.Output[0];
        string flat = Fresh(node, "rows"), shape = Fresh(node, "shape"), result = Fresh(node, "result");
        nodes.Add(Node("Flatten", Fresh(node, "Flatten"), [input], flat, NodeGraph.Int("axis", axis)));
        nodes.Add(Node("Shape", Fresh(node, "Shape"), [input], shape));
        node.Input[0] = flat;
        node.Output[0] = result;
        nodes.Add(node);
        nodes.Add(Node("Reshape", Fresh(node, "Reshape"), [result, shape], output));
    }

    /// <summary>
    /// Until set 10 a resize takes scales alone and counts positions from the corner: position · 1 / scale, cut down to the
    /// nearest.
    /// </summary>
    private void Resize(NodeProto node)
    {
        if (node.Input.Count < 2 || _names.Floats(node.Input[1]) is not { } scales || scales.Any(scale => scale < 1))
        {
            throw new ArgumentException(
                $"'{_path}' uses operator set {_from}, and its node '{node.Name}' ({node.OpType}) has scales that are no " +
                $"constants or shrink the map; that has no exact form in operator set {Target}. " +
                "Export the network with operator set 13 or later.", "inputPath");
        }

        node.OpType = "Resize";
        node.Input.Insert(1, "");
        node.Attribute.Add(Text("coordinate_transformation_mode", "asymmetric"));
        if (NodeGraph.Text(node, "mode", "nearest") == "nearest") node.Attribute.Add(Text("nearest_mode", "floor"));
        else NodeGraph.Attribute(node, "mode")!.S = Google.Protobuf.ByteString.CopyFromUtf8("linear");
    }

    /// <summary>A constant written as a node, so that it stands in the branch of an If that reads it.</summary>
    private static string Constant(List<NodeProto> before, TensorProto value)
    {
        before.Add(
            Node(
                "Constant", $"{value.Name}/Constant", [], value.Name,
                new AttributeProto { Name = "value", Type = AttributeProto.Types.AttributeType.Tensor, T = value }));
        return value.Name;
    }

    private static void Read(NodeProto node, int input, string value)
    {
        while (node.Input.Count <= input) node.Input.Add("");
        node.Input[input] = value;
    }

    private static AttributeProto? Take(NodeProto node, string name)
    {
        AttributeProto? attribute = NodeGraph.Attribute(node, name);
        if (attribute is not null) node.Attribute.Remove(attribute);
        return attribute;
    }

    private string Fresh(NodeProto node, string what) => _names.Fresh($"{node.Output[0]}/{what}");

    private static AttributeProto Text(string name, string value)
        => new()
        {
            Name = name,
            Type = AttributeProto.Types.AttributeType.String,
            S = Google.Protobuf.ByteString.CopyFromUtf8(value),
        };

    private static NodeProto Node(string op, string name, string[] inputs, string output, params AttributeProto[] attributes)
    {
        NodeProto node = new() { OpType = op, Name = name, Output = { output } };
        node.Input.AddRange(inputs);
        node.Attribute.AddRange(attributes);
        return node;
    }
}
