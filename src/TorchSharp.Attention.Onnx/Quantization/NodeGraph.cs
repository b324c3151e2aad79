using System.Runtime.InteropServices;
using Google.Protobuf;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>A graph with the ways through it: who makes a value, who reads it, which constants it holds.</summary>
internal sealed class NodeGraph
{
    private static readonly List<NodeProto> _nobody = [];

    private readonly Dictionary<string, NodeProto> _producers = [];
    private readonly Dictionary<string, List<NodeProto>> _consumers = [];
    private readonly Dictionary<string, TensorProto> _constants = [];
    private readonly HashSet<string> _names = [];

    public NodeGraph(ModelProto model)
    {
        Model = model;
        foreach (TensorProto constant in Graph.Initializer) _constants[constant.Name] = constant;
        foreach (NodeProto node in Graph.Node)
        {
            _names.Add(node.Name);
            foreach (string output in node.Output.Where(output => output.Length > 0)) _producers[output] = node;
            foreach (string input in node.Input.Where(input => input.Length > 0).Distinct())
            {
                ConsumersOf(input, create: true).Add(node);
            }
        }

        Outputs = Graph.Output.Select(output => output.Name).ToHashSet();
        Inputs = [.. Graph.Input.Select(input => input.Name).Where(name => !_constants.ContainsKey(name))];
        _names.UnionWith(_constants.Keys);
        _names.UnionWith(_producers.Keys);
        _names.UnionWith(Inputs);
    }

    public ModelProto Model { get; }

    public GraphProto Graph => Model.Graph;

    /// <summary>Names of the inputs that are no constants.</summary>
    public IReadOnlyList<string> Inputs { get; }

    public IReadOnlySet<string> Outputs { get; }

    public NodeProto? Producer(string value) => _producers.GetValueOrDefault(value);

    public IReadOnlyList<NodeProto> Consumers(string value) => ConsumersOf(value, create: false);

    public TensorProto? Constant(string value) => _constants.GetValueOrDefault(value);

    /// <summary>The one node that reads a value; null where there are several, none, or the value is an output.</summary>
    public NodeProto? OnlyConsumer(string value)
        => !Outputs.Contains(value) && Consumers(value) is [NodeProto only] && only.Input.Count(input => input == value) == 1
            ? only
            : null;

    /// <summary>The numbers of a float constant; null where the value is something else.</summary>
    public float[]? Floats(string value)
        => Constant(value) is { DataType: (int)TensorProto.Types.DataType.Float } constant ? Floats(constant) : null;

    /// <summary>
    /// A layer's constant bias; null where it is none, or not one number for each output: a Gemm's may run along the rows as
    /// well.
    /// </summary>
    public float[]? BiasOf(NodeProto layer, long outputs)
        => Floats(layer.Input[2]) is { } bias && bias.Length == outputs && Constant(layer.Input[2])!.Dims is [.., long last]
            && last == outputs ? bias : null;

    /// <summary>A name that nothing has, near the wish.</summary>
    public string Fresh(string wish)
    {
        string name = wish;
        for (int i = 1; !_names.Add(name); i++) name = $"{wish}_{i}";
        return name;
    }

    public static float[] Floats(TensorProto constant) => constant.HasRawData
        ? MemoryMarshal.Cast<byte, float>(constant.RawData.Span).ToArray()
        : [.. constant.FloatData];

    public static long[]? Longs(TensorProto? constant)
        => constant is not { DataType: (int)TensorProto.Types.DataType.Int64 } ? null
        : constant.HasRawData ? MemoryMarshal.Cast<byte, long>(constant.RawData.Span).ToArray()
        : [.. constant.Int64Data];

    public static TensorProto Tensor<T>(
        string name, TensorProto.Types.DataType type, ReadOnlySpan<T> values, params IEnumerable<long> dims)
        where T : unmanaged
    {
        TensorProto tensor =
            new() { Name = name, DataType = (int)type, RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes(values)) };
        tensor.Dims.AddRange(dims);
        return tensor;
    }

    public static AttributeProto? Attribute(NodeProto node, string name)
        => node.Attribute.FirstOrDefault(attribute => attribute.Name == name);

    public static long Int(NodeProto node, string name, long otherwise)
        => Attribute(node, name) is { } attribute ? attribute.I : otherwise;

    public static float Float(NodeProto node, string name, float otherwise)
        => Attribute(node, name) is { } attribute ? attribute.F : otherwise;

    public static string Text(NodeProto node, string name, string otherwise)
        => Attribute(node, name) is { } attribute ? attribute.S.ToStringUtf8() : otherwise;

    public static AttributeProto Ints(string name, params IEnumerable<long> values)
    {
        AttributeProto attribute = new() { Name = name, Type = AttributeProto.Types.AttributeType.Ints };
        attribute.Ints.AddRange(values);
        return attribute;
    }

    public static AttributeProto Int(string name, long value)
        => new() { Name = name, Type = AttributeProto.Types.AttributeType.Int, I = value };

    /// <summary>Whether a node is one of ONNX's own operators of that name.</summary>
    public static bool Is(NodeProto? node, string op) => node is not null && node.OpType == op && node.Domain.Length == 0;

    /// <summary>Deletes the constants that nothing reads, and with them the inputs of the same name.</summary>
    public static void DropUnusedConstants(GraphProto graph)
    {
        HashSet<string> used = [.. graph.Node.SelectMany(node => node.Input), .. graph.Output.Select(output => output.Name)];
        // A branch of an If or Loop sees the constants around it.
        Stack<GraphProto> inner = new(graph.Node.SelectMany(Inner));
        while (inner.TryPop(out GraphProto? branch))
        {
            used.UnionWith(branch.Node.SelectMany(node => node.Input));
            used.UnionWith(branch.Output.Select(output => output.Name));
            foreach (GraphProto deeper in branch.Node.SelectMany(Inner)) inner.Push(deeper);
        }

        HashSet<string> dropped = [.. graph.Initializer.Select(constant => constant.Name).Where(name => !used.Contains(name))];
        Keep(graph.Initializer, constant => !dropped.Contains(constant.Name));
        Keep(graph.Input, input => !dropped.Contains(input.Name));
    }

    /// <summary>Keeps the items that fulfil a condition, in their order.</summary>
    public static void Keep<T>(Google.Protobuf.Collections.RepeatedField<T> items, Func<T, bool> condition)
    {
        T[] kept = [.. items.Where(condition)];
        if (kept.Length == items.Count) return;
        items.Clear();
        items.AddRange(kept);
    }

    private static IEnumerable<GraphProto> Inner(NodeProto node)
        => node.Attribute.SelectMany(attribute => attribute.G is null ? attribute.Graphs : [attribute.G, .. attribute.Graphs]);

    private List<NodeProto> ConsumersOf(string value, bool create)
    {
        if (_consumers.TryGetValue(value, out List<NodeProto>? consumers)) return consumers;
        return create ? _consumers[value] = [] : _nobody;
    }
}
