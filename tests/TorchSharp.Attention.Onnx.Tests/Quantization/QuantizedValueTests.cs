using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What eight-bit files compute, number by number.</summary>
public sealed class QuantizedValueTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1 };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>The integer kernel against sums written out, from the file's own numbers of eight bits.</summary>
    [Fact]
    public void An_integer_convolution_is_the_sum_of_its_products()
    {
        QuantizationGraphs g = new(2, 17, 1, 3, 6, 6);
        string path = Saved(g.Output(g.Node("Relu", "relu", [g.Conv("conv", "input", 3, 4, 3)]), 1, 4, 6, 6)), quantized = _folder.PathOf("int8.onnx");
        Assert.Equal(1, OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Batches(3, 4, 1, 3, 6, 6), _options).IntegerConvolutions);
        ModelProto model = OnnxModelFile.Load(quantized);
        NodeGraph graph = new(model);
        AffineParameters input = Parameters("input"), output = Parameters("relu");
        float[] weights = Dequantized("conv.weight", 27), bias = Dequantized("conv.bias", 1);
        OnnxBatch batch = QuantizationGraphs.Batches(4, 1, 1, 3, 6, 6)[0];
        float[] x = [.. batch.Inputs[0].Values.Select(value => input.Dequantize(input.Quantize(value)))], found = [];
        using (OnnxSession runtime = new(model, 1)) runtime.Run(batch, (_, values, _) => found = values.ToArray());
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
            int size = values.DataType == (int)TensorProto.Types.DataType.Uint8 ? 1 : 4;
            byte[] bytes = values.RawData.ToByteArray();
            return [.. Enumerable.Range(0, bytes.Length / size).Select(i => (size == 1 ? bytes[i] - 128 : BitConverter.ToInt32(bytes, 4 * i)) * scales[i / inner])];
        }
    }

    [Fact]
    public void The_file_says_what_the_kernels_compute()
    {
        string quantized = _folder.PathOf("int8.onnx");
        OnnxQuantizer.Quantize(Saved(QuantizationGraphs.Cbam(5)), quantized, QuantizationGraphs.Calibration(), _options);
        ModelProto model = OnnxModelFile.Load(quantized);
        OnnxBatch batch = QuantizationGraphs.Evaluation()[0];
        float[] literal = [], fused = [];
        using (OnnxSession runtime = new(model, 1, GraphOptimizationLevel.ORT_DISABLE_ALL)) runtime.Run(batch, (_, values, _) => literal = values.ToArray());
        using (OnnxSession runtime = new(model, 1)) runtime.Run(batch, (_, values, _) => fused = values.ToArray());
        double signal = literal.Sum(value => (double)value * value), noise = literal.Zip(fused).Sum(pair => Math.Pow(pair.First - pair.Second, 2));
        Assert.True(noise < signal * 1e-3, $"{noise} of {signal}");
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
        string path = Saved(g.Output("gate", 1, 1, 4, 4)), quantized = _folder.PathOf("int8.onnx");
        // The first channel is the signal; the second, times six, opens the gate: up to a half here, and almost wholly in use.
        OnnxBatch low = new([.. Enumerable.Range(0, 16).Select(i => (i / 7.5f) - 1), .. Enumerable.Range(0, 16).Select(i => (i / 15f) - 1)], 1, 2, 4, 4);
        OnnxBatch high = new([.. Enumerable.Repeat(1f, 32)], 1, 2, 4, 4);
        OnnxQuantizer.Quantize(path, quantized, [low], _options with { Sigmoid = sigmoid });
        float[] gates = QuantizationGraphs.Outputs(quantized, high)["gate"];
        Assert.Equal(16, gates.Length);
        Assert.All(gates, gate => Assert.Equal(open, gate, 0.004));
    }

    /// <summary>
    /// The same where a gate reaches the multiplication through arithmetic: an identity start, 1 + α (σ − 1); BAM's 1 + σ, here with a signal half as large; a product and
    /// a maximum of two sigmoids; a mean over positions of one. In float, without a range of its own, it opens as far as its input was seen to go, and so stays in float to the end.
    /// </summary>
    [Theory]
    [InlineData("identity", SigmoidQuantization.FixedRange, 0.9975)]
    [InlineData("identity", SigmoidQuantization.None, 0.5)]
    [InlineData("identity", SigmoidQuantization.Calibrated, 0.5)]
    [InlineData("one more", SigmoidQuantization.FixedRange, 1.9975)]
    [InlineData("one more", SigmoidQuantization.None, 1.5)]
    [InlineData("product", SigmoidQuantization.FixedRange, 0.995)]
    [InlineData("product", SigmoidQuantization.None, 0.25)]
    [InlineData("product", SigmoidQuantization.Calibrated, 0.25)]
    [InlineData("maximum", SigmoidQuantization.FixedRange, 0.9975)]
    [InlineData("maximum", SigmoidQuantization.None, 0.5)]
    [InlineData("mean", SigmoidQuantization.FixedRange, 0.9975)]
    [InlineData("where", SigmoidQuantization.FixedRange, 0.9975)]
    [InlineData("where", SigmoidQuantization.None, 0.5)]
    [InlineData("clip", SigmoidQuantization.FixedRange, 0.9975)]
    [InlineData("sum", SigmoidQuantization.None, 0.5)]
    public void A_factor_made_of_gates_opens_as_far_as_they_do(string form, SigmoidQuantization sigmoid, double open)
    {
        QuantizationGraphs g = new(11, 17, 1, 2, 4, 4);
        string signal = g.Node("Conv", "conv", ["input", g.Floats("w", [1, 0], 1, 2, 1, 1)]), weight = g.Floats("v", [0, 6], 1, 2, 1, 1);
        string gate = g.Node("Sigmoid", "gate", [g.Node("Conv", "fc", ["input", weight])]), one = g.Floats("one", [1]);
        string factor = form switch
        {
            "identity" => g.Node("Add", "blended", [g.Node("Mul", "scaled", [g.Node("Add", "less", [gate, g.Floats("minus", [-1])]), g.Floats("alpha", [1])]), one]),
            "one more" => g.Node("Add", "more", [one, gate]),
            "product" => g.Node("Mul", "both", [gate, Second()]),
            "maximum" => g.Node("Max", "larger", [gate, Second()]),
            "where" => g.Node("Where", "chosen", [g.Node("GreaterOrEqual", "positive", [signal, one]), Second(), gate]),
            "clip" => g.Node("Clip", "clipped", [gate, g.Floats("floor", [0.1f])]),
            "sum" => g.Node("ReduceSum", "sum", [gate, Axis()]),
            _ => g.Node("ReduceMean", "mean", [gate], NodeGraph.Ints("axes", 2, 3)),
        };
        string path = Saved(g.Output(g.Node("Mul", "gated", [signal, factor]), 1, 1, 4, 4)), quantized = _folder.PathOf("int8.onnx");

        // The signal reaches 4 and the gate a half here; in use 0.9 and all of it, so that the product stays within what calibration saw.
        OnnxBatch low = new([.. Enumerable.Range(0, 16).Select(i => (i / 1.875f) - 4), .. Enumerable.Range(0, 16).Select(i => (i / 15f) - 1)], 1, 2, 4, 4);
        float small = form == "mean" ? 0.4f : 0.9f;
        OnnxBatch high = new([.. Enumerable.Repeat(small, 16), .. Enumerable.Repeat(1f, 16)], 1, 2, 4, 4);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, [low], _options with { Sigmoid = sigmoid });
        Assert.All(QuantizationGraphs.Outputs(quantized, high)["gated"], value => Assert.Equal(open * small, value, 0.03));
        if (sigmoid == SigmoidQuantization.None) Assert.DoesNotContain(report.RuntimeOperators.Keys, op => op is "com.microsoft.QLinearMul" or "com.microsoft.QLinearAdd");

        string Axis()
        {
            g.Model.Graph.Initializer.Add(NodeGraph.Tensor<long>("axis", TensorProto.Types.DataType.Int64, [1L], 1));
            return "axis";
        }

        string Second() => g.Node("Sigmoid", "gate2", [g.Node("Conv", "fc2", ["input", weight])]);
    }

    /// <summary>A bias that runs along the rows of a Gemm is none of its outputs'.</summary>
    [Fact]
    public void A_bias_along_the_rows_is_added_along_the_rows()
    {
        QuantizationGraphs g = new(12, 17, 8, 16);
        string path = Saved(g.Output(g.Node("Gemm", "fc", ["input", g.Noise("fc.weight", 0.3, 0, 16, 8), g.Floats("rows", [.. Enumerable.Range(0, 8).Select(i => 10f * i)], 8, 1)]), 8, 8));
        string quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 8, 16);
        OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.All(QuantizationGraphs.Outputs(path, batches[0])["fc"].Zip(QuantizationGraphs.Outputs(quantized, batches[0])["fc"]), pair => Assert.Equal(pair.First, pair.Second, 0.3));
    }

    /// <summary>Weights beyond what a message holds go to the runtime as files; here every model's do.</summary>
    [Fact]
    public void Large_models_reach_the_runtime_as_files()
    {
        string path = Saved(QuantizationGraphs.Cbam(7)), quantized = _folder.PathOf("int8.onnx"), again = _folder.PathOf("again.onnx");
        QuantizationReport expected = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Calibration(), _options);
        long most = OnnxSession.MostInMemory;
        try
        {
            OnnxSession.MostInMemory = -1;
            QuantizationReport report = OnnxQuantizer.Quantize(path, again, QuantizationGraphs.Calibration(), _options);
            Assert.Equal(expected.RuntimeOperators, report.RuntimeOperators);
            Assert.Equal(File.ReadAllBytes(quantized), File.ReadAllBytes(again));
            Assert.True(OnnxSensitivity.Compare(path, again, QuantizationGraphs.Evaluation(), threads: 1).Sqnr > 20);
        }
        finally
        {
            OnnxSession.MostInMemory = most;
        }
    }

    /// <summary>The fixed range of a gate's input leaves a ReLU in front of it what it does.</summary>
    [Fact]
    public void A_gate_behind_a_relu_is_a_half_open_at_least()
    {
        QuantizationGraphs g = new(11, 17, 1, 1, 4, 4);
        string relu = g.Node("Relu", "relu", [g.Node("Conv", "conv", ["input", g.Floats("w", [1], 1, 1, 1, 1)])]);
        string path = Saved(g.Output(g.Node("Sigmoid", "gate", [relu]), 1, 1, 4, 4)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch batch = new([.. Enumerable.Range(0, 16).Select(i => (i * 0.5f) - 4)], 1, 1, 4, 4);
        Assert.False(OnnxQuantizer.Quantize(path, quantized, [batch], _options).Operators.ContainsKey("Relu"));
        Assert.All(QuantizationGraphs.Outputs(path, batch)["gate"].Zip(QuantizationGraphs.Outputs(quantized, batch)["gate"]), pair => Assert.Equal(pair.First, pair.Second, 0.01));
    }

    [Fact]
    public void A_value_that_is_also_an_output_is_not_cut_to_what_sigmoids_read()
    {
        QuantizationGraphs g = new(11, 17, 1, 1, 4, 4);
        string x = g.Node("Conv", "conv", ["input", g.Floats("w", [1], 1, 1, 1, 1)]);
        g.Output(g.Node("Sigmoid", "gate", [x]), 1, 1, 4, 4);
        string path = Saved(g.Output(x, 1, 1, 4, 4)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch wide = new([.. Enumerable.Range(0, 16).Select(i => (i * 4f) - 30)], 1, 1, 4, 4);
        OnnxQuantizer.Quantize(path, quantized, [wide], _options);
        Assert.All(QuantizationGraphs.Outputs(quantized, wide)["conv"].Zip(wide.Inputs[0].Values), pair => Assert.Equal(pair.Second, pair.First, 0.13));
    }

    /// <summary>A linear layer that hands over floats has no steps to cut them off with.</summary>
    [Theory]
    [InlineData("Gemm")]
    [InlineData("MatMul")]
    public void A_relu_behind_a_last_linear_layer_stays(string op)
    {
        QuantizationGraphs g = new(12, 17, -1, 16);
        string path = Saved(g.Output(g.Node("Relu", "relu", [g.Node(op, "fc", ["input", g.Noise("fc.weight", 0.3, 0, 16, 8)])]), -1, 8)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        float[] wanted = QuantizationGraphs.Outputs(path, batches[0])["relu"], found = QuantizationGraphs.Outputs(quantized, batches[0])["relu"];
        Assert.Contains(wanted, value => value == 0);
        Assert.All(wanted.Zip(found), pair => Assert.Equal(pair.First, pair.Second, 0.15));
        Assert.All(found, value => Assert.True(value >= 0, $"{value}"));
    }

    [Fact]
    public void A_clip_between_a_linear_layer_and_what_stays_in_float_stays()
    {
        QuantizationGraphs g = new(13, 17, -1, 16);
        string clipped = g.Node("Clip", "clip", [g.Node("Gemm", "fc", ["input", g.Noise("fc.weight", 1, 0, 16, 8)]), g.Floats("least", [-0.5f]), g.Floats("most", [0.5f])]);
        string path = Saved(g.Output(g.Node("Softmax", "softmax", [clipped], NodeGraph.Int("axis", 1)), -1, 8)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        OnnxQuantizer.Quantize(path, quantized, batches, _options);
        float[] found = QuantizationGraphs.Outputs(quantized, batches[0])["softmax"];
        Assert.All(QuantizationGraphs.Outputs(path, batches[0])["softmax"].Zip(found), pair => Assert.Equal(pair.First, pair.Second, 0.02));
        // e times as likely at most, as far as the clip lets them apart.
        foreach (float[] row in found.Chunk(8)) Assert.InRange(row.Max() / row.Min(), 1, 2.72);
    }

    [Fact]
    public void A_relu_that_is_an_output_and_goes_on_is_right_in_both()
    {
        QuantizationGraphs g = new(14, 17, -1, 16);
        string relu = g.Node("Relu", "relu", [g.Node("Gemm", "fc1", ["input", g.Noise("fc1.weight", 0.3, 0, 16, 8)])]);
        g.Output(relu, -1, 8);
        string path = Saved(g.Output(g.Node("Gemm", "fc2", [relu, g.Noise("fc2.weight", 0.3, 0, 8, 4)]), -1, 4)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        Assert.Equal(2, OnnxQuantizer.Quantize(path, quantized, batches, _options).IntegerProducts);
        Dictionary<string, float[]> wanted = QuantizationGraphs.Outputs(path, batches[0]), found = QuantizationGraphs.Outputs(quantized, batches[0]);
        foreach (string output in new[] { "relu", "fc2" }) Assert.All(wanted[output].Zip(found[output]), pair => Assert.Equal(pair.First, pair.Second, 0.2));
        Assert.All(found["relu"], value => Assert.True(value >= 0, $"{value}"));
    }

    [Fact]
    public void A_linear_layer_whose_relu_goes_on_as_integers_takes_it_in()
    {
        QuantizationGraphs g = new(14, 17, -1, 16);
        string relu = g.Node("Relu", "relu", [g.Node("Gemm", "fc1", ["input", g.Noise("fc1.weight", 0.3, 0, 16, 8)])]);
        string path = Saved(g.Output(g.Node("Gemm", "fc2", [relu, g.Noise("fc2.weight", 0.3, 0, 8, 4)]), -1, 4)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        Assert.False(OnnxQuantizer.Quantize(path, quantized, batches, _options).Operators.ContainsKey("Relu"));
        Assert.All(QuantizationGraphs.Outputs(path, batches[0])["fc2"].Zip(QuantizationGraphs.Outputs(quantized, batches[0])["fc2"]), pair => Assert.Equal(pair.First, pair.Second, 0.1));
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

    /// <summary>A resize that computes its factors: they are no values to round.</summary>
    [Fact]
    public void Factors_of_a_resize_are_not_quantized()
    {
        QuantizationGraphs g = new(19, 17, 1, 3, 8, 8);
        string factors = g.Node("Mul", "factors", [g.Floats("half", [0.5f, 0.5f, 1.25f, 0.875f], 4), g.Floats("two", [2], 1)]);
        string path = Saved(g.Output(g.Node("Resize", "larger", [g.Conv("conv", "input", 3, 4, 3), "", factors], Text("mode", "nearest")), 1, 4, 20, 14)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 1, 3, 8, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal(3, report.Operators["QuantizeLinear"]);
        float[] wanted = QuantizationGraphs.Outputs(path, batches[0])["larger"], found = QuantizationGraphs.Outputs(quantized, batches[0])["larger"];
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
        string path = Saved(g.Output("fc", -1, 8)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 20, 16);
        QuantizationReport report = dynamic ? OnnxQuantizer.QuantizeDynamic(path, quantized, _options) : OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        Assert.All(QuantizationGraphs.Outputs(path, batches[0])["fc"].Zip(QuantizationGraphs.Outputs(quantized, batches[0])["fc"]), pair => Assert.Equal(pair.First, pair.Second, 0.03));
    }

    [Fact]
    public void A_model_with_two_inputs_gets_both_by_name()
    {
        QuantizationGraphs g = new(21, 17, -1, 3, 8, 8);
        ValueInfoProto second = g.Model.Graph.Input[0].Clone();
        second.Name = "other";
        g.Model.Graph.Input.Add(second);
        string path = Saved(g.Output(g.Node("Add", "sum", [g.Conv("left", "input", 3, 4, 3), g.Conv("right", "other", 3, 4, 1)]), -1, 4, 8, 8)), quantized = _folder.PathOf("int8.onnx");
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
        string path = Saved(g.Output(g.Node("Mul", "gated", [x, g.Node("Softmax", "softmax", [x], NodeGraph.Int("axis", 1))]), -1, 6, 8, 8)), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 3, 4, 3, 8, 8);
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches[..2], _options);
        Assert.Equal("Softmax", Assert.Single(report.FloatNodes).Operator);
        Assert.Equal(1f / 255, new NodeGraph(OnnxModelFile.Load(quantized)).Floats("softmax_scale")![0]);
        Assert.True(OnnxSensitivity.Compare(path, quantized, batches[2..], 1).Sqnr > 30);
    }

    private static void Contains(string part, Action action) => Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(action).Message, StringComparison.Ordinal);

    private static AttributeProto Number(string name, float value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Float, F = value };

    private static AttributeProto Text(string name, string value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.String, S = Google.Protobuf.ByteString.CopyFromUtf8(value) };

    private string Saved(ModelProto model, string name = "float.onnx")
    {
        string path = _folder.PathOf(name);
        OnnxModelFile.Save(model, path);
        return path;
    }
}
