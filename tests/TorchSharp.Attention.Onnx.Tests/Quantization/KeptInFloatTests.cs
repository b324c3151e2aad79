using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What a file keeps in float runs in float, although ONNX Runtime takes whatever stands between DequantizeLinear and QuantizeLinear for a quantized operator.</summary>
public sealed class KeptInFloatTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1 };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>
    /// A layer that eight bits ruin, kept in float between two that are quantized. Weights of ten thousand times the size stand on a channel that is always zero, so that one scale for the whole tensor
    /// leaves the other weights nothing. At every level the runtime must compute what the file says.
    /// </summary>
    [Theory]
    [InlineData("conv")]
    [InlineData("conv without bias")]
    [InlineData("conv relu")]
    [InlineData("conv clip")]
    [InlineData("conv transpose")]
    [InlineData("conv transposed")]
    [InlineData("depthwise")]
    [InlineData("conv times constant")]
    [InlineData("conv plus constant")]
    [InlineData("pad conv")]
    [InlineData("max pool conv")]
    [InlineData("conv max pool")]
    [InlineData("reshape conv reshape")]
    [InlineData("two convs")]
    [InlineData("two readers")]
    public void A_layer_that_is_kept_in_float_runs_with_the_weights_of_the_file(string form)
    {
        QuantizationGraphs g = new(10, 17, -1, 3, 8, 8);
        string x = g.Node("Relu", "first.relu", [Layer("first", "input", 8, 3, empty: 7)]);
        string y = form switch
        {
            "conv without bias" => Layer("kept", x, 8, 8, huge: 7, bias: false),
            "conv relu" => g.Node("Relu", "kept.relu", [Layer("kept", x, 8, 8, huge: 7)]),
            "conv clip" => g.Node("Clip", "kept.clip", [Layer("kept", x, 8, 8, huge: 7), g.Floats("low", [-1.5f]), g.Floats("high", [1.5f])]),
            "conv transpose" => g.Node("Transpose", "kept.turned", [Layer("kept", x, 8, 8, huge: 7)], NodeGraph.Ints("perm", 0, 1, 3, 2)),
            "conv transposed" => g.Node("ConvTranspose", "kept.conv", [x, g.Floats("kept.weight", Weights(8, 8, 7, rows: true), 8, 8, 1, 1)]),
            "depthwise" => g.Node("Conv", "kept.conv", [x, g.Floats("kept.weight", [.. Weights(8, 1, -1)[..7], 3000], 8, 1, 1, 1)], NodeGraph.Int("group", 8)),
            "conv times constant" => g.Node("Mul", "kept.scaled", [Layer("kept", x, 8, 8, huge: 7), g.Floats("factor", [0.7f])]),
            "conv plus constant" => g.Node("Add", "kept.shifted", [Layer("kept", x, 8, 8, huge: 7, bias: false), g.Noise("shift", 0.1, 0, 8, 1, 1)]),
            "pad conv" => Layer("kept", g.Node("Pad", "kept.pad", [x, Longs("pads", 0, 0, 1, 1, 0, 0, 1, 1)]), 8, 8, huge: 7),
            "max pool conv" => Layer("kept", g.Node("MaxPool", "kept.pool", [x], NodeGraph.Ints("kernel_shape", 1, 1)), 8, 8, huge: 7),
            "conv max pool" => g.Node("MaxPool", "kept.pool", [Layer("kept", x, 8, 8, huge: 7)], NodeGraph.Ints("kernel_shape", 2, 2)),
            "reshape conv reshape" => g.Node("Reshape", "kept.back", [
                Layer("kept", g.Node("Reshape", "kept.flat", [x, Longs("flat", 0, 0, 64, 1)]), 8, 8, huge: 7), Longs("back", 0, 0, 8, 8)]),
            "two convs" => Layer("kept.2", Layer("kept", x, 8, 8, huge: 7), 8, 8),
            "two readers" => g.Node("Add", "sum", [Layer("kept", x, 8, 8, huge: 7), Layer("other", x, 8, 8)]),
            _ => Layer("kept", x, 8, 8, huge: 7),
        };
        string path = Saved(g.Output(Layer("last", y, 4, 8), -1, 4, form == "pad conv" ? 10 : form == "conv max pool" ? 7 : 8, form == "pad conv" ? 10 : form == "conv max pool" ? 7 : 8));
        Check(path, form == "two readers" ? 3 : 2);

        string Layer(string name, string input, int to, int from, int empty = -1, int huge = -1, bool bias = true)
            => g.Node("Conv", $"{name}.conv", [
                input, g.Floats($"{name}.weight", empty < 0 ? Weights(to, from, huge) : Empty(Weights(to, from, -1), from, empty), to, from, 1, 1), .. bias ? [Bias(name, to, empty)] : Array.Empty<string>()]);

        // The empty channel has no bias either.
        string Bias(string name, int to, int empty) => g.Floats($"{name}.bias", [.. QuantizationGraphs.Noise(new Random(to), to, 0.1).Select((value, i) => i == empty ? 0 : value)], to);

        string Longs(string name, params long[] values)
        {
            g.Model.Graph.Initializer.Add(NodeGraph.Tensor<long>(name, TensorProto.Types.DataType.Int64, values, values.Length));
            return name;
        }
    }

    [Theory]
    [InlineData("Gemm")]
    [InlineData("Gemm, transposed")]
    [InlineData("MatMul")]
    [InlineData("MatMul, Add")]
    public void A_linear_layer_that_is_kept_in_float_runs_with_the_weights_of_the_file(string form)
    {
        QuantizationGraphs g = new(10, 17, -1, 16);
        float[] first = QuantizationGraphs.Noise(new Random(3), 16 * 8, 0.3);
        for (int i = 7; i < first.Length; i += 8) first[i] = 0;
        string x = g.Node("Relu", "first.relu", [g.Node("Gemm", "first", ["input", g.Floats("first.weight", first, 16, 8)])]);
        string weight = g.Floats("kept.weight", Weights(8, 8, 7, rows: form != "Gemm, transposed"), 8, 8);
        x = form switch
        {
            "MatMul" => g.Node("MatMul", "kept", [x, weight]),
            "MatMul, Add" => g.Node("Add", "kept.sum", [g.Node("MatMul", "kept", [x, weight]), g.Noise("kept.bias", 0.1, 0, 8)]),
            "Gemm" => g.Node("Gemm", "kept", [x, weight, g.Noise("kept.bias", 0.1, 0, 8)]),
            _ => g.Node("Gemm", "kept", [x, weight, g.Noise("kept.bias", 0.1, 0, 8)], NodeGraph.Int("transB", 1)),
        };
        string path = Saved(g.Output(g.Node("Gemm", "last", [x, g.Noise("last.weight", 0.3, 0, 8, 5)]), -1, 5));
        Check(path, 2, 16);
    }

    /// <summary>Operators without weights, which the runtime has integer forms of.</summary>
    [Theory]
    [InlineData("Sigmoid")]
    [InlineData("LeakyRelu")]
    [InlineData("Softmax")]
    [InlineData("AveragePool")]
    [InlineData("GlobalAveragePool")]
    [InlineData("Mul")]
    [InlineData("Add")]
    [InlineData("Concat")]
    [InlineData("Resize")]
    public void An_operator_that_is_kept_in_float_runs_in_float(string op)
    {
        QuantizationGraphs g = new(10, 17, -1, 3, 8, 8);
        string x = g.Conv("first", "input", 3, 8, 3), second = g.Conv("second", "input", 3, 8, 3);
        // Both sides of the resize have the range of a gate, and so one scale.
        if (op == "Resize") x = g.Node("Sigmoid", "gate", [x]);
        x = op switch
        {
            "Mul" or "Add" => g.Node(op, "kept", [x, second]),
            "Concat" => g.Node(op, "kept", [x, second], NodeGraph.Int("axis", 1)),
            "Softmax" => g.Node(op, "kept", [x], NodeGraph.Int("axis", 1)),
            "AveragePool" => g.Node(op, "kept", [x], NodeGraph.Ints("kernel_shape", 3, 3), NodeGraph.Ints("pads", 1, 1, 1, 1)),
            "Resize" => g.Node(op, "kept", [x, "", g.Floats("factors", [1, 1, 2, 2], 4)], Text("mode", "linear")),
            _ => g.Node(op, "kept", [x]),
        };
        int size = op switch { "GlobalAveragePool" => 1, "Resize" => 16, _ => 8 };
        g.Output(g.Conv("last", x, op == "Concat" ? 16 : 8, 4, 1), -1, 4, size, size);
        string path = Saved(op is "Mul" or "Add" or "Concat" ? g.Model : g.Output(second, -1, 8, 8, 8)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(9, 3, 8, 3, 8, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options with { ExcludeNames = ["kept*"] });
        Assert.Equal((3, 3), (report.Convolutions, report.IntegerConvolutions));
        Assert.Contains(report.FloatNodes, node => node.Operator == op);
        // Nothing but the convolutions, and the sigmoid in front of the resize, is an integer operator. A float operator may have got the blocked layout of the processor.
        Assert.DoesNotContain(report.RuntimeOperators.Keys, name => name.StartsWith("com.microsoft.QLinear", StringComparison.Ordinal)
            && !name.EndsWith("QLinearConv", StringComparison.Ordinal) && (op != "Resize" || !name.EndsWith("QLinearSigmoid", StringComparison.Ordinal)));
        Assert.Contains(report.RuntimeOperators.Keys, name => name.Split('.')[^1] == op);
        double sqnr = QuantizationGraphs.Effect(path, quantized, batches[2..]).Sqnr;
        Assert.True(sqnr > 25, $"{sqnr} dB");
        Agrees(quantized, batches[2], 0.03);
    }

    [Fact]
    public void With_everything_in_float_the_file_is_the_float_file()
    {
        string path = Saved(QuantizationGraphs.Cbam(7)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options with { ExcludeNames = ["*"] });
        Assert.Equal((0, 0), (report.IntegerConvolutions, report.IntegerProducts));
        Assert.Equal(0, report.FoldedBatchNorms);
        Assert.Equal(report.FloatOperators, report.Operators);
        Assert.Equal("float weights", report.Weights);
        Assert.Equal(0, report.OnCalibration!.RelativeError);
        foreach (OnnxBatch batch in QuantizationGraphs.Evaluation()) Assert.Equal(QuantizationGraphs.Outputs(path, batch)["logits"], QuantizationGraphs.Outputs(quantized, batch)["logits"]);
    }

    /// <summary>No budget is too small: with everything in float nothing differs.</summary>
    [Theory]
    [InlineData(1e-7)]
    [InlineData(1e-12)]
    public void A_budget_below_the_rounding_of_floats_holds(double most)
    {
        string path = Saved(QuantizationGraphs.Cbam(7)), quantized = _folder.PathOf("int8.onnx");
        OnnxQuantizer.QuantizeWithin(path, quantized, QuantizationGraphs.Calibration(), new QuantizationBudget { Evaluation = QuantizationGraphs.Evaluation(), MaxRelativeError = most }, _options);
        Assert.InRange(OnnxSensitivity.Compare(path, quantized, QuantizationGraphs.Evaluation(), 1).RelativeError, 0, most);
    }

    /// <summary>Keeping a part in float never costs: an error that grows by it would be the runtime's rounding.</summary>
    [Fact]
    public void All_but_a_layer_errs_less_than_all()
    {
        string path = Saved(QuantizationGraphs.Ruined());
        OnnxBatch[] batches = QuantizationGraphs.Batches(9, 3, 20, 3, 8, 8);
        SensitivityReport report = OnnxSensitivity.Measure(path, batches[..2], batches[2..], _options);
        SensitivityRow bad = report.Rows.Single(row => row.Name == "bad");
        Assert.True(bad.AllBut.Sqnr > 30, $"{bad.AllBut.Sqnr}");
        Assert.True(report.All.Sqnr < 20, $"{report.All.Sqnr}");
    }

    /// <summary>Quantizes all but what is named kept, and compares every level of the runtime with the file as it stands.</summary>
    private void Check(string path, int integerLayers, params long[] shape)
    {
        string quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(9, 3, 8, shape.Length > 0 ? shape : [3, 8, 8]);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options with { ExcludeNames = ["kept*"] });
        Assert.Equal(integerLayers, report.IntegerConvolutions + report.IntegerProducts);
        Agrees(quantized, batches[2], 0.03);
        double sqnr = QuantizationGraphs.Effect(path, quantized, batches[2..]).Sqnr;
        Assert.True(sqnr > 25, $"{sqnr} dB");
    }

    private static void Agrees(string quantized, OnnxBatch batch, double most)
    {
        ModelProto model = OnnxModelFile.Load(quantized);
        float[] literal = Run(GraphOptimizationLevel.ORT_DISABLE_ALL);
        double signal = Math.Sqrt(literal.Sum(value => (double)value * value));
        foreach (GraphOptimizationLevel level in new[] { GraphOptimizationLevel.ORT_ENABLE_BASIC, GraphOptimizationLevel.ORT_ENABLE_EXTENDED, GraphOptimizationLevel.ORT_ENABLE_ALL })
        {
            double noise = Math.Sqrt(Run(level).Zip(literal).Sum(pair => Math.Pow(pair.First - pair.Second, 2)));
            Assert.True(noise <= most * signal, $"{level}: {noise / signal}");
        }

        float[] Run(GraphOptimizationLevel level)
        {
            float[] found = [];
            using OnnxSession runtime = new(model, 1, level);
            runtime.Run(batch, (_, values, _) => found = [.. found, .. values]);
            return found;
        }
    }

    private static float[] Weights(int to, int from, int huge, bool rows = false)
    {
        float[] weights = QuantizationGraphs.Noise(new Random((to * 31) + from), to * from, 0.4);
        for (int i = 0; i < weights.Length; i++)
        {
            if ((rows ? i / to : i % from) == huge) weights[i] = 3000;
        }

        return weights;
    }

    private static float[] Empty(float[] weights, int from, int output)
    {
        weights.AsSpan(output * from, from).Clear();
        return weights;
    }

    private static AttributeProto Text(string name, string value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.String, S = Google.Protobuf.ByteString.CopyFromUtf8(value) };

    private string Saved(ModelProto model)
    {
        string path = _folder.PathOf("float.onnx");
        OnnxModelFile.Save(model, path);
        return path;
    }
}
