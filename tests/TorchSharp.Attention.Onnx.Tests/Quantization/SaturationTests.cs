using TorchSharp.Attention.Onnx.Schema;
using ElementType = TorchSharp.Attention.Onnx.Schema.TensorProto.Types.DataType;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>A file is right on every processor: no kernel may add two products beyond 16 bits. On x86 without VNNI the values show it, anywhere the types and ranges do.</summary>
public sealed class SaturationTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Largest inputs and equal weights, the worst that can be. With int8 of full range the result is a half on AVX2, from two inputs on.</summary>
    [Theory]
    [InlineData("Conv", 2, false, true)]
    [InlineData("Conv", 3, true, true)]
    [InlineData("Conv", 64, false, true)]
    [InlineData("Conv", 65, true, false)]
    [InlineData("grouped", 8, false, true)]
    [InlineData("grouped", 8, true, true)]
    [InlineData("depthwise", 8, true, true)]
    [InlineData("Gemm", 2, false, true)]
    [InlineData("Gemm", 65, true, false)]
    [InlineData("MatMul", 64, false, true)]
    [InlineData("MatMul", 64, true, true)]
    [InlineData("dynamic", 2, false, true)]
    [InlineData("dynamic", 64, true, true)]
    [InlineData("dynamic", 65, false, false)]
    public void The_largest_numbers_do_not_saturate(string op, int inputs, bool reduced, bool perChannel)
    {
        bool rows = op is "Gemm" or "MatMul" or "dynamic";
        QuantizationGraphs g = new(1, 17, rows ? [4, inputs] : [1, inputs, 6, 6]);
        int outputs = op == "depthwise" ? inputs : 16, groups = op switch { "grouped" => 2, "depthwise" => inputs, _ => 1 };
        // Half of the outputs are positive, half negative.
        long[] dims = rows ? [inputs, outputs] : [outputs, inputs / groups, 3, 3];
        float[] weights = [.. Enumerable.Range(0, (int)dims.Aggregate(1L, (a, b) => a * b)).Select(i => (rows ? i % outputs : i / (inputs / groups * 9)) % 2 == 0 ? 1f : -1f)];
        string weight = g.Floats("w", weights, dims);
        g.Output(rows ? g.Node(op == "Gemm" ? "Gemm" : "MatMul", "y", ["input", weight]) : g.Node("Conv", "y", ["input", weight], NodeGraph.Int("group", groups)), rows ? [4, outputs] : [1, outputs, 4, 4]);
        string path = Saved(g.Model), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch batch = new([.. Enumerable.Repeat(1f, rows ? 4 * inputs : inputs * 36)], rows ? [4, inputs] : [1, inputs, 6, 6]);
        QuantizationOptions options = new() { Threads = 1, ReduceRange = reduced, PerChannel = perChannel };
        QuantizationReport report = op == "dynamic" ? OnnxQuantizer.QuantizeDynamic(path, quantized, options) : OnnxQuantizer.Quantize(path, quantized, [batch], options);
        Assert.Equal(1, report.IntegerConvolutions + report.IntegerProducts);
        Assert.All(QuantizationGraphs.Outputs(path, batch)["y"].Zip(QuantizationGraphs.Outputs(quantized, batch)["y"]),
            pair => Assert.Equal(pair.First, pair.Second, Math.Abs(pair.First) * 0.01));
        CannotSaturate(quantized);
        Assert.Equal(reduced ? "int8 weights of reduced range, right on every processor" : "uint8 weights, right on every processor", report.Weights);
        Assert.Contains(report.Weights, OnnxModelFile.Load(quantized).MetadataProps.Single(entry => entry.Key == OnnxQuantizer.Key).Value, StringComparison.Ordinal);
    }

    /// <summary>Random weights and a whole network, by the numbers of the file.</summary>
    [Theory]
    [InlineData(false, true)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public void No_two_weights_of_an_output_could_saturate(bool reduced, bool perChannel)
    {
        string path = Saved(QuantizationGraphs.Cbam(5)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), new QuantizationOptions { Threads = 1, ReduceRange = reduced, PerChannel = perChannel });
        CannotSaturate(quantized);
        Assert.True(report.OnCalibration!.Sqnr > 25, $"{report.OnCalibration.Sqnr}");
        Assert.Contains($"error on the calibration data: {report.OnCalibration.Sqnr.ToString("0.0", System.Globalization.CultureInfo.InvariantCulture)} dB", report.ToString(), StringComparison.Ordinal);
    }

    /// <summary>A reduced range loses a bit at most, less where one weight stands out, and none where there is but one.</summary>
    [Theory]
    [InlineData(new[] { 1f, 1f, 1f }, 63)]
    [InlineData(new[] { 1f, -1f }, 127)]
    [InlineData(new[] { -2f, 0.01f, 0.02f, -0.02f }, 125)]
    [InlineData(new[] { 3f }, 127)]
    [InlineData(new[] { 0f, 0f }, 0)]
    public void A_reduced_range_uses_what_pairs_leave(float[] weights, int largest)
    {
        QuantizedWeights quantized = QuantizedWeights.Of(weights, [1, weights.Length], 0, null, 1, perChannel: true, WeightForm.ReducedSignedBytes);
        Assert.Equal(largest, quantized.Levels.Max(Math.Abs));
        // The largest weight is exact, and so is a mean over channels.
        for (int i = 0; i < weights.Length; i++) Assert.Equal(weights[i], quantized.Levels[i] * quantized.Scales[0], Math.Abs(weights[i]) == weights.Max(Math.Abs) ? 1e-6 : quantized.Scales[0] * 0.51);
    }

    /// <summary>The error on the calibration data is that of the file, and labels do not matter to it.</summary>
    [Fact]
    public void The_report_states_the_error_on_the_calibration_data()
    {
        string path = Saved(QuantizationGraphs.Cbam(5)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Calibration();
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches.Select(batch => new OnnxBatch(batch.Inputs[0].Values, batch.Inputs[0].Shape) { Labels = [1] }), new QuantizationOptions { Threads = 1 });
        Assert.Equal(OnnxSensitivity.Compare(path, quantized, batches, 1).RelativeError, report.OnCalibration!.RelativeError, 1e-9);
        Assert.Null(report.OnCalibration.Accuracy);
        Assert.True(report.OnCalibration.RelativeError > 0);
    }

    private static void CannotSaturate(string quantized)
    {
        NodeGraph graph = new(OnnxModelFile.Load(quantized));
        int layers = 0;
        foreach (NodeProto node in graph.Graph.Node.Where(node => node.OpType is "Conv" or "Gemm" or "MatMul" or "MatMulInteger"))
        {
            string weight = node.OpType == "MatMulInteger" ? node.Input[1] : graph.Producer(node.Input[1])!.Input[0];
            TensorProto constant = graph.Constant(weight)!;
            layers++;
            if (constant.DataType == (int)ElementType.Uint8) continue;
            Assert.Equal((int)ElementType.Int8, constant.DataType);
            sbyte[] values = [.. constant.RawData.ToByteArray().Select(value => (sbyte)value)];
            bool first = node.OpType == "Conv" || NodeGraph.Int(node, "transB", 0) == 1;
            int outputs = (int)constant.Dims[first ? 0 : 1], inner = values.Length / outputs;
            for (int output = 0; output < outputs; output++)
            {
                sbyte[] own = [.. values.Where((_, i) => (first ? i / inner : i % outputs) == output).Order()];
                Assert.InRange(own.TakeLast(2).Where(value => value > 0).Sum(value => value), 0, 128);
                Assert.InRange(own.Take(2).Where(value => value < 0).Sum(value => value), -128, 0);
            }
        }

        Assert.True(layers > 0);
    }

    private string Saved(ModelProto model)
    {
        string path = _folder.PathOf("float.onnx");
        OnnxModelFile.Save(model, path);
        return path;
    }
}
