using Google.Protobuf;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Files of operator sets 9 to 12, and constants in all the forms that a file can say them.</summary>
public sealed class OlderOpsetTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1, ReduceRange = true };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<int> Sets => [9, 10, 11, 12];

    /// <summary>ONNX Runtime runs the old file by itself; the upgraded one must give the same numbers.</summary>
    [Theory]
    [MemberData(nameof(Sets))]
    public void Older_files_mean_the_same_afterwards(int opset)
    {
        ModelProto old = Network(opset), upgraded = old.Clone();
        OpsetUpgrade.Run(upgraded, "old.onnx");
        Assert.Equal(13, upgraded.OpsetImport.Single().Version);
        OnnxBatch batch = QuantizationGraphs.Batches(3, 1, 2, 3, 8, 8)[0];
        Assert.Equal(Run(old, batch), Run(upgraded, batch));

        string path = Saved(old), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(2, 3, 4, 3, 8, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal((2, 2), (report.Convolutions, report.IntegerConvolutions));
        Assert.DoesNotContain(report.FloatNodes, node => node.Operator == "Clip");
        Assert.Equal(1, report.FoldedBatchNorms);
        Assert.True(OnnxSensitivity.Compare(path, quantized, batches, 1).Sqnr > 25);
    }

    /// <summary>Softmax flattened its input at its axis until set 12.</summary>
    [Theory]
    [InlineData("Softmax", null)]
    [InlineData("Softmax", 1)]
    [InlineData("Softmax", 2)]
    [InlineData("Softmax", 3)]
    [InlineData("Softmax", -1)]
    [InlineData("LogSoftmax", 2)]
    [InlineData("Hardmax", 1)]
    public void Softmaxes_keep_their_older_meaning(string op, int? axis)
    {
        QuantizationGraphs g = new(1, 11, 2, 3, 4, 5);
        ModelProto old = g.Output(g.Node("Neg", "y", [g.Node(op, "rows", ["input"], axis is { } one ? [NodeGraph.Int("axis", one)] : [])]), 2, 3, 4, 5), upgraded = old.Clone();
        OpsetUpgrade.Run(upgraded, "old.onnx");
        OnnxBatch batch = QuantizationGraphs.Batches(3, 1, 2, 3, 4, 5)[0];
        Assert.Equal(Run(old, batch), Run(upgraded, batch));
    }

    [Theory]
    [InlineData("Upsample", 9, "nearest")]
    [InlineData("Upsample", 9, "linear")]
    [InlineData("Resize", 10, "nearest")]
    [InlineData("Resize", 10, "linear")]
    public void Older_resizes_count_from_the_corner(string op, int opset, string mode)
    {
        QuantizationGraphs g = new(1, opset, 2, 3, 4, 5);
        AttributeProto text = new() { Name = "mode", Type = AttributeProto.Types.AttributeType.String, S = ByteString.CopyFromUtf8(mode) };
        ModelProto old = g.Output(g.Node(op, "y", ["input", g.Floats("scales", [1, 1, 2, 2.5f], 4)], text), 2, 3, 8, 12), upgraded = old.Clone();
        OpsetUpgrade.Run(upgraded, "old.onnx");
        OnnxBatch batch = QuantizationGraphs.Batches(3, 1, 2, 3, 4, 5)[0];
        float[] before = Run(old, batch), after = Run(upgraded, batch);
        Assert.All(before.Zip(after), pair => Assert.Equal(pair.First, pair.Second, 1e-6f));

        QuantizationGraphs small = new(1, opset, 2, 3, 4, 5);
        string path = Saved(small.Output(small.Node(op, "y", ["input", small.Floats("scales", [1, 1, 0.5f, 1], 4)], text), 2, 3, 2, 5));
        Assert.Contains("shrink the map", Assert.Throws<ArgumentException>(() => OnnxQuantizer.Quantize(path, _folder.PathOf("int8.onnx"), [batch], _options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Still_older_files_are_refused()
    {
        ModelProto old = Network(9);
        old.OpsetImport[0].Version = 8;
        ArgumentException e = Assert.Throws<ArgumentException>(() => OnnxQuantizer.Quantize(Saved(old), _folder.PathOf("int8.onnx"), QuantizationGraphs.Batches(2, 1, 1, 3, 8, 8), _options));
        Assert.Contains("operator set 8; quantizing needs 9 or later", e.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string> Constants => ["value", "value_float", "value_floats", "identity", "identity of identity"];

    /// <summary>A ReLU6 becomes the range of the convolution before it, however its bounds are written.</summary>
    [Theory]
    [MemberData(nameof(Constants))]
    public void Bounds_are_found_in_every_form(string form)
    {
        QuantizationGraphs g = new(2, 17, -1, 3, 8, 8);
        string x = g.Node("Clip", "relu6", [g.Conv("first", "input", 3, 8, 3), Constant("least", 0), Constant("most", 6)]);
        string path = Saved(g.Output(g.Conv("second", x, 8, 4, 3), -1, 4, 8, 8)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(2, 2, 4, 3, 8, 8);
        // A list of one number is a vector, which the runtime takes for a bound as well.
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Empty(report.FloatNodes);
        Assert.False(report.Operators.ContainsKey("Clip"));
        Assert.True(OnnxSensitivity.Compare(path, quantized, batches, 1).Sqnr > 30);

        string Constant(string name, float value)
        {
            AttributeProto attribute = form switch
            {
                "value_floats" => new() { Name = "value_floats", Type = AttributeProto.Types.AttributeType.Floats, Floats = { value } },
                "value_float" or "identity of identity" => new() { Name = "value_float", Type = AttributeProto.Types.AttributeType.Float, F = value },
                _ => new() { Name = "value", Type = AttributeProto.Types.AttributeType.Tensor, T = NodeGraph.Tensor<float>("", TensorProto.Types.DataType.Float, [value]) },
            };
            string constant = g.Node("Constant", name, [], attribute);
            if (form.StartsWith("identity", StringComparison.Ordinal)) constant = g.Node("Identity", $"{name}.copy", [constant]);
            return form == "identity of identity" ? g.Node("Identity", $"{name}.copies", [constant]) : constant;
        }
    }

    /// <summary>Axes, shapes and weights as well; a text stays a node.</summary>
    [Fact]
    public void Whole_numbers_and_weights_are_found_in_every_form()
    {
        QuantizationGraphs g = new(2, 17, -1, 3, 8, 8);
        string weight = g.Node("Identity", "shared", [g.Noise("own", 0.4, 0, 8, 3, 3, 3)]);
        string x = g.Node("Conv", "first", ["input", weight], NodeGraph.Ints("pads", 1, 1, 1, 1));
        string shape = g.Node("Constant", "shape", [], new AttributeProto { Name = "value_ints", Type = AttributeProto.Types.AttributeType.Ints, Ints = { 0, 8, 64 } });
        string one = g.Node("Constant", "one", [], new AttributeProto { Name = "value_int", Type = AttributeProto.Types.AttributeType.Int, I = 1 });
        x = g.Node("Gather", "chosen", [g.Node("Reshape", "flat", [x, shape]), one], NodeGraph.Int("axis", 1));
        string path = Saved(g.Output(g.Node("MatMul", "y", [x, g.Noise("last", 0.2, 0, 64, 5)]), -1, 5));
        OnnxBatch[] batches = QuantizationGraphs.Batches(2, 2, 4, 3, 8, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, _folder.PathOf("int8.onnx"), batches, _options);
        Assert.Empty(report.FloatNodes);
        Assert.Equal((1, 1), (report.IntegerConvolutions, report.IntegerProducts));

        ModelProto text = new() { Graph = new GraphProto { Node = { new NodeProto { OpType = "Constant", Output = { "words" }, Attribute = { new AttributeProto { Name = "value_string", Type = AttributeProto.Types.AttributeType.String, S = ByteString.CopyFromUtf8("a") } } } } } };
        FloatPreparation.LiftConstants(text.Graph);
        Assert.Equal("Constant", Assert.Single(text.Graph.Node).OpType);
    }

    /// <summary>Convolution, norm, ReLU6, pads, a second convolution, dropout, and arithmetic on axes, as the set writes it.</summary>
    private static ModelProto Network(int opset)
    {
        QuantizationGraphs g = new(5, opset, -1, 3, 8, 8);
        string x = g.BatchNorm("norm", g.Conv("first", "input", 3, 8, 3, bias: false), 8);
        x = opset < 11
            ? g.Node("Clip", "relu6", [x], Real("min", 0), Real("max", 6))
            : g.Node("Clip", "relu6", [x, g.Floats("least", [0]), g.Floats("most", [6])]);
        x = opset < 11
            ? g.Node("Pad", "padded", [x], NodeGraph.Ints("pads", 0, 0, 1, 1, 0, 0, 1, 1), Real("value", 0.5f))
            : g.Node("Pad", "padded", [x, Whole("pads", 0, 0, 1, 1, 0, 0, 1, 1), g.Floats("filling", [0.5f])]);
        x = g.Conv("second", x, 8, 4, 3);
        x = opset < 10
            ? g.Node("Slice", "cut", [x], NodeGraph.Ints("starts", 1, 1), NodeGraph.Ints("ends", 9, 9), NodeGraph.Ints("axes", 2, 3))
            : g.Node("Slice", "cut", [x, Whole("starts", 1, 1), Whole("ends", 9, 9), Whole("axes", 2, 3)]);
        x = opset < 12 ? g.Node("Dropout", "dropped", [x], Real("ratio", 0.3f)) : g.Node("Dropout", "dropped", [x, g.Floats("ratio", [0.3f])]);
        x = g.Node("ReduceSum", "summed", [x], NodeGraph.Ints("axes", 3), NodeGraph.Int("keepdims", 1));
        x = g.Node("Unsqueeze", "wider", [g.Node("Squeeze", "narrower", [x], NodeGraph.Ints("axes", 3))], NodeGraph.Ints("axes", 1));
        NodeProto split = new() { OpType = "Split", Name = "parts/Split", Input = { x }, Output = { "a", "b" } };
        split.Attribute.AddRange([NodeGraph.Int("axis", 2), NodeGraph.Ints("split", 1, 3)]);
        g.Model.Graph.Node.Add(split);
        x = g.Node("Concat", "joined", ["b", "a"], NodeGraph.Int("axis", 2));
        ModelProto model = g.Output(g.Node("Softmax", "y", [x], NodeGraph.Int("axis", 2)));
        if (opset > 9) return model;
        // Version 3 of the format lists constants among the inputs.
        model.IrVersion = 3;
        foreach (TensorProto constant in model.Graph.Initializer)
        {
            TensorShapeProto shape = new();
            foreach (long length in constant.Dims) shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimValue = length });
            model.Graph.Input.Add(new ValueInfoProto { Name = constant.Name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = constant.DataType, Shape = shape } } });
        }

        return model;

        AttributeProto Real(string name, float value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Float, F = value };

        string Whole(string name, params long[] values)
        {
            g.Model.Graph.Initializer.Add(NodeGraph.Tensor<long>(name, TensorProto.Types.DataType.Int64, values, [values.Length]));
            return name;
        }
    }

    private static float[] Run(ModelProto model, OnnxBatch batch)
    {
        float[] found = [];
        using OnnxSession runtime = new(model, 1);
        runtime.Run(batch, (_, values, _) => found = values.ToArray());
        return found;
    }

    private string Saved(ModelProto model)
    {
        string path = _folder.PathOf("float.onnx");
        OnnxModelFile.Save(model, path);
        return path;
    }
}
