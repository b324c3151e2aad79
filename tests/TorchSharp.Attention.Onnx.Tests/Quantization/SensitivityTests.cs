using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What parts of a network cost in eight bits, and which go back to float.</summary>
public sealed class SensitivityTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1 };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_layer_that_eight_bits_ruin_falls_back_to_float()
    {
        string path = Saved(QuantizationGraphs.Ruined()), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] evaluation = QuantizationGraphs.Batches(9, 2, 20, 3, 8, 8);
        QuantizationReport all = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Batches(2, 2, 8, 3, 8, 8), _options);
        Assert.True(QuantizationGraphs.Effect(path, quantized, evaluation).RelativeError > 0.05, "the layer is not bad enough for this test");
        QuantizationReport report = OnnxQuantizer.QuantizeWithin(
            path, quantized, QuantizationGraphs.Batches(2, 2, 8, 3, 8, 8), new QuantizationBudget { Evaluation = evaluation, MaxRelativeError = 0.05 }, _options);
        Assert.Equal(["bad"], report.FallbackParts);
        Assert.Equal(all.IntegerConvolutions - 1, report.IntegerConvolutions);
        Assert.True(QuantizationGraphs.Effect(path, quantized, evaluation).RelativeError <= 0.05);

        QuantizationReport wide = OnnxQuantizer.QuantizeWithin(
            path, quantized, QuantizationGraphs.Batches(2, 2, 8, 3, 8, 8), new QuantizationBudget { Evaluation = evaluation, MaxRelativeError = 10 }, _options);
        Assert.Empty(wide.FallbackParts);
    }

    [Fact]
    public void The_sensitivity_report_finds_the_bad_layer_and_prints_itself()
    {
        string path = Saved(QuantizationGraphs.Ruined());
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
        SensitivityReport report = OnnxSensitivity.Measure(Saved(QuantizationGraphs.Cbam(3)), QuantizationGraphs.Calibration(), QuantizationGraphs.Evaluation(), _options);
        SensitivityRow attention = Assert.Single(report.Rows, row => row.Kind == "attention");
        Assert.Equal("attn", attention.Name);
        Assert.NotNull(attention.Sigmoids);
        Assert.Equal(attention.Only, attention.Sigmoids.FixedRange);
        Assert.All(report.Rows.Where(row => row.Kind == "layer"), row => Assert.Null(row.Sigmoids));
        Assert.Equal(["stem", "conv1", "conv2", "attn", "logits"], report.Rows.Select(row => row.Name));
        Assert.All(report.Rows, row => Assert.True(row.Only.Sqnr > report.All.Sqnr - 1));
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

    [Fact]
    public void Classes_are_those_of_the_first_output_that_has_some()
    {
        QuantizationGraphs g = new(18, 17, -1, 4);
        g.Node("MatMul", "logits", ["input", g.Noise("w", 1, 0, 4, 3)]);
        g.Output(g.Node("ReduceSum", "total", ["logits"], NodeGraph.Int("keepdims", 0)));
        string number = Saved(g.Model, "number.onnx"), both = Saved(g.Output("logits", -1, 3), "both.onnx");
        OnnxBatch batch = QuantizationGraphs.Batches(1, 1, 5, 4)[0], labelled = new(batch.Inputs[0].Values, 5, 4) { Labels = QuantizationGraphs.Classes(QuantizationGraphs.Outputs(both, batch)["logits"], 3) };
        Assert.Equal(new QuantizationEffect(0, 1, 1), OnnxSensitivity.Compare(both, both, [labelled], 1));
        Assert.Equal(new QuantizationEffect(0, double.NaN, null), OnnxSensitivity.Compare(number, number, [batch], 1));
        Contains("no float output of the model has an axis of classes", () => OnnxSensitivity.Compare(number, number, [labelled], 1));
        Contains("have 4 labels, but the model's first float output with an axis of classes has 5 rows", () => OnnxSensitivity.Compare(both, both, [new OnnxBatch(batch.Inputs[0].Values, 5, 4) { Labels = new long[4] }], 1));
    }

    [Fact]
    public void Labels_are_classes_of_the_model_and_one_for_each_row_of_their_batch()
    {
        QuantizationGraphs g = new(18, 17, -1, 4);
        g.Node("MatMul", "logits", ["input", g.Noise("w", 1, 0, 4, 3)]);
        string path = Saved(g.Output("logits", -1, 3), "labels.onnx");
        OnnxBatch[] batches = QuantizationGraphs.Batches(1, 2, 5, 4);
        OnnxBatch Labelled(int batch, params long[] labels) => new(batches[batch].Inputs[0].Values, 5, 4) { Labels = labels };
        OnnxBatch good = Labelled(0, 0, 1, 2, 0, 1);
        Assert.NotNull(OnnxSensitivity.Compare(path, path, [good, Labelled(1, 2, 2, 2, 2, 2)], 1).Accuracy);
        Contains("In evaluation batch 1, counted from 0, Labels[3] is -1; the model has 3 classes, so a label is from 0 to 2.", () => OnnxSensitivity.Compare(path, path, [good, Labelled(1, 0, 0, 0, -1, 0)], 1));
        Contains("Labels[0] is 1000", () => OnnxSensitivity.Compare(path, path, [Labelled(0, 1000, 0, 0, 0, 0)], 1));
        Contains("Labels[4] is 3", () => OnnxSensitivity.Compare(path, path, [Labelled(0, 0, 0, 0, 0, 3)], 1));
        Contains("Labels[0] is 4294967296", () => OnnxSensitivity.Compare(path, path, [Labelled(0, 1L << 32, 0, 0, 0, 0)], 1));
        Contains("Evaluation batch 0, counted from 0, has 4 labels for 5 rows", () => OnnxSensitivity.Compare(path, path, [Labelled(0, 0, 0, 0, 0), Labelled(1, 0, 0, 0, 0, 0, 0)], 1));
    }

    [Fact]
    public void A_batch_without_values_says_so()
    {
        Contains("shape is (0, 3); no axis may be shorter than 1", () => _ = new OnnxBatch([], 0, 3));
        Contains("shape is (0, 3); no axis may be shorter than 1", () => OnnxBatch.From(zeros(0, 3)));
        Contains("shape is (2, -1); no axis", () => _ = new OnnxBatch([1, 2], 2, -1));
        Contains("values is empty", () => _ = new OnnxBatch([]));
        Contains("shape is (4, 3) for 2 numbers", () => _ = new OnnxBatch([1, 2], 4, 3));
        Contains("for 2 numbers; its product", () => _ = new OnnxBatch([1, 2], long.MaxValue, long.MaxValue));
    }

    [Fact]
    public void Groups_of_ones_own_get_nodes_or_an_error()
    {
        string path = Saved(QuantizationGraphs.Ruined());
        OnnxBatch[] calibration = QuantizationGraphs.Batches(2, 1, 4, 3, 8, 8);
        SensitivityReport Measure(params (string Name, string Pattern)[] groups) => OnnxSensitivity.Measure(path, calibration, calibration, _options, groups.ToDictionary(group => group.Name, group => group.Pattern));
        Assert.Equal([("front", "group"), ("fc", "layer")], Measure(("front", "*d/Conv")).Rows.Select(row => (row.Name, row.Kind)));
        Assert.Equal("groups", Assert.Throws<ArgumentException>(() => Measure(("none", "stem*"))).ParamName);
        Contains("'stem*', which no node matches", () => Measure(("none", "stem*")));
        Contains("'bad/*', but earlier groups hold all nodes", () => Measure(("front", "*/Conv"), ("late", "bad/*")));
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

        string path = Saved(g.Model), quantized = _folder.PathOf("int8.onnx");
        OnnxBatch[] batches = [.. QuantizationGraphs.Batches(6, 3, 40, 8).Select(batch =>
        {
            float[] values = batch.Inputs[0].Values;
            for (int i = 7; i < values.Length; i += 8) values[i] = 0;
            return new OnnxBatch(values, 40, 8) { Labels = QuantizationGraphs.Classes(QuantizationGraphs.Outputs(path, batch)["classes"], 5) };
        })];
        SensitivityReport sensitivity = OnnxSensitivity.Measure(path, batches[..1], batches[1..], _options);
        Assert.Equal(["more", "classes"], sensitivity.Rows.OrderByDescending(row => row.Only.RelativeError).Select(row => row.Name));
        Assert.True(sensitivity.All.Accuracy < 0.9, $"{sensitivity.All.Accuracy}");
        QuantizationReport report = OnnxQuantizer.QuantizeWithin(path, quantized, batches[..1], new QuantizationBudget { Evaluation = batches[1..], MaxAccuracyLoss = 0 }, _options);
        Assert.Equal(["classes"], report.FallbackParts);
        Assert.Equal((2, 1), (report.Products, report.IntegerProducts));
        Assert.Equal(1, OnnxSensitivity.Compare(path, quantized, batches[1..], 1).Accuracy);

        QuantizationReport strict = OnnxQuantizer.QuantizeWithin(
            path, quantized, batches[..1], new QuantizationBudget { Evaluation = batches[1..], MaxAccuracyLoss = 0, MaxRelativeError = 0.01 }, _options);
        Assert.Equal(["classes", "more"], strict.FallbackParts.Order());
    }

    private static void Contains(string part, Action action) => Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(action).Message, StringComparison.Ordinal);

    private string Saved(ModelProto model, string name = "float.onnx")
    {
        string path = _folder.PathOf(name);
        OnnxModelFile.Save(model, path);
        return path;
    }
}
