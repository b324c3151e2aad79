using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

public sealed class QuantizationTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1 };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(CalibrationMethod.MinMax, 30)]
    [InlineData(CalibrationMethod.Percentile, 30)]
    [InlineData(CalibrationMethod.Entropy, 20)]
    public void A_network_with_cbam_becomes_integer_throughout_and_predicts_the_same(CalibrationMethod method, double decibels)
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options with { Method = method });
        Assert.Equal((9, 9), (report.Convolutions, report.IntegerConvolutions));
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        Assert.Equal(3, report.FoldedBatchNorms);
        Assert.Empty(report.FloatNodes);
        // Nothing but the input is quantized on the way, nothing but the last product leaves the integers.
        Assert.Equal(1, report.RuntimeOperators["QuantizeLinear"]);
        Assert.False(report.RuntimeOperators.ContainsKey("DequantizeLinear"));
        foreach (string gate in new[] { "QLinearSigmoid", "QLinearMul", "QLinearGlobalAveragePool", "QLinearAdd" }) Assert.Equal(2, report.RuntimeOperators[$"com.microsoft.{gate}"]);
        QuantizationEffect effect = QuantizationGraphs.Effect(path, quantized);
        Assert.True(effect.Sqnr > decibels, $"{effect.Sqnr} dB");
        Assert.True(effect.Agreement >= 0.9, $"{effect.Agreement}");
    }

    [Fact]
    public void Per_tensor_weights_and_reduced_range_work_too()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options with { PerChannel = false, ReduceRange = true });
        Assert.Equal(9, report.IntegerConvolutions);
        Assert.True(QuantizationGraphs.Effect(path, quantized).Sqnr > 20);
        Assert.Contains(OnnxModelFile.Load(quantized).Graph.Initializer, constant => constant is { Name: "stem.weight_folded_quantized", DataType: (int)TensorProto.Types.DataType.Int8 });
    }

    [Fact]
    public void Folding_batch_norms_changes_nothing_but_rounding()
    {
        ModelProto model = QuantizationGraphs.Cbam(4), folded = model.Clone();
        Assert.Equal(3, FloatPreparation.Prepare(folded));
        Assert.DoesNotContain(folded.Graph.Node, node => node.OpType == "BatchNormalization");
        Assert.DoesNotContain(folded.Graph.Initializer, constant => constant.Name.EndsWith("bn.var", StringComparison.Ordinal));
        Assert.InRange(new ModelEvaluation(model, QuantizationGraphs.Evaluation(), 1).Measure(folded).RelativeError, 0, 1e-5);
    }

    [Fact]
    public void A_norm_whose_convolution_is_read_elsewhere_stays()
    {
        QuantizationGraphs g = new(1, 17, 1, 3, 8, 8);
        string conv = g.Conv("conv", "input", 3, 4, 3);
        Assert.Equal(0, FloatPreparation.Prepare(g.Output(g.Node("Add", "sum", [g.BatchNorm("bn", conv, 4), conv]), 1, 4, 8, 8)));
    }

    /// <summary>The layers of MobileNet, and what else has a rule: clips, depthwise convolutions, hard sigmoids, pools, joins, moves.</summary>
    [Fact]
    public void Clips_become_ranges_and_what_moves_numbers_passes_them_on()
    {
        QuantizationGraphs g = new(6, 17, -1, 3, 16, 16);
        string zero = g.Floats("zero", [0]), six = g.Floats("six", [6]);
        string x = g.Node("Clip", "clip1", [g.Conv("expand", "input", 3, 12, 1), zero, six]);
        x = g.Node("Clip", "clip2", [g.Conv("depthwise", x, 12, 12, 3, groups: 12), zero, six]);
        string gate = g.Node("HardSigmoid", "gate", [g.Conv("fc", g.Node("GlobalAveragePool", "squeeze", [x]), 12, 12, 1)]);
        x = g.Node("Mul", "gated", [x, gate]);
        x = g.Node("Concat", "joined", [g.Node("MaxPool", "max", [x], NodeGraph.Ints("kernel_shape", 2, 2), NodeGraph.Ints("strides", 2, 2)),
            g.Node("AveragePool", "average", [x], NodeGraph.Ints("kernel_shape", 2, 2), NodeGraph.Ints("strides", 2, 2))], NodeGraph.Int("axis", 1));
        x = g.Node("Transpose", "turned", [x], NodeGraph.Ints("perm", 0, 1, 3, 2));
        x = g.Node("LeakyRelu", "leaky", [g.Conv("project", x, 24, 8, 1)]);
        string path = Saved(g.Output(x, -1, 8, 8, 8)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options);
        Assert.Equal((4, 4), (report.Convolutions, report.IntegerConvolutions));
        Assert.False(report.Operators.ContainsKey("Clip"));
        FloatNode kept = Assert.Single(report.FloatNodes);
        Assert.Equal("HardSigmoid", kept.Operator);
        foreach (string op in new[] { "QLinearMul", "QLinearConcat", "QLinearAveragePool", "QLinearLeakyRelu" }) Assert.Equal(1, report.RuntimeOperators[$"com.microsoft.{op}"]);
        // In and out of the float island that the hard sigmoid is, and at the ends: nothing else.
        Assert.Equal((2, 2), (report.RuntimeOperators["QuantizeLinear"], report.RuntimeOperators["DequantizeLinear"]));
        Assert.Equal(1f / 255, new NodeGraph(OnnxModelFile.Load(quantized)).Floats("gate_scale")![0]);
        Assert.True(QuantizationGraphs.Effect(path, quantized).Sqnr > 25, $"{QuantizationGraphs.Effect(path, quantized).Sqnr}");
    }

    [Fact]
    public void Exclusions_go_by_name_operator_and_attention()
    {
        string path = Saved(QuantizationGraphs.Cbam(7)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport byName = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options with { ExcludeNames = ["conv?/*", "attn.conv/Conv"] });
        Assert.Equal(3, byName.FloatNodes.Count(node => node.Reason.StartsWith("excluded by '", StringComparison.Ordinal)));
        Assert.Equal(byName.Convolutions - 3, byName.IntegerConvolutions);
        QuantizationReport byOperator = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options with { ExcludeOperators = ["Gemm", "Sigmoid", "Mul"] });
        // Behind a product in float the mean over channels is one again, and no convolution.
        Assert.Equal((8, 8, 0), (byOperator.Convolutions, byOperator.IntegerConvolutions, byOperator.IntegerProducts));
        Assert.Equal(2, byOperator.RuntimeOperators["Sigmoid"]);
        QuantizationReport attention = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options with { ExcludeAttentions = true });
        Assert.Equal(3, attention.IntegerConvolutions);
        Assert.True(QuantizationGraphs.Effect(path, quantized).Sqnr > 30);
        Assert.All(attention.FloatNodes, node => Assert.StartsWith("attn", node.Name, StringComparison.Ordinal));
    }

    [Fact]
    public void Sigmoids_in_float_keep_their_multiplication_in_float()
    {
        string path = Saved(QuantizationGraphs.Cbam(7)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options with { Sigmoid = SigmoidQuantization.None });
        Assert.Equal((2, 2), (report.RuntimeOperators["Sigmoid"], report.RuntimeOperators["Mul"]));
        Assert.Equal(report.Convolutions, report.IntegerConvolutions);
    }

    [Theory]
    [InlineData(0, 2)]
    [InlineData(1, 2)]
    public void Linear_layers_are_quantized_while_running(int transposed, int layers)
    {
        QuantizationGraphs g = new(8, 17, -1, 32);
        long[] dims = transposed == 1 ? [48, 32] : [32, 48];
        string x = g.Node("Gemm", "fc1", ["input", g.Noise("fc1.weight", 0.2, 0, dims), g.Noise("fc1.bias", 0.1, 0, 48)], NodeGraph.Int("transB", transposed));
        x = g.Node("MatMul", "fc2", [g.Node("Relu", "relu", [x]), g.Noise("fc2.weight", 0.2, 0, 48, 10)]);
        string path = Saved(g.Output(x, -1, 10)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.QuantizeDynamic(path, quantized, _options);
        Assert.Equal((layers, layers), (report.Products, report.IntegerProducts));
        OnnxFiles.Keep(quantized, $"dynamic {transposed}");
        ModelEvaluation evaluation = new(OnnxModelFile.Load(path), QuantizationGraphs.Batches(3, 2, 50, 32), 1);
        Assert.True(evaluation.Measure(OnnxModelFile.Load(quantized)).Sqnr > 30);
        Assert.True(report.Compression > 1.5, $"{report.Compression}");
    }

    private string Saved(ModelProto model, string name = "float.onnx")
    {
        string path = _folder.PathOf(name);
        OnnxModelFile.Save(model, path);
        return path;
    }
}
