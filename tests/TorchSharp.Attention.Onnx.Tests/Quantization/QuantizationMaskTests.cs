using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Infinity that a model holds on purpose, such as a mask in front of a softmax, and infinity that is an overflow.</summary>
public sealed class QuantizationMaskTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1, ReduceRange = true };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string> Masked => ["window", "window, shift", "window, padding", "window, padding not masked", "window in a network", "sparse, strided", "sparse, top-k", "criss-cross", "criss-cross, large", "halo"];

    /// <summary>Masks of minus infinity are read by a softmax in float, so nothing is lost by them.</summary>
    [Theory]
    [MemberData(nameof(Masked))]
    public void Attention_with_masks_is_quantized(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        AttentionOptions? options = name switch
        {
            "window" => new WindowAttentionOptions { Heads = 2, WindowSize = 4 },
            "window, shift" => new WindowAttentionOptions { Heads = 2, WindowSize = 4, Shift = 2 },
            "window, padding" => new WindowAttentionOptions { Heads = 2, WindowSize = 4 },
            "window, padding not masked" => WindowAttentionOptions.Official with { Heads = 2, WindowSize = 4 },
            "sparse, strided" => new SparseAttentionOptions { Heads = 2, Pattern = SparsePattern.Strided },
            "sparse, top-k" => new SparseAttentionOptions { Heads = 2, Pattern = SparsePattern.TopK },
            "criss-cross" => new CrissCrossAttentionOptions(),
            "criss-cross, large" => new CrissCrossAttentionOptions(),
            "halo" => new HaloAttentionOptions { Heads = 2, BlockSize = 4, HaloSize = 1 },
            _ => (AttentionOptions?)null,
        };
        long[] shape = name switch
        {
            "window, padding" or "window, padding not masked" => [10, 9],
            "criss-cross, large" => [13, 20],
            "window in a network" => [64, 64],
            _ => [8, 8],
        };
        nn.Module network = options is null
            ? ResNet.ResNet18(10, AttentionPlan.Of(new WindowAttentionOptions { Heads = 4 }, AttentionPosition.StageEnd).InStages(4))
            : options.Create(16);
        string path = _folder.PathOf("float.onnx"), quantized = _folder.PathOf("int8.onnx");
        ((nn.Module<Tensor, Tensor>)network).ExportOnnx(path, randn([2, options is null ? 3 : 16, .. shape]));
        OnnxBatch[] batches = [.. Enumerable.Range(0, 3).Select(_ => OnnxBatch.From(randn([2, options is null ? 3 : 16, .. shape])))];
        OnnxQuantizer.Quantize(path, quantized, batches, _options);
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, batches, 1);
        // Random scores of a top-k change places by a rounding.
        Assert.True(effect.Sqnr > (name is "sparse, top-k" ? 15 : 25), $"{name}: {effect.Sqnr:0.0} dB");
        OnnxQuantizer.Quantize(path, quantized, batches, _options with { ExcludeAttentions = true });
        SensitivityReport report = OnnxSensitivity.Measure(path, batches[..1], batches[1..2], _options);
        Assert.All(report.Rows, row => Assert.True(row.Only.Sqnr > 10, $"{row.Name}: {row.Only.Sqnr:0.0} dB"));
        network.Dispose();
    }

    [Theory]
    [InlineData(float.NegativeInfinity)]
    [InlineData(float.MinValue)]
    [InlineData(-1e4f)]
    public void A_mask_of_another_file_hides_what_it_hid(float masked)
    {
        QuantizationGraphs g = new(4, 17, -1, 4, 8);
        float[] mask = new float[4 * 4];
        for (int i = 0; i < 4; i++) mask[(i * 4) + ((i + 1) % 4)] = masked;
        string query = g.Node("MatMul", "query", ["input", g.Noise("q.weight", 0.4, 0, 8, 8)]), key = g.Node("MatMul", "key", ["input", g.Noise("k.weight", 0.4, 0, 8, 8)]);
        string value = g.Node("MatMul", "value", ["input", g.Noise("v.weight", 0.4, 0, 8, 8)]);
        string scores = g.Node("MatMul", "scores", [query, g.Node("Transpose", "turned", [key], NodeGraph.Ints("perm", 0, 2, 1))]);
        // A mask that is computed, so that the sum is one of two activations.
        string hidden = g.Node("Mul", "hidden", [g.Node("Cast", "computed", [g.Floats("mask", mask, 1, 4, 4)], NodeGraph.Int("to", 1)), g.Floats("whole", [1])]);
        string weights = g.Node("Softmax", "softmax", [g.Node("Add", "masked", [scores, hidden])], NodeGraph.Int("axis", -1));
        string path = Saved(g.Output(g.Node("MatMul", "out", [g.Node("MatMul", "mixed", [weights, value]), g.Noise("o.weight", 0.4, 0, 8, 8)]), -1, 4, 8)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(2, 2, 8, 4, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, batches, 1);
        Assert.True(effect.Sqnr > 25, $"{effect.Sqnr:0.0} dB");
        Assert.Equal(4, report.IntegerProducts);
        SensitivityReport sensitivity = OnnxSensitivity.Measure(path, batches[..1], batches[1..], _options, new Dictionary<string, string> { ["attention"] = "*" });
        Assert.True(sensitivity.Rows.Single().Only.Sqnr > 25, sensitivity.ToString());
    }

    [Fact]
    public void Pads_of_minus_infinity_in_front_of_a_maximum()
    {
        QuantizationGraphs g = new(5, 17, -1, 3, 7, 7);
        string x = g.Conv("first", "input", 3, 8, 3);
        g.Model.Graph.Initializer.Add(NodeGraph.Tensor<long>("pads", TensorProto.Types.DataType.Int64, [0, 0, 0, 0, 0, 0, 1, 1], [8]));
        x = g.Node("Pad", "padded", [x, "pads", g.Floats("least", [float.NegativeInfinity])]);
        x = g.Node("MaxPool", "pool", [x], NodeGraph.Ints("kernel_shape", 2, 2), NodeGraph.Ints("strides", 2, 2));
        string path = Saved(g.Output(g.Conv("second", x, 8, 4, 3), -1, 4, 4, 4)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(2, 2, 8, 3, 7, 7);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal(2, report.IntegerConvolutions);
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, batches, 1);
        Assert.True(effect.Sqnr > 25, $"{effect.Sqnr:0.0} dB");
    }

    /// <summary>The logarithm of a mask of zeros and ones, and a constant that is made while running.</summary>
    [Fact]
    public void Infinity_that_is_made_while_running_is_meant()
    {
        foreach (bool logarithm in new[] { true, false })
        {
            QuantizationGraphs g = new(6, 17, -1, 6);
            string x = g.Node("MatMul", "scores", ["input", g.Noise("weight", 0.4, 0, 6, 6)]);
            string mask;
            if (logarithm) mask = g.Node("Log", "mask", [g.Node("Relu", "kept", [g.Floats("ones", [1, 1, 0, 1, 0, 1], 6)])]);
            else
            {
                AttributeProto infinity = new() { Name = "value", Type = AttributeProto.Types.AttributeType.Tensor, T = NodeGraph.Tensor<float>("", TensorProto.Types.DataType.Float, [float.NegativeInfinity], [1]) };
                g.Model.Graph.Initializer.Add(NodeGraph.Tensor<long>("six", TensorProto.Types.DataType.Int64, [6], [1]));
                g.Model.Graph.Initializer.Add(NodeGraph.Tensor<bool>("hidden", TensorProto.Types.DataType.Bool, [false, true, false, false, true, false], [6]));
                mask = g.Node("Where", "mask", ["hidden", g.Node("ConstantOfShape", "least", ["six"], infinity), g.Floats("zero", [0])]);
            }

            string path = Saved(g.Output(g.Node("Softmax", "y", [g.Node("Add", "masked", [x, mask])]), -1, 6)), quantized = _folder.PathOf("int8.onnx");
            OnnxBatch[] batches = QuantizationGraphs.Batches(2, 2, 8, 6);
            OnnxQuantizer.Quantize(path, quantized, batches, _options);
            Assert.True(OnnxSensitivity.Compare(path, quantized, batches, 1).Sqnr > 25);
        }
    }

    [Fact]
    public void What_is_no_number_is_named_where_it_begins_and_blamed_on_what_makes_it()
    {
        OnnxBatch[] batches = QuantizationGraphs.Batches(2, 1, 2, 4);
        QuantizationGraphs overflow = new(1, 17, -1, 4);
        string x = overflow.Node("Exp", "power", [overflow.Node("MatMul", "large", ["input", overflow.Noise("w", 1e5, 0, 4, 4)])]);
        Says(Saved(overflow.Output(overflow.Node("Relu", "y", [x]), -1, 4)), batches, "the value 'power' holds infinity, which the node 'power/Exp' (Exp) makes, though the inputs of the model are finite. The model overflows");

        // A row of nothing but minus infinity.
        QuantizationGraphs rows = new(1, 17, -1, 4);
        string masked = rows.Node("Add", "masked", [rows.Node("MatMul", "scores", ["input", rows.Noise("w", 1, 0, 4, 4)]), rows.Floats("mask", [.. Enumerable.Repeat(float.NegativeInfinity, 4)], 4)]);
        Says(Saved(rows.Output(rows.Node("Relu", "y", [rows.Node("Softmax", "softmax", [masked])]), -1, 4)), batches, "the value 'softmax' holds NaN, which the node 'softmax/Softmax' (Softmax) makes", "The model itself holds infinity");

        QuantizationGraphs given = new(1, 17, -1, 4);
        Says(Saved(given.Output(given.Node("Relu", "y", ["input"]), -1, 4)), [new OnnxBatch([1, float.PositiveInfinity, 2, 3], 1, 4)], "the value 'input' holds infinity. It is an input: give finite numbers.");
    }

    private void Says(string path, OnnxBatch[] batches, params string[] parts)
    {
        ArgumentException e = Assert.Throws<ArgumentException>(() => OnnxQuantizer.Quantize(path, _folder.PathOf("int8.onnx"), batches, _options));
        Assert.Equal("calibration", e.ParamName);
        foreach (string part in parts) Assert.Contains(part, e.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder.PathOf("int8.onnx")));
    }

    private string Saved(ModelProto model)
    {
        string path = _folder.PathOf("float.onnx");
        OnnxModelFile.Save(model, path);
        return path;
    }
}
