using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Quantities of very different size that meet in one value: boxes in pixels and probabilities.</summary>
public sealed class MixedScaleTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1, ReduceRange = true };

    private static readonly OnnxBatch[] _batches = QuantizationGraphs.Batches(2, 4, 2, 3, 8, 8);

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string> Joins => ["output", "turned", "convolution", "rectified", "stack", "where", "split and joined"];

    /// <summary>However the joined value goes on, the small part keeps its levels, and the report says what met.</summary>
    [Theory]
    [MemberData(nameof(Joins))]
    public void Small_quantities_survive_beside_large_ones(string kind)
    {
        (string path, string quantized) = (Saved(Head(kind)), _folder.PathOf("int8.onnx"));
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, _batches, _options);
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, _batches, 1);
        Assert.True(effect.WorstError < 0.05, $"{kind}: {effect}");
        Assert.Equal(kind == "split and joined" ? 2 : 1, report.Warnings.Count);
        string warning = report.Warnings[0];
        Assert.Contains("'small' spans", warning, StringComparison.Ordinal);
        Assert.Contains(warning, report.ToString(), StringComparison.Ordinal);
        Assert.Contains(report.FloatNodes, node => node.Reason.Contains("one scale would leave it", StringComparison.Ordinal) || node.Operator == "Where");
    }

    /// <summary>Boxes in pixels and probabilities of a network of one's own, exported, quantized, and within a budget.</summary>
    [Fact]
    public void A_detection_head_keeps_its_probabilities()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(4);
        using DetectionHead head = new();
        OnnxEmitters emitters = OnnxEmitters.Default.With<DetectionHead>((context, _, x) =>
        {
            OnnxValue map = context.Emit("stem", x);
            return context.Concat(1, context.Mul(context.Emit("box", map), 200), context.Sigmoid(context.Emit("cls", map)));
        });
        string path = _folder.PathOf("float.onnx"), quantized = _folder.PathOf("int8.onnx");
        head.ExportOnnx(path, randn(1, 3, 8, 8), new OnnxExportOptions { Emitters = emitters });
        OnnxBatch[] batches = [.. Enumerable.Range(0, 8).Select(_ => OnnxBatch.From(randn(1, 3, 8, 8)))];
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        Assert.Contains("Sigmoid", Assert.Single(report.Warnings), StringComparison.Ordinal);
        float[] expected = QuantizationGraphs.Outputs(path, batches[0])["output"][256..], probabilities = QuantizationGraphs.Outputs(quantized, batches[0])["output"][256..];

        // With one scale for boxes and probabilities, all probabilities are one number.
        Assert.True(probabilities.Distinct().Count() > 10, $"{probabilities.Distinct().Count()} different numbers");
        Assert.All(probabilities.Zip(expected), pair => Assert.Equal(pair.Second, pair.First, 0.03));
        QuantizationReport within = OnnxQuantizer.QuantizeWithin(path, quantized, batches[..4], new QuantizationBudget { Evaluation = batches[4..], MaxRelativeError = 0.05 }, _options);
        Assert.True(OnnxSensitivity.Compare(path, quantized, batches[4..], 1).WorstError <= 0.05);
        Assert.Equal(3, within.Convolutions);
    }

    /// <summary>A concatenation that only the output reads costs levels and gains nothing; parts of like size that a convolution reads stay integers.</summary>
    [Fact]
    public void Like_quantities_are_joined_as_integers_where_integers_read_them()
    {
        foreach ((string kind, int integer) in new[] { ("like, output", 0), ("like, convolution", 1) })
        {
            string path = Saved(Head(kind)), quantized = _folder.PathOf("int8.onnx");
            QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, _batches, _options);
            Assert.Empty(report.Warnings);
            Assert.Equal(integer, report.RuntimeOperators.GetValueOrDefault("com.microsoft.QLinearConcat"));
            Assert.True(OnnxSensitivity.Compare(path, quantized, _batches, 1).WorstError < 0.05);
            SensitivityReport rows = OnnxSensitivity.Measure(path, _batches[..2], _batches[2..], _options);
            Assert.Equal(integer, rows.Rows.Count(row => row is { Kind: "concat", Name: "joined/Concat" }));
        }
    }

    /// <summary>Channels of one convolution: the budget sees the small ones, and the report names them.</summary>
    [Fact]
    public void Small_channels_of_one_layer_are_warned_of_and_kept_within_a_budget()
    {
        QuantizationGraphs g = new(8, 17, -1, 3, 8, 8);
        string x = g.Node("Relu", "relu", [g.Conv("stem", "input", 3, 8, 3)]);
        float[] weights = QuantizationGraphs.Noise(new Random(5), 6 * 8, 0.3);
        for (int i = 0; i < 3 * 8; i++) weights[i] *= 2000;
        string path = Saved(g.Output(g.Node("Conv", "head", [x, g.Floats("head.weight", weights, 6, 8, 1, 1)]), -1, 6, 8, 8)), quantized = _folder.PathOf("int8.onnx");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, _batches[..2], _options);
        Assert.Contains("3 of its 6 channels span fewer than 4 steps (channel 3:", Assert.Single(report.Warnings), StringComparison.Ordinal);
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, _batches[2..], 1);
        Assert.True(effect.RelativeError < 0.05, $"{effect}");
        Assert.True(effect.WorstError > 0.2, $"{effect}");
        Assert.Equal("'head', entries 3, 4, 5 of axis 1", effect.WorstPart);
        QuantizationReport within = OnnxQuantizer.QuantizeWithin(path, quantized, _batches[..2], new QuantizationBudget { Evaluation = _batches[2..], MaxRelativeError = 0.05 }, _options);
        Assert.Equal(["head"], within.FallbackParts);
        Assert.True(OnnxSensitivity.Compare(path, quantized, _batches[2..], 1).WorstError <= 0.05);
    }

    /// <summary>Of two outputs the smaller one counts as much.</summary>
    [Fact]
    public void Each_output_counts_by_itself()
    {
        OutputErrors large = new("large"), small = new("small");
        large.Add([100, -100, 100, 100], [100, -100, 100, 100], [2, 2]);
        small.Add([1, 1, 0.5f, 1], [1, 1, 1, 1], [2, 2]);
        Assert.Equal(0, Assert.Single(large.Parts()).Error);
        Assert.Equal(Math.Sqrt(0.25 / 3.25), Assert.Single(small.Parts()).Error, 1e-12);

        // Channels 0 and 2 are alike; 1 is a thousandth of them, 3 is rounding; axis 2 has one entry.
        OutputErrors groups = new("y");
        groups.Add([1000, 1, 500, 1e-7f], [1000, 1.5f, 500, 5], [1, 4, 1]);
        Assert.Equal(
            [("'y'", Math.Sqrt((0.25 + 25) / 1250001)), ("'y', entries 0, 2 of axis 1", 0), ("'y', entries 1 of axis 1", 0.5)],
            groups.Parts().Select(part => (part.Part, Math.Round(part.Error, 12))).Select(part => part.Item1 == "'y'" ? ("'y'", Math.Sqrt((0.25 + 25) / 1250001)) : part));
    }

    [Fact]
    public void A_sum_that_hardly_sees_one_of_its_parts_is_named()
    {
        QuantizationGraphs g = new(9, 17, -1, 3, 8, 8);
        string large = g.Node("Conv", "large", ["input", g.Noise("large.weight", 300, 0, 4, 3, 1, 1)]), small = g.Node("Conv", "small", ["input", g.Noise("small.weight", 0.1, 0, 4, 3, 1, 1)]);
        string path = Saved(g.Output(g.Conv("last", g.Node("Add", "sum", [large, small]), 4, 4, 3), -1, 4, 8, 8));
        QuantizationReport report = OnnxQuantizer.Quantize(path, _folder.PathOf("int8.onnx"), _batches, _options);
        Assert.Contains("'sum/Add' (Add) hardly sees 'small', which spans 0.", Assert.Single(report.Warnings), StringComparison.Ordinal);
        Assert.Equal(1, report.RuntimeOperators["com.microsoft.QLinearAdd"]);
    }

    private static ModelProto Head(string kind)
    {
        QuantizationGraphs g = new(7, 17, -1, 3, 8, 8);
        string x = g.Node("Relu", "relu", [g.Conv("stem", "input", 3, 8, 3)]);
        double scale = kind.StartsWith("like", StringComparison.Ordinal) ? 1 : 600;
        string large = g.Node("Conv", "large", [x, g.Noise("large.weight", scale * 0.4, 0, 4, 8, 1, 1)]), small = g.Node("Sigmoid", "small", [g.Conv("logits", x, 8, 4, 1)]);
        string Join(int axis = 1) => g.Node("Concat", "joined", [large, small], NodeGraph.Int("axis", axis));
        switch (kind)
        {
            case "turned":
                return g.Output(g.Node("Transpose", "turned", [Join()], NodeGraph.Ints("perm", 0, 2, 3, 1)), -1, 8, 8, 8);
            case "convolution" or "like, convolution":
                return g.Output(Last(Join()), -1, 4, 8, 8);
            case "rectified":
                return g.Output(Last(g.Node("MaxPool", "pool", [g.Node("Relu", "positive", [Join()])], NodeGraph.Ints("kernel_shape", 1, 1))), -1, 4, 8, 8);
            case "stack":
                g.Model.Graph.Initializer.Add(NodeGraph.Tensor<long>("one", TensorProto.Types.DataType.Int64, [1], [1]));
                (large, small) = (g.Node("Unsqueeze", "first", [large, "one"]), g.Node("Unsqueeze", "second", [small, "one"]));
                ModelProto stacked = g.Output(Join(), -1, 2, 4, 8, 8);
                // The part's name is that of what is stacked.
                foreach (NodeProto node in stacked.Graph.Node)
                {
                    for (int i = 0; i < node.Input.Count; i++) node.Input[i] = node.Input[i] switch { "small" => "inner", "second" => "small", string other => other };
                    for (int i = 0; i < node.Output.Count; i++) node.Output[i] = node.Output[i] switch { "small" => "inner", "second" => "small", string other => other };
                }

                return stacked;
            case "where":
                g.Model.Graph.Initializer.Add(NodeGraph.Tensor<bool>("left", TensorProto.Types.DataType.Bool, [true, false, true, false, true, false, true, false], [8]));
                return g.Output(Last(g.Node("Where", "joined", ["left", large, small]), 4), -1, 4, 8, 8);
            case "split and joined":
                NodeProto split = new() { OpType = "Split", Name = "parts/Split", Input = { Join() }, Output = { "a", "b" } };
                split.Attribute.Add(NodeGraph.Int("axis", 1));
                g.Model.Graph.Node.Add(split);
                return g.Output(g.Node("Concat", "again", ["b", "a"], NodeGraph.Int("axis", 1)), -1, 8, 8, 8);
            default:
                return g.Output(Join(), -1, 8, 8, 8);
        }

        // Weights that bring both parts to one size, as trained ones do.
        string Last(string joined, int channels = 8)
        {
            float[] weights = QuantizationGraphs.Noise(new Random(3), 4 * channels, 0.5);
            if (kind == "where") return g.Node("Conv", "last", [joined, g.Floats("last.weight", weights, 4, channels, 1, 1)]);
            for (int i = 0; i < weights.Length; i++) weights[i] *= i % 8 < 4 ? (float)(1 / scale) : 1;
            return g.Node("Conv", "last", [joined, g.Floats("last.weight", weights, 4, channels, 1, 1)]);
        }
    }

    private sealed class DetectionHead : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Conv2d stem = nn.Conv2d(3, 8, 3, padding: 1), box = nn.Conv2d(8, 4, 1), cls = nn.Conv2d(8, 4, 1);

        public DetectionHead()
            : base(nameof(DetectionHead)) => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor map = stem.call(x);
            return cat([box.call(map).mul(200f), cls.call(map).sigmoid()], 1).MoveToOuterDisposeScope();
        }
    }

    private string Saved(ModelProto model)
    {
        string path = _folder.PathOf("float.onnx");
        OnnxModelFile.Save(model, path);
        return path;
    }
}
