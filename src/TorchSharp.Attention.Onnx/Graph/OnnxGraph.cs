using System.Runtime.InteropServices;
using System.Text;
using Google.Protobuf;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>Builds a model node by node: names that are never given twice, initialisers that are never stored twice.</summary>
internal sealed class OnnxGraph
{
    /// <summary>The operator set that all files use: the newest of IR version 8.</summary>
    public const long Opset = 17;

    /// <summary>The version of the file format.</summary>
    public const long IrVersion = 8;

    private readonly HashSet<string> _names = [];
    private readonly Dictionary<string, int> _counts = [];
    private readonly Dictionary<string, OnnxValue> _constants = [];
    private readonly Dictionary<string, string> _outputs = [];

    public OnnxGraph(string name)
    {
        Model = new ModelProto
        {
            IrVersion = IrVersion,
            ProducerName = "TorchSharp.Attention",
            ProducerVersion = Version,
            Graph = new GraphProto { Name = name.Length == 0 ? "network" : name },
        };
        Model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = Opset });
    }

    public ModelProto Model { get; }

    /// <summary>The library's version.</summary>
    public static string Version { get; } = typeof(OnnxGraph).Assembly.GetName().Version!.ToString(3);

    private GraphProto Graph => Model.Graph;

    /// <summary>A name that nothing in the graph has: the wish, or the wish and a number.</summary>
    public string Fresh(string wish)
    {
        string name = wish;
        while (!_names.Add(name))
        {
            int count = _counts[wish] = _counts.GetValueOrDefault(wish) + 1;
            name = $"{wish}_{count}";
        }

        return name;
    }

    /// <summary>Keeps a name for an input or output, before anything else could take it.</summary>
    /// <exception cref="ArgumentException">Another input or output has it.</exception>
    public void Reserve(string name, string what)
    {
        if (!_names.Add(name))
        {
            throw new ArgumentException(
                $"The name '{name}' of {what} is that of another input or output. Give each a name of its own.", nameof(name));
        }
    }

    /// <summary>An input, under a reserved name.</summary>
    public OnnxValue Input(string name, IReadOnlyList<OnnxLength> shape)
    {
        OnnxValue value = new(name, shape, OnnxElementType.Float);
        Graph.Input.Add(Describe(value));
        return value;
    }

    /// <summary>Makes a value an output under a reserved name.</summary>
    public OnnxValue Output(OnnxValue value, string name)
    {
        if (_outputs.TryGetValue(value.Name, out string? other) || Graph.Node.All(node => !node.Output.Contains(value.Name)))
        {
            // Another output, an input or an initialiser: those keep their names.
            Graph.Node.Add(
                new NodeProto { OpType = "Identity", Name = name, Input = { other ?? value.Name }, Output = { name } });
        }
        else
        {
            _outputs.Add(value.Name, name);
            foreach (NodeProto node in Graph.Node)
            {
                Rename(node.Input, value.Name, name);
                Rename(node.Output, value.Name, name);
            }
        }

        OnnxValue output = new(name, value.Shape, value.ElementType);
        Graph.Output.Add(Describe(output));
        return output;
    }

    /// <summary>Adds a node; its name is its first output's.</summary>
    public IReadOnlyList<OnnxValue> Node(
        string op, string name, IReadOnlyList<OnnxValue?> inputs,
        IReadOnlyList<(IReadOnlyList<OnnxLength> Shape, OnnxElementType Type)> outputs,
        IReadOnlyList<(string Name, object Value)> attributes)
    {
        NodeProto node = new() { OpType = op, Name = Fresh(name) };
        int used = inputs.Count;
        while (used > 0 && inputs[used - 1] is null) used--;
        for (int i = 0; i < used; i++) node.Input.Add(inputs[i]?.Name ?? "");
        List<OnnxValue> values = [];
        foreach ((IReadOnlyList<OnnxLength> shape, OnnxElementType type) in outputs)
        {
            string output = values.Count == 0 ? node.Name : Fresh(name);
            node.Output.Add(output);
            values.Add(new OnnxValue(output, [.. shape.Select((length, axis) => Own(length, output, axis))], type));
        }

        foreach ((string key, object value) in attributes) node.Attribute.Add(Attribute(key, value));
        Graph.Node.Add(node);
        return values;
    }

    /// <summary>Takes away nodes and constants that no output depends on.</summary>
    public void Prune()
    {
        HashSet<string> wanted = [.. Graph.Output.Select(output => output.Name)];
        for (int i = Graph.Node.Count - 1; i >= 0; i--)
        {
            NodeProto node = Graph.Node[i];
            if (node.Output.Any(wanted.Contains)) wanted.UnionWith(node.Input);
            else Graph.Node.RemoveAt(i);
        }

        for (int i = Graph.Initializer.Count - 1; i >= 0; i--)
        {
            if (!wanted.Contains(Graph.Initializer[i].Name)) Graph.Initializer.RemoveAt(i);
        }
    }

    /// <summary>A constant; its name gets a number where it is taken already.</summary>
    public OnnxValue Initializer(string name, long[] shape, OnnxElementType type, byte[] data)
    {
        name = Fresh(name);
        TensorProto tensor = new() { Name = name, DataType = (int)type, RawData = UnsafeByteOperations.UnsafeWrap(data) };
        tensor.Dims.AddRange(shape);
        Graph.Initializer.Add(tensor);
        return new OnnxValue(name, [.. shape.Select(OnnxLength.Of)], type);
    }

    /// <summary>A small constant, stored once however often it is asked for.</summary>
    public OnnxValue Constant<T>(string name, ReadOnlySpan<T> values, long[] shape, OnnxElementType type)
        where T : unmanaged
    {
        byte[] data = MemoryMarshal.AsBytes(values).ToArray();
        string key = $"{type}|{string.Join(',', shape)}|{Convert.ToHexString(data)}";
        if (!_constants.TryGetValue(key, out OnnxValue? value)) _constants.Add(key, value = Initializer(name, shape, type, data));
        return value;
    }

    public void Metadata(string key, string value)
        => Model.MetadataProps.Add(new StringStringEntryProto { Key = key, Value = value });

    public static ValueInfoProto Describe(OnnxValue value)
    {
        TensorShapeProto shape = new();
        foreach (OnnxLength length in value.Shape)
        {
            TensorShapeProto.Types.Dimension dimension = new();
            if (!length.IsDynamic) dimension.DimValue = length.Size;
            else if (length.Symbol is { } symbol) dimension.DimParam = symbol;
            shape.Dim.Add(dimension);
        }

        return new ValueInfoProto
        {
            Name = value.Name,
            Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)value.ElementType, Shape = shape } },
        };
    }

    private static AttributeProto Attribute(string name, object value)
    {
        AttributeProto attribute = new() { Name = name };
        switch (value)
        {
            case int number:
                (attribute.I, attribute.Type) = (number, AttributeProto.Types.AttributeType.Int);
                break;
            case long number:
                (attribute.I, attribute.Type) = (number, AttributeProto.Types.AttributeType.Int);
                break;
            case bool flag:
                (attribute.I, attribute.Type) = (flag ? 1 : 0, AttributeProto.Types.AttributeType.Int);
                break;
            case float number:
                (attribute.F, attribute.Type) = (number, AttributeProto.Types.AttributeType.Float);
                break;
            case double number:
                (attribute.F, attribute.Type) = ((float)number, AttributeProto.Types.AttributeType.Float);
                break;
            case string text:
                (attribute.S, attribute.Type) =
                    (ByteString.CopyFrom(text, Encoding.UTF8), AttributeProto.Types.AttributeType.String);
                break;
            case IEnumerable<long> numbers:
                attribute.Ints.AddRange(numbers);
                attribute.Type = AttributeProto.Types.AttributeType.Ints;
                break;
            case IEnumerable<int> numbers:
                attribute.Ints.AddRange(numbers.Select(number => (long)number));
                attribute.Type = AttributeProto.Types.AttributeType.Ints;
                break;
            case IEnumerable<float> numbers:
                attribute.Floats.AddRange(numbers);
                attribute.Type = AttributeProto.Types.AttributeType.Floats;
                break;
            default:
                throw new ArgumentException(
                    $"Attribute '{name}' is a {value.GetType().Name}; give an int, long, bool, float, double, string, or a " +
                    "list of ints, longs or floats.", nameof(value));
        }

        return attribute;
    }

    /// <summary>A length that depends on a dynamic axis and stands in no other value is read from this one.</summary>
    private static OnnxLength Own(OnnxLength length, string value, int axis)
        => length is { IsDynamic: true, Source: null } ? OnnxLength.Read(value, axis, length.Size, length.Axes) : length;

    private static void Rename(Google.Protobuf.Collections.RepeatedField<string> names, string from, string to)
    {
        for (int i = 0; i < names.Count; i++)
        {
            if (names[i] == from) names[i] = to;
        }
    }
}
