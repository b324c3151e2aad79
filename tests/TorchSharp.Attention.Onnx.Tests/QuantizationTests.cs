using Microsoft.ML.OnnxRuntime;
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
        string path = Saved(QuantizationGraphs.Cbam(1)), quantized = _folder.File("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, Calibration(), _options with { Method = method });
        Assert.Equal((9, 9), (report.Convolutions, report.IntegerConvolutions));
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        Assert.Equal(3, report.FoldedBatchNorms);
        Assert.Empty(report.Kept);
        // Nothing but the input is quantized on the way, nothing but the last product leaves the integers.
        Assert.Equal(1, report.RuntimeOperators["QuantizeLinear"]);
        Assert.False(report.RuntimeOperators.ContainsKey("DequantizeLinear"));
        foreach (string gate in new[] { "QLinearSigmoid", "QLinearMul", "QLinearGlobalAveragePool", "QLinearAdd" }) Assert.Equal(2, report.RuntimeOperators[$"com.microsoft.{gate}"]);
        QuantizationEffect effect = Effect(path, quantized);
        Assert.True(effect.Sqnr > decibels, $"{effect.Sqnr} dB");
        Assert.True(effect.Agreement >= 0.9, $"{effect.Agreement}");
    }

    [Fact]
    public void Per_tensor_weights_and_reduced_range_work_too()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), quantized = _folder.File("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, Calibration(), _options with { PerChannel = false, ReduceRange = true });
        Assert.Equal(9, report.IntegerConvolutions);
        Assert.True(Effect(path, quantized).Sqnr > 20);
        Assert.All(OnnxModelFile.Load(quantized).Graph.Initializer.Where(constant => constant.Name.EndsWith("weight_folded_quantized", StringComparison.Ordinal)),
            constant => Assert.All(constant.RawData.ToArray(), value => Assert.InRange((sbyte)value, -63, 63)));
    }

    [Fact]
    public void Folding_batch_norms_changes_nothing_but_rounding()
    {
        ModelProto model = QuantizationGraphs.Cbam(4), folded = model.Clone();
        Assert.Equal(3, FloatPreparation.Prepare(folded));
        Assert.DoesNotContain(folded.Graph.Node, node => node.OpType == "BatchNormalization");
        Assert.DoesNotContain(folded.Graph.Initializer, constant => constant.Name.EndsWith("bn.var", StringComparison.Ordinal));
        Assert.InRange(new ModelEvaluation(model, Evaluation(), 1).Measure(folded).RelativeError, 0, 1e-5);
    }

    [Fact]
    public void A_norm_whose_convolution_is_read_elsewhere_stays()
    {
        QuantizationGraphs g = new(1, 17, 1, 3, 8, 8);
        string conv = g.Conv("conv", "input", 3, 4, 3);
        Assert.Equal(0, FloatPreparation.Prepare(g.Output(g.Node("Add", "sum", [g.BatchNorm("bn", conv, 4), conv]), 1, 4, 8, 8)));
    }

    /// <summary>The integer kernel against sums written out, from the file's own int8 numbers.</summary>
    [Fact]
    public void An_integer_convolution_is_the_sum_of_its_products()
    {
        QuantizationGraphs g = new(2, 17, 1, 3, 6, 6);
        string path = Saved(g.Output(g.Node("Relu", "relu", [g.Conv("conv", "input", 3, 4, 3)]), 1, 4, 6, 6)), quantized = _folder.File("int8.onnx");
        Assert.Equal(1, OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Batches(3, 4, 1, 3, 6, 6), _options).IntegerConvolutions);
        ModelProto model = OnnxModelFile.Load(quantized);
        NodeGraph graph = new(model);
        AffineParameters input = Parameters("input"), output = Parameters("relu");
        float[] weights = Dequantized("conv.weight", 27), bias = Dequantized("conv.bias", 1);
        OnnxBatch batch = QuantizationGraphs.Batches(4, 1, 1, 3, 6, 6)[0];
        float[] x = [.. batch.Inputs[0].Values.Select(value => input.Dequantize(input.Quantize(value)))], found = [];
        using (RuntimeModel runtime = new(model, 1)) runtime.Run(batch, (_, values, _) => found = values.ToArray());
        for (int i = 0; i < found.Length; i++)
        {
            int channel = i / 36, row = i / 6 % 6, column = i % 6;
            double sum = bias[channel];
            for (int k = 0; k < 27; k++)
            {
                int y = row + (k / 3 % 3) - 1, z = column + (k % 3) - 1;
                if (y is >= 0 and < 6 && z is >= 0 and < 6) sum += (double)x[(k / 9 * 36) + (y * 6) + z] * weights[(channel * 27) + k];
            }

            float expected = output.Dequantize(output.Quantize((float)Math.Max(0, sum)));
            // A sum in the middle of two levels may go either way.
            Assert.Equal(expected, found[i], output.Scale * 1.001);
            Assert.Equal(Math.Max(0, sum), found[i], (output.Scale * 0.51) + Math.Max(0, sum - output.Dequantize(255)));
        }

        AffineParameters Parameters(string name) => new(
            graph.Floats($"{name}_scale")![0], graph.Constant($"{name}_zero_point")!.RawData[0]);
        float[] Dequantized(string name, int inner)
        {
            TensorProto values = graph.Constant($"{name}_quantized")!;
            float[] scales = graph.Floats($"{name}_scale")!;
            int size = values.DataType == (int)TensorProto.Types.DataType.Int8 ? 1 : 4;
            byte[] bytes = values.RawData.ToByteArray();
            return [.. Enumerable.Range(0, bytes.Length / size).Select(i => (size == 1 ? (sbyte)bytes[i] : BitConverter.ToInt32(bytes, 4 * i)) * scales[i / inner])];
        }
    }

    [Fact]
    public void The_file_says_what_the_kernels_compute()
    {
        string quantized = _folder.File("int8.onnx");
        OnnxQuantizer.Quantize(Saved(QuantizationGraphs.Cbam(5)), quantized, Calibration(), _options);
        ModelProto model = OnnxModelFile.Load(quantized);
        OnnxBatch batch = Evaluation()[0];
        float[] literal = [], fused = [];
        using (RuntimeModel runtime = new(model, 1, GraphOptimizationLevel.ORT_DISABLE_ALL)) runtime.Run(batch, (_, values, _) => literal = values.ToArray());
        using (RuntimeModel runtime = new(model, 1)) runtime.Run(batch, (_, values, _) => fused = values.ToArray());
        double signal = literal.Sum(value => (double)value * value), noise = literal.Zip(fused).Sum(pair => Math.Pow(pair.First - pair.Second, 2));
        Assert.True(noise < signal * 1e-3, $"{noise} of {signal}");
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
        string path = Saved(g.Output(x, -1, 8, 8, 8)), quantized = _folder.File("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, Calibration(), _options);
        Assert.Equal((4, 4), (report.Convolutions, report.IntegerConvolutions));
        Assert.False(report.Operators.ContainsKey("Clip"));
        KeptNode kept = Assert.Single(report.Kept);
        Assert.Equal("HardSigmoid", kept.Operator);
        foreach (string op in new[] { "QLinearMul", "QLinearConcat", "QLinearAveragePool", "QLinearLeakyRelu" }) Assert.Equal(1, report.RuntimeOperators[$"com.microsoft.{op}"]);
        // In and out of the float island that the hard sigmoid is, and at the ends: nothing else.
        Assert.Equal((2, 2), (report.RuntimeOperators["QuantizeLinear"], report.RuntimeOperators["DequantizeLinear"]));
        Assert.Equal(1f / 255, new NodeGraph(OnnxModelFile.Load(quantized)).Floats("gate_scale")![0]);
        Assert.True(Effect(path, quantized).Sqnr > 25, $"{Effect(path, quantized).Sqnr}");
    }

    [Fact]
    public void Exclusions_go_by_name_operator_and_attention()
    {
        string path = Saved(QuantizationGraphs.Cbam(7)), quantized = _folder.File("int8.onnx");
        QuantizationReport byName = OnnxQuantizer.Quantize(path, quantized, Calibration(), _options with { ExcludeNames = ["conv?/*", "attn.conv/Conv"] });
        Assert.Equal(3, byName.Kept.Count(node => node.Reason.StartsWith("excluded by '", StringComparison.Ordinal)));
        Assert.Equal(byName.Convolutions - 3, byName.IntegerConvolutions);
        QuantizationReport byOperator = OnnxQuantizer.Quantize(path, quantized, Calibration(), _options with { ExcludeOperators = ["Gemm", "Sigmoid", "Mul"] });
        // Behind a product in float the mean over channels is one again, and no convolution.
        Assert.Equal((8, 8, 0), (byOperator.Convolutions, byOperator.IntegerConvolutions, byOperator.IntegerProducts));
        Assert.Equal(2, byOperator.RuntimeOperators["Sigmoid"]);
        QuantizationReport attention = OnnxQuantizer.Quantize(path, quantized, Calibration(), _options with { ExcludeAttentions = true });
        Assert.Equal(3, attention.IntegerConvolutions);
        Assert.True(Effect(path, quantized).Sqnr > 30);
        Assert.All(attention.Kept, node => Assert.StartsWith("attn", node.Name, StringComparison.Ordinal));
    }

    [Fact]
    public void Sigmoids_in_float_keep_their_multiplication_in_float()
    {
        string path = Saved(QuantizationGraphs.Cbam(7)), quantized = _folder.File("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, Calibration(), _options with { Sigmoid = SigmoidQuantization.None });
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
        string path = Saved(g.Output(x, -1, 10)), quantized = _folder.File("int8.onnx");
        QuantizationReport report = OnnxQuantizer.QuantizeDynamic(path, quantized, _options);
        Assert.Equal((layers, layers), (report.Products, report.IntegerProducts));
        ModelEvaluation evaluation = new(OnnxModelFile.Load(path), QuantizationGraphs.Batches(3, 2, 50, 32), 1);
        Assert.True(evaluation.Measure(OnnxModelFile.Load(quantized)).Sqnr > 30);
        Assert.True(report.Compression > 1.5, $"{report.Compression}");
    }

    [Fact]
    public void A_layer_that_eight_bits_ruin_falls_back_to_float()
    {
        string path = Saved(Ruined()), quantized = _folder.File("int8.onnx");
        OnnxBatch[] evaluation = QuantizationGraphs.Batches(9, 2, 20, 3, 8, 8);
        QuantizationReport all = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Batches(2, 2, 8, 3, 8, 8), _options);
        Assert.True(Effect(path, quantized, evaluation).RelativeError > 0.05, "the layer is not bad enough for this test");
        QuantizationReport report = OnnxQuantizer.QuantizeWithin(
            path, quantized, QuantizationGraphs.Batches(2, 2, 8, 3, 8, 8), new QuantizationBudget { Evaluation = evaluation, MaxRelativeError = 0.05 }, _options);
        Assert.Equal(["bad"], report.FallenBack);
        Assert.Equal(all.IntegerConvolutions - 1, report.IntegerConvolutions);
        Assert.True(Effect(path, quantized, evaluation).RelativeError <= 0.05);

        QuantizationReport wide = OnnxQuantizer.QuantizeWithin(
            path, quantized, QuantizationGraphs.Batches(2, 2, 8, 3, 8, 8), new QuantizationBudget { Evaluation = evaluation, MaxRelativeError = 10 }, _options);
        Assert.Empty(wide.FallenBack);
    }

    [Fact]
    public void The_sensitivity_report_finds_the_bad_layer_and_prints_itself()
    {
        string path = Saved(Ruined());
        OnnxBatch[] evaluation = [.. QuantizationGraphs.Batches(9, 2, 20, 3, 8, 8).Select(batch => new OnnxBatch(batch.Inputs[0].Values, batch.Inputs[0].Shape) { Labels = new long[20] })];
        SensitivityReport report = OnnxSensitivity.Measure(path, QuantizationGraphs.Batches(2, 2, 8, 3, 8, 8), evaluation, _options);
        Assert.Equal(["good", "bad", "fc"], report.Rows.Select(row => row.Name));
        SensitivityRow bad = report.Rows.MaxBy(row => row.Only.RelativeError)!;
        Assert.Equal("bad", bad.Name);
        Assert.True(bad.AllBut.RelativeError < report.All.RelativeError / 2);
        Assert.NotNull(report.FloatAccuracy);
        Assert.Equal(5, report.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Equal(6, report.ToMarkdown().Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.All(report.ToCsv().Split('\n', StringSplitOptions.RemoveEmptyEntries), line => Assert.Equal(10, line.Split(',').Length));
    }

    [Fact]
    public void Attentions_of_the_metadata_are_groups_and_their_sigmoids_are_compared()
    {
        SensitivityReport report = OnnxSensitivity.Measure(Saved(QuantizationGraphs.Cbam(3)), Calibration(), Evaluation(), _options);
        SensitivityRow attention = Assert.Single(report.Rows, row => row.Kind == "attention");
        Assert.Equal("attn", attention.Name);
        Assert.NotNull(attention.Sigmoids);
        Assert.Equal(attention.Only, attention.Sigmoids.FixedRange);
        Assert.All(report.Rows.Where(row => row.Kind == "layer"), row => Assert.Null(row.Sigmoids));
        Assert.Equal(["stem", "conv1", "conv2", "attn", "logits"], report.Rows.Select(row => row.Name));
        Assert.All(report.Rows, row => Assert.True(row.Only.Sqnr > report.All.Sqnr - 1));
    }

    /// <summary>The sigmoid problem: calibration that never saw an open gate cuts it off, at its output or already at its input.</summary>
    [Theory]
    [InlineData(SigmoidQuantization.FixedRange, 0.9975, true)]
    [InlineData(SigmoidQuantization.Calibrated, 0.5, true)]
    [InlineData(SigmoidQuantization.FixedRange, 0.9975, false)]
    public void A_gate_that_calibration_saw_half_closed_opens_only_with_the_fixed_range(SigmoidQuantization sigmoid, double open, bool direct)
    {
        QuantizationGraphs g = new(11, 17, 1, 2, 4, 4);
        string signal = g.Node("Conv", "conv", ["input", g.Floats("w", [1, 0], 1, 2, 1, 1)]), logit = g.Node("Conv", "fc", ["input", g.Floats("v", [0, 6], 1, 2, 1, 1)]);
        if (!direct) logit = g.Node("Transpose", "turned", [logit], NodeGraph.Ints("perm", 0, 1, 2, 3));
        g.Output(g.Node("Mul", "gated", [signal, g.Node("Sigmoid", "gate", [logit])]), 1, 1, 4, 4);
        string path = Saved(g.Output("gate", 1, 1, 4, 4)), quantized = _folder.File("int8.onnx");
        // The first channel is the signal; the second, times six, opens the gate: up to a half here, and almost wholly in use.
        OnnxBatch low = new([.. Enumerable.Range(0, 16).Select(i => (i / 7.5f) - 1), .. Enumerable.Range(0, 16).Select(i => (i / 15f) - 1)], 1, 2, 4, 4);
        OnnxBatch high = new([.. Enumerable.Repeat(1f, 32)], 1, 2, 4, 4);
        OnnxQuantizer.Quantize(path, quantized, [low], _options with { Sigmoid = sigmoid });
        float[] gates = Outputs(quantized, high)["gate"];
        Assert.Equal(16, gates.Length);
        Assert.All(gates, gate => Assert.Equal(open, gate, 0.004));
    }

    [Fact]
    public void A_value_that_is_also_an_output_is_not_cut_to_what_sigmoids_read()
    {
        QuantizationGraphs g = new(11, 17, 1, 1, 4, 4);
        string x = g.Node("Conv", "conv", ["input", g.Floats("w", [1], 1, 1, 1, 1)]);
        g.Output(g.Node("Sigmoid", "gate", [x]), 1, 1, 4, 4);
        string path = Saved(g.Output(x, 1, 1, 4, 4)), quantized = _folder.File("int8.onnx");
        OnnxBatch wide = new([.. Enumerable.Range(0, 16).Select(i => (i * 4f) - 30)], 1, 1, 4, 4);
        OnnxQuantizer.Quantize(path, quantized, [wide], _options);
        Assert.All(Outputs(quantized, wide)["conv"].Zip(wide.Inputs[0].Values), pair => Assert.Equal(pair.Second, pair.First, 0.13));
    }

    /// <summary>A linear layer that hands over floats has no steps to cut them off with.</summary>
    [Theory]
    [InlineData("Gemm")]
    [InlineData("MatMul")]
    public void A_relu_behind_a_last_linear_layer_stays(string op)
    {
        QuantizationGraphs g = new(12, 17, -1, 16);
        string path = Saved(g.Output(g.Node("Relu", "relu", [g.Node(op, "fc", ["input", g.Noise("fc.weight", 0.3, 0, 16, 8)])]), -1, 8)), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        float[] wanted = Outputs(path, batches[0])["relu"], found = Outputs(quantized, batches[0])["relu"];
        Assert.Contains(wanted, value => value == 0);
        Assert.All(wanted.Zip(found), pair => Assert.Equal(pair.First, pair.Second, 0.15));
        Assert.All(found, value => Assert.True(value >= 0, $"{value}"));
    }

    [Fact]
    public void A_clip_between_a_linear_layer_and_what_stays_in_float_stays()
    {
        QuantizationGraphs g = new(13, 17, -1, 16);
        string clipped = g.Node("Clip", "clip", [g.Node("Gemm", "fc", ["input", g.Noise("fc.weight", 1, 0, 16, 8)]), g.Floats("least", [-0.5f]), g.Floats("most", [0.5f])]);
        string path = Saved(g.Output(g.Node("Softmax", "softmax", [clipped], NodeGraph.Int("axis", 1)), -1, 8)), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        OnnxQuantizer.Quantize(path, quantized, batches, _options);
        float[] found = Outputs(quantized, batches[0])["softmax"];
        Assert.All(Outputs(path, batches[0])["softmax"].Zip(found), pair => Assert.Equal(pair.First, pair.Second, 0.02));
        // e times as likely at most, as far as the clip lets them apart.
        foreach (float[] row in found.Chunk(8)) Assert.InRange(row.Max() / row.Min(), 1, 2.72);
    }

    [Fact]
    public void A_relu_that_is_an_output_and_goes_on_is_right_in_both()
    {
        QuantizationGraphs g = new(14, 17, -1, 16);
        string relu = g.Node("Relu", "relu", [g.Node("Gemm", "fc1", ["input", g.Noise("fc1.weight", 0.3, 0, 16, 8)])]);
        g.Output(relu, -1, 8);
        string path = Saved(g.Output(g.Node("Gemm", "fc2", [relu, g.Noise("fc2.weight", 0.3, 0, 8, 4)]), -1, 4)), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        Assert.Equal(2, OnnxQuantizer.Quantize(path, quantized, batches, _options).IntegerProducts);
        Dictionary<string, float[]> wanted = Outputs(path, batches[0]), found = Outputs(quantized, batches[0]);
        foreach (string output in new[] { "relu", "fc2" }) Assert.All(wanted[output].Zip(found[output]), pair => Assert.Equal(pair.First, pair.Second, 0.2));
        Assert.All(found["relu"], value => Assert.True(value >= 0, $"{value}"));
    }

    [Fact]
    public void A_linear_layer_whose_relu_goes_on_as_integers_takes_it_in()
    {
        QuantizationGraphs g = new(14, 17, -1, 16);
        string relu = g.Node("Relu", "relu", [g.Node("Gemm", "fc1", ["input", g.Noise("fc1.weight", 0.3, 0, 16, 8)])]);
        string path = Saved(g.Output(g.Node("Gemm", "fc2", [relu, g.Noise("fc2.weight", 0.3, 0, 8, 4)]), -1, 4)), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        Assert.False(OnnxQuantizer.Quantize(path, quantized, batches, _options).Operators.ContainsKey("Relu"));
        Assert.All(Outputs(path, batches[0])["fc2"].Zip(Outputs(quantized, batches[0])["fc2"]), pair => Assert.Equal(pair.First, pair.Second, 0.1));
    }

    /// <summary>The one part of a network alone is the whole network, ReLUs and clips included.</summary>
    [Fact]
    public void Only_it_is_what_the_quantizer_writes()
    {
        QuantizationGraphs g = new(15, 17, -1, 3, 8, 8);
        string x = g.Node("Clip", "clip", [g.Conv("conv", "input", 3, 6, 3), g.Floats("zero", [0]), g.Floats("one", [1])]);
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 8, 3, 8, 8);
        SensitivityReport report = OnnxSensitivity.Measure(Saved(g.Output(x, -1, 6, 8, 8)), batches, batches, _options);
        SensitivityRow row = Assert.Single(report.Rows);
        Assert.Equal(report.All, row.Only);
        Assert.True(double.IsPositiveInfinity(row.AllBut.Sqnr));
    }

    [Fact]
    public void Outputs_that_are_no_numbers_are_no_perfect_result()
    {
        QuantizationGraphs log = new(1, 17, -1, 4), same = new(1, 17, -1, 4);
        ModelProto broken = log.Output(log.Node("Log", "y", ["input"]), -1, 4), whole = same.Output(same.Node("Identity", "y", ["input"]), -1, 4);
        string path = Saved(broken);
        OnnxBatch good = new([1, 2, 3, 4], 1, 4), bad = new([1, 2, -3, 4], 1, 4), zeros = new([0, 0, 0, 0], 1, 4);
        foreach (OnnxBatch wrong in new[] { bad, zeros })
        {
            ArgumentException e = Assert.Throws<ArgumentException>(() => OnnxSensitivity.Compare(path, path, [good, wrong], 1));
            Assert.Contains("evaluation batch 1, counted from 0, the float model's output 'y' holds NaN or infinity", e.Message, StringComparison.Ordinal);
            Assert.Equal("evaluation", e.ParamName);
            Assert.Equal(double.PositiveInfinity, new ModelEvaluation(whole, [good, wrong], 1).Measure(broken).RelativeError);
        }

        Assert.Equal(0, OnnxSensitivity.Compare(path, path, [good], 1).RelativeError);
    }

    [Theory]
    [InlineData(null)]
    [InlineData(new[] { 2L, 0L, 1L })]
    [InlineData(new[] { 1L, 0L, 2L })]
    public void Transposed_constants_become_constants(long[]? order)
    {
        QuantizationGraphs g = new(16, 17, 1, 1, 1);
        string turned = g.Node("Transpose", "turned", [g.Noise("w", 1, 0, 2, 3, 4)], order is null ? [] : [NodeGraph.Ints("perm", order)]);
        ModelProto model = g.Output(g.Node("Add", "sum", ["input", turned]), [.. (order ?? [2, 1, 0]).Select(axis => axis + 2)]), prepared = model.Clone();
        FloatPreparation.Prepare(prepared);
        Assert.Equal("Add", Assert.Single(prepared.Graph.Node).OpType);
        Assert.Equal("turned", Assert.Single(prepared.Graph.Initializer).Name);
        Assert.Equal(0, new ModelEvaluation(model, [new OnnxBatch([0.5f], 1, 1, 1)], 1).Measure(prepared).RelativeError);
    }

    [Fact]
    public void Errors_come_before_anything_is_written()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), target = _folder.File("int8.onnx");
        Contains("no calibration batch", () => OnnxQuantizer.Quantize(path, target, [], _options));
        Contains("takes (batch, 3, 16, 16)", () => OnnxQuantizer.Quantize(path, target, QuantizationGraphs.Batches(1, 1, 1, 4, 16, 16), _options));
        Contains("no input 'image'", () => OnnxQuantizer.Quantize(path, target, [OnnxBatch.Of(("image", new float[768], [1, 3, 16, 16]))], _options));
        Contains("'input' holds NaN", () => OnnxQuantizer.Quantize(path, target, [new OnnxBatch([.. Enumerable.Repeat(float.NaN, 768)], 1, 3, 16, 16)], _options));
        Contains("'nothing*', which no node matches", () => OnnxQuantizer.Quantize(path, target, Calibration(), _options with { ExcludeNames = ["nothing*"] }));
        Contains("not all batches", () => OnnxQuantizer.QuantizeWithin(path, target, Calibration(), new QuantizationBudget { Evaluation = Evaluation(), MaxAccuracyLoss = 0.01 }, _options));
        Contains("no limit", () => OnnxQuantizer.QuantizeWithin(path, target, Calibration(), new QuantizationBudget { Evaluation = Evaluation() }, _options));
        Contains("Percentile is 20", () => OnnxQuantizer.Quantize(path, target, Calibration(), _options with { Percentile = 20 }));
        Contains("its product must be their number", () => _ = new OnnxBatch(new float[5], 2, 3));
        ModelProto old = QuantizationGraphs.Cbam(1);
        old.OpsetImport[0].Version = 11;
        Contains("operator set 11", () => OnnxQuantizer.Quantize(Saved(old, "old.onnx"), target, Calibration(), _options));
        old.OpsetImport[0].Version = 17;
        old.MetadataProps.Clear();
        Contains("names no attention", () => OnnxQuantizer.Quantize(Saved(old, "plain.onnx"), target, Calibration(), _options with { ExcludeAttentions = true }));
        QuantizationGraphs convolution = new(1, 17, 1, 3, 8, 8);
        Contains("no linear layer", () => OnnxQuantizer.QuantizeDynamic(Saved(convolution.Output(convolution.Conv("c", "input", 3, 4, 1), 1, 4, 8, 8), "conv.onnx"), target, _options));
        string text = _folder.File("text.onnx");
        File.WriteAllText(text, "this is no model, it is a text of some length");
        Assert.Throws<InvalidDataException>(() => OnnxQuantizer.Quantize(text, target, Calibration(), _options));
        Assert.Throws<FileNotFoundException>(() => OnnxQuantizer.Quantize(_folder.File("absent.onnx"), target, Calibration(), _options));
        Assert.False(File.Exists(target));

        OnnxQuantizer.Quantize(path, target, Calibration(), _options);
        Contains("quantized already", () => OnnxQuantizer.Quantize(target, _folder.File("again.onnx"), Calibration(), _options));
        Assert.DoesNotContain(_folder.Files(), file => file.EndsWith(".tmp", StringComparison.Ordinal));
    }

    private static void Contains(string part, Action action) => Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(action).Message, StringComparison.Ordinal);

    private static OnnxBatch[] Calibration() => QuantizationGraphs.Batches(2, 4, 16, 3, 16, 16);

    private static OnnxBatch[] Evaluation() => QuantizationGraphs.Batches(3, 2, 50, 3, 16, 16);

    [Fact]
    public void Paths_are_checked_before_calibration()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), absent = Path.Combine(_folder.File("absent"), "int8.onnx");
        QuantizationBudget budget = new() { Evaluation = Evaluation(), MaxRelativeError = 0.1 };
        foreach (Action<string> quantize in new Action<string>[]
        {
            target => OnnxQuantizer.Quantize(path, target, Unread(), _options),
            target => OnnxQuantizer.QuantizeWithin(path, target, Unread(), budget, _options),
            target => OnnxQuantizer.QuantizeDynamic(path, target, _options),
        })
        {
            Assert.Contains("absent", Assert.Throws<DirectoryNotFoundException>(() => quantize(absent)).Message, StringComparison.Ordinal);
            Contains("the float model itself", () => quantize(path));
            Contains("the float model itself", () => quantize(Path.Combine(Path.GetDirectoryName(path)!, ".", Path.GetFileName(path))));
            Contains("which is a folder", () => quantize(Path.GetDirectoryName(path)!));
        }

        Assert.Equal(new FileInfo(path).Length, QuantizationGraphs.Cbam(1).CalculateSize());

        static IEnumerable<OnnxBatch> Unread() => Enumerable.Range(0, 1).Select<int, OnnxBatch>(_ => throw new InvalidOperationException("read too early"));
    }

    [Fact]
    public void A_model_that_the_runtime_does_not_load_is_said_to_be_none()
    {
        QuantizationGraphs g = new(1, 17, -1, 4);
        string path = Saved(g.Output(g.Node("Nonsense", "y", ["input"]), -1, 4));
        OnnxBatch[] batches = QuantizationGraphs.Batches(1, 1, 2, 4);
        Assert.Contains("ONNX Runtime does not load the model", Assert.Throws<InvalidDataException>(() => OnnxQuantizer.Quantize(path, _folder.File("int8.onnx"), batches, _options)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => OnnxSensitivity.Compare(path, path, batches, 1));
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.NegativeInfinity)]
    public void Weights_that_are_no_numbers_are_not_quantized_while_running(float wrong)
    {
        QuantizationGraphs g = new(1, 17, -1, 2);
        string path = Saved(g.Output(g.Node("MatMul", "fc", ["input", g.Floats("fc.weight", [1, wrong, 2, 3], 2, 2)]), -1, 2)), target = _folder.File("int8.onnx");
        Contains("The weight 'fc.weight' of 'fc/MatMul' holds NaN or infinity", () => OnnxQuantizer.QuantizeDynamic(path, target, _options));
        Assert.False(File.Exists(target));
    }

    [Fact]
    public void Classes_are_those_of_the_first_output_that_has_some()
    {
        QuantizationGraphs g = new(18, 17, -1, 4);
        g.Node("MatMul", "logits", ["input", g.Noise("w", 1, 0, 4, 3)]);
        g.Output(g.Node("ReduceSum", "total", ["logits"], NodeGraph.Int("keepdims", 0)));
        string number = Saved(g.Model, "number.onnx"), both = Saved(g.Output("logits", -1, 3), "both.onnx");
        OnnxBatch batch = QuantizationGraphs.Batches(1, 1, 5, 4)[0], labelled = new(batch.Inputs[0].Values, 5, 4) { Labels = Classes(Outputs(both, batch)["logits"], 3) };
        Assert.Equal(new QuantizationEffect(0, 1, 1), OnnxSensitivity.Compare(both, both, [labelled], 1));
        Assert.Equal(new QuantizationEffect(0, double.NaN, null), OnnxSensitivity.Compare(number, number, [batch], 1));
        Contains("no float output of the model has an axis of classes", () => OnnxSensitivity.Compare(number, number, [labelled], 1));
        Contains("have 4 labels, but the model's first float output with an axis of classes has 5 rows", () => OnnxSensitivity.Compare(both, both, [new OnnxBatch(batch.Inputs[0].Values, 5, 4) { Labels = new long[4] }], 1));
    }

    [Fact]
    public void Groups_of_ones_own_get_nodes_or_an_error()
    {
        string path = Saved(Ruined());
        OnnxBatch[] calibration = QuantizationGraphs.Batches(2, 1, 4, 3, 8, 8);
        SensitivityReport Measure(params (string Name, string Pattern)[] groups) => OnnxSensitivity.Measure(path, calibration, calibration, _options, groups.ToDictionary(group => group.Name, group => group.Pattern));
        Assert.Equal([("front", "group"), ("fc", "layer")], Measure(("front", "*d/Conv")).Rows.Select(row => (row.Name, row.Kind)));
        Assert.Equal("groups", Assert.Throws<ArgumentException>(() => Measure(("none", "stem*"))).ParamName);
        Contains("'stem*', which no node matches", () => Measure(("none", "stem*")));
        Contains("'bad/*', but earlier groups hold all nodes", () => Measure(("front", "*/Conv"), ("late", "bad/*")));
    }

    [Fact]
    public void Batches_that_do_not_fit_name_the_callers_argument()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), target = _folder.File("int8.onnx");
        OnnxBatch wrong = QuantizationGraphs.Batches(1, 1, 1, 4, 16, 16)[0], unknown = OnnxBatch.Of(("image", new float[768], [1, 3, 16, 16]));
        foreach (OnnxBatch?[] batches in new OnnxBatch?[][] { [], [wrong], [unknown], [null] })
        {
            Assert.Equal("calibration", Assert.ThrowsAny<ArgumentException>(() => OnnxQuantizer.Quantize(path, target, batches!, _options)).ParamName);
            Assert.Equal("evaluation", Assert.ThrowsAny<ArgumentException>(() => OnnxSensitivity.Measure(path, Calibration(), batches!, _options)).ParamName);
            QuantizationBudget budget = new() { Evaluation = batches!, MaxRelativeError = 0.1 };
            Assert.Equal("budget", Assert.ThrowsAny<ArgumentException>(() => OnnxQuantizer.QuantizeWithin(path, target, Calibration(), budget, _options)).ParamName);
        }

        OnnxBatch nan = new([.. Enumerable.Repeat(float.NaN, 768)], 1, 3, 16, 16);
        Contains("In calibration batch 1, counted from 0, the value 'input' holds NaN", () => OnnxQuantizer.Quantize(path, target, [Calibration()[0], nan], _options));
    }

    /// <summary>A resize that computes its factors: they are no values to round.</summary>
    [Fact]
    public void Factors_of_a_resize_are_not_quantized()
    {
        QuantizationGraphs g = new(19, 17, 1, 3, 8, 8);
        string factors = g.Node("Mul", "factors", [g.Floats("half", [0.5f, 0.5f, 1.25f, 0.875f], 4), g.Floats("two", [2], 1)]);
        string path = Saved(g.Output(g.Node("Resize", "larger", [g.Conv("conv", "input", 3, 4, 3), "", factors], Text("mode", "nearest")), 1, 4, 20, 14)), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 1, 3, 8, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal(3, report.Operators["QuantizeLinear"]);
        float[] wanted = Outputs(path, batches[0])["larger"], found = Outputs(quantized, batches[0])["larger"];
        Assert.Equal(4 * 20 * 14, found.Length);
        Assert.All(wanted.Zip(found), pair => Assert.Equal(pair.First, pair.Second, 0.1));
    }

    /// <summary>y = α x W + β b.</summary>
    [Theory]
    [InlineData(false, 0)]
    [InlineData(false, 1)]
    [InlineData(true, 0)]
    [InlineData(true, 1)]
    public void Factors_of_a_linear_layer_go_into_its_numbers(bool dynamic, int transposed)
    {
        QuantizationGraphs g = new(20, 17, -1, 16);
        string weight = transposed == 1 ? g.Noise("w", 0.3, 0, 8, 16) : g.Noise("w", 0.3, 0, 16, 8);
        g.Node("Gemm", "fc", ["input", weight, g.Noise("b", 1, 0, 8)], NodeGraph.Int("transB", transposed), Number("alpha", 0.25f), Number("beta", -3));
        string path = Saved(g.Output("fc", -1, 8)), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        QuantizationReport report = dynamic ? OnnxQuantizer.QuantizeDynamic(path, quantized, _options) : OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        Assert.All(Outputs(path, batches[0])["fc"].Zip(Outputs(quantized, batches[0])["fc"]), pair => Assert.Equal(pair.First, pair.Second, 0.03));
    }

    [Fact]
    public void A_model_with_two_inputs_gets_both_by_name()
    {
        QuantizationGraphs g = new(21, 17, -1, 3, 8, 8);
        ValueInfoProto second = g.Model.Graph.Input[0].Clone();
        second.Name = "other";
        g.Model.Graph.Input.Add(second);
        string path = Saved(g.Output(g.Node("Add", "sum", [g.Conv("left", "input", 3, 4, 3), g.Conv("right", "other", 3, 4, 1)]), -1, 4, 8, 8)), quantized = _folder.File("int8.onnx");
        Random random = new(5);
        OnnxBatch[] batches = [.. Enumerable.Range(0, 3).Select(_ => OnnxBatch.Of(("other", QuantizationGraphs.Noise(random, 768, 4), [4, 3, 8, 8]), ("input", QuantizationGraphs.Noise(random, 768), [4, 3, 8, 8])))];
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches[..2], _options);
        Assert.Equal((2, 2), (report.Convolutions, report.IntegerConvolutions));
        Assert.True(OnnxSensitivity.Compare(path, quantized, batches[2..], 1).Sqnr > 30);
        Contains("Give batches with OnnxBatch.Of", () => OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Batches(1, 1, 4, 3, 8, 8), _options));
        Contains("lacks the model's input 'other'", () => OnnxQuantizer.Quantize(path, quantized, [OnnxBatch.Of(("input", new float[768], [4, 3, 8, 8]))], _options));
    }

    [Fact]
    public void A_softmax_computes_in_float_and_hands_on_numbers_from_zero_to_one()
    {
        QuantizationGraphs g = new(22, 17, -1, 3, 8, 8);
        string x = g.Conv("conv", "input", 3, 6, 3);
        string path = Saved(g.Output(g.Node("Mul", "gated", [x, g.Node("Softmax", "softmax", [x], NodeGraph.Int("axis", 1))]), -1, 6, 8, 8)), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 3, 4, 3, 8, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches[..2], _options);
        Assert.Equal("Softmax", Assert.Single(report.Kept).Operator);
        Assert.Equal(1f / 255, new NodeGraph(OnnxModelFile.Load(quantized)).Floats("softmax_scale")![0]);
        Assert.True(OnnxSensitivity.Compare(path, quantized, batches[2..], 1).Sqnr > 30);
    }

    /// <summary>
    /// Two ruined layers on the same input: one with the larger error, on an output that nobody classifies by, and the one of the classes. Accuracy needs the second alone, so that the first, kept
    /// aside before it, goes back to the integers.
    /// </summary>
    [Fact]
    public void What_turns_out_not_to_be_needed_goes_back_to_integers()
    {
        QuantizationGraphs g = new(23, 17, -1, 8);
        foreach ((string name, int outputs, double size) in new[] { ("classes", 5, 1.0), ("more", 6, 100.0) })
        {
            float[] weights = QuantizationGraphs.Noise(new Random(outputs), 8 * outputs, size);
            // The last input is always zero, and its weights leave the others no steps.
            weights.AsSpan(7 * outputs).Fill((float)(1e4 * size));
            g.Output(g.Node("MatMul", name, ["input", g.Floats($"{name}.weight", weights, 8, outputs)]), -1, outputs);
        }

        string path = Saved(g.Model), quantized = _folder.File("int8.onnx");
        OnnxBatch[] batches = [.. QuantizationGraphs.Batches(6, 3, 40, 8).Select(batch =>
        {
            float[] values = batch.Inputs[0].Values;
            for (int i = 7; i < values.Length; i += 8) values[i] = 0;
            return new OnnxBatch(values, 40, 8) { Labels = Classes(Outputs(path, batch)["classes"], 5) };
        })];
        SensitivityReport sensitivity = OnnxSensitivity.Measure(path, batches[..1], batches[1..], _options);
        Assert.Equal(["more", "classes"], sensitivity.Rows.OrderByDescending(row => row.Only.RelativeError).Select(row => row.Name));
        Assert.True(sensitivity.All.Accuracy < 0.9, $"{sensitivity.All.Accuracy}");
        QuantizationReport report = OnnxQuantizer.QuantizeWithin(path, quantized, batches[..1], new QuantizationBudget { Evaluation = batches[1..], MaxAccuracyLoss = 0 }, _options);
        Assert.Equal(["classes"], report.FallenBack);
        Assert.Equal((2, 1), (report.Products, report.IntegerProducts));
        Assert.Equal(1, OnnxSensitivity.Compare(path, quantized, batches[1..], 1).Accuracy);

        QuantizationReport strict = OnnxQuantizer.QuantizeWithin(
            path, quantized, batches[..1], new QuantizationBudget { Evaluation = batches[1..], MaxAccuracyLoss = 0, MaxRelativeError = 0.01 }, _options);
        Assert.Equal(["more", "classes"], strict.FallenBack);
    }

    private static long[] Classes(float[] logits, int classes) => [.. logits.Chunk(classes).Select(row => (long)Array.IndexOf(row, row.Max()))];

    private static AttributeProto Number(string name, float value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Float, F = value };

    private static AttributeProto Text(string name, string value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.String, S = Google.Protobuf.ByteString.CopyFromUtf8(value) };

    private static Dictionary<string, float[]> Outputs(string path, OnnxBatch batch)
    {
        Dictionary<string, float[]> outputs = [];
        using RuntimeModel runtime = new(OnnxModelFile.Load(path), 1);
        runtime.Run(batch, (name, values, _) => outputs[name] = values.ToArray());
        return outputs;
    }

    private static QuantizationEffect Effect(string path, string quantized, OnnxBatch[]? evaluation = null)
        => new ModelEvaluation(OnnxModelFile.Load(path), evaluation ?? Evaluation(), 1).Measure(OnnxModelFile.Load(quantized));

    /// <summary>
    /// Two convolutions and a linear layer. A channel between the convolutions is always zero, and the second one's weights for it are ten thousand times the others: they change nothing, but
    /// leave the others no steps.
    /// </summary>
    private static ModelProto Ruined()
    {
        QuantizationGraphs g = new(10, 17, -1, 3, 8, 8);
        float[] first = QuantizationGraphs.Noise(new Random(3), 8 * 3, 0.5), second = QuantizationGraphs.Noise(new Random(1), 8 * 8, 0.3);
        first.AsSpan(7 * 3).Clear();
        for (int i = 7; i < second.Length; i += 8) second[i] = 3000;
        string x = g.Node("Relu", "relu", [g.Node("Conv", "good", ["input", g.Floats("good.weight", first, 8, 3, 1, 1)])]);
        x = g.Node("Conv", "bad", [x, g.Floats("bad.weight", second, 8, 8, 1, 1)]);
        x = g.Node("Flatten", "flat", [g.Node("GlobalAveragePool", "pool", [x])]);
        return g.Output(g.Node("Gemm", "fc", [x, g.Noise("fc.weight", 1, 0, 8, 5)]), -1, 5);
    }

    private string Saved(ModelProto model, string name = "float.onnx")
    {
        string path = _folder.File(name);
        OnnxModelFile.Save(model, path);
        return path;
    }
}
