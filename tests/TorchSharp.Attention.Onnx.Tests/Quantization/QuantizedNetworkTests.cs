using System.Text.Json;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>From a network to an eight-bit file: exported by this library, quantized, run.</summary>
public sealed class QuantizedNetworkTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1 };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_resnet_with_squeeze_and_excitation_runs_as_integers_from_its_input_to_its_logits()
    {
        string path = Exported(AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 })), quantized = _folder.PathOf("int8.onnx");
        Assert.Equal(["layer1.0.attn", "layer2.0.attn"], AttentionsOf(path));
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, Batches(1, 4), _options);

        // Six of the blocks and the stem, one shortcut, two for each gate.
        Assert.Equal((10, 10), (report.Convolutions, report.IntegerConvolutions));
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        Assert.Equal(6, report.FoldedBatchNorms);
        Assert.Empty(report.FloatNodes);
        Assert.DoesNotContain(report.RuntimeOperators.Keys, op => op is "Conv" or "Gemm" or "MatMul" or "Sigmoid" or "Mul" or "Add" or "Relu");
        Assert.Equal((2, 2), (report.RuntimeOperators["com.microsoft.QLinearSigmoid"], report.RuntimeOperators["com.microsoft.QLinearMul"]));
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, Batches(9, 4), threads: 1);
        Assert.True(effect.Sqnr > 25, $"{effect.Sqnr} dB");
        Assert.Equal(AttentionsOf(path), AttentionsOf(quantized));
        OnnxFiles.Keep(quantized, "int8 se");
    }

    [Fact]
    public void Attentions_of_a_kind_stay_in_float()
    {
        string path = Exported(AttentionPlan.Parse("se:reduction=4@after:1; cbam:reduction=4@after:2")), quantized = _folder.PathOf("int8.onnx");
        Dictionary<string, string> kinds = JsonSerializer.Deserialize<Dictionary<string, string>>(OnnxModelFile.Load(path).MetadataProps.Single(entry => entry.Key == OnnxMetadata.KindsKey).Value)!;
        Assert.Equal(["cbam", "se"], kinds.Values.Order(StringComparer.Ordinal));
        string cbam = kinds.Single(entry => entry.Value == "cbam").Key;
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, Batches(1, 4), _options with { ExcludeAttentionKinds = ["cbam"] });
        Assert.Contains(report.FloatNodes, node => node.Name.StartsWith($"{cbam}.", StringComparison.Ordinal) && node.Reason == "part of 'cbam'");
        Assert.All(report.FloatNodes.Where(node => node.Reason == "part of 'cbam'"), node => Assert.StartsWith(cbam, node.Name, StringComparison.Ordinal));
        Assert.DoesNotContain(report.FloatNodes, node => node.Name.StartsWith(kinds.Single(entry => entry.Value == "se").Key, StringComparison.Ordinal));
        OnnxFiles.Keep(quantized, "int8 se, cbam in float");
        Assert.Contains("names cbam, se.", Assert.Throws<ArgumentException>(
            () => OnnxQuantizer.Quantize(path, quantized, Batches(1, 4), _options with { ExcludeAttentionKinds = ["eca"] })).Message.Replace("names se, cbam.", "names cbam, se.", StringComparison.Ordinal), StringComparison.Ordinal);
        string plain = Exported(AttentionPlan.None);
        Assert.Contains("names no kinds", Assert.Throws<ArgumentException>(
            () => OnnxQuantizer.Quantize(plain, quantized, Batches(1, 4), _options with { ExcludeAttentionKinds = ["se"] })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_sensitivity_report_has_a_row_for_each_attention_of_the_network()
    {
        string path = Exported(AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }));
        SensitivityReport report = OnnxSensitivity.Measure(path, Batches(1, 2), Batches(9, 2), _options);
        Assert.Equal(["layer1.0.attn", "layer2.0.attn"], report.Rows.Where(row => row.Kind == "attention").Select(row => row.Name));
        Assert.All(report.Rows, row => Assert.Equal(row.Kind == "attention", row.Sigmoids is not null));
        Assert.Equal(["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0", "fc"],
            report.Rows.Where(row => row.Kind == "layer").Select(row => row.Name).Order(StringComparer.Ordinal).OrderBy(name => name == "fc"));
        Assert.NotNull(report.AllBySigmoid);
    }

    [Fact]
    public void A_plain_network_names_no_attention()
    {
        string path = Exported(AttentionPlan.None);
        Assert.DoesNotContain(OnnxModelFile.Load(path).MetadataProps, entry => entry.Key == OnnxMetadata.AttentionsKey);
    }

    [Fact]
    public void An_attention_alone_is_one_part()
    {
        using SqueezeExcitation module = new(16);
        ExportTests.Disturb(module);
        using Tensor example = randn(1, 16, 8, 8);
        string path = _folder.PathOf("se.onnx");
        module.ExportOnnx(path, example);
        OnnxBatch[] batches = QuantizationGraphs.Batches(3, 2, 8, 16, 8, 8);
        SensitivityRow row = Assert.Single(OnnxSensitivity.Measure(path, batches, batches, _options).Rows);
        Assert.Equal(("", "attention"), (row.Name, row.Kind));
    }

    [Fact]
    public void Files_with_other_outputs_are_not_compared()
    {
        string path = Exported(AttentionPlan.None);
        QuantizationGraphs other = new(1, 17, -1, 3, 16, 16);
        OnnxModelFile.Save(other.Output(other.Conv("c", "input", 3, 4, 1), -1, 4, 16, 16), _folder.PathOf("other.onnx"));
        Assert.Contains("cannot be compared", Assert.Throws<ArgumentException>(() => OnnxSensitivity.Compare(path, _folder.PathOf("other.onnx"), Batches(1, 1), 1)).Message, StringComparison.Ordinal);
        Assert.Equal(0, OnnxSensitivity.Compare(path, path, Batches(1, 1), 1).RelativeError);
    }

    /// <summary>A linear layer over (N, L, C) is written as a product with its weight transposed.</summary>
    [Fact]
    public void Linear_layers_over_sequences_are_quantized()
    {
        manual_seed(4);
        using nn.Module<Tensor, Tensor> perceptron = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10));
        using Tensor example = randn(2, 5, 32);
        string path = _folder.PathOf("sequence.onnx"), quantized = _folder.PathOf("int8.onnx");
        perceptron.ExportOnnx(path, example);
        Assert.Equal(2, OnnxModelFile.Load(path).Graph.Node.Count(node => node.OpType == "Transpose"));
        OnnxBatch[] calibration = QuantizationGraphs.Batches(1, 2, 2, 5, 32), evaluation = QuantizationGraphs.Batches(9, 2, 2, 5, 32);
        foreach (bool calibrated in new[] { false, true })
        {
            QuantizationReport report = calibrated ? OnnxQuantizer.Quantize(path, quantized, calibration, _options) : OnnxQuantizer.QuantizeDynamic(path, quantized, _options);
            Assert.Equal((2, 2), (report.Products, report.IntegerProducts));
            QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, evaluation, 1);
            Assert.True(effect.Sqnr > 30, $"{effect.Sqnr} dB");
        }
    }

    /// <summary>Every layer of a MobileNetV2 with attention is an integer one, and its clips are ranges.</summary>
    [Fact]
    public void A_mobilenet_runs_as_integers_from_its_input_to_its_logits()
    {
        manual_seed(6);
        using MobileNetV2 model = new(new MobileNetV2Options { WidthMultiplier = 0.5, SmallImages = true, Classes = 4, Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }) });
        using Tensor example = randn(1, 3, 32, 32);
        string path = _folder.PathOf("mobilenet.onnx"), quantized = _folder.PathOf("int8.onnx");
        model.ExportOnnx(path, example);
        int convolutions = OnnxModelFile.Load(path).Graph.Node.Count(node => node.OpType == "Conv");
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, QuantizationGraphs.Batches(1, 2, 4, 3, 32, 32), _options);
        Assert.Equal((convolutions, convolutions), (report.Convolutions, report.IntegerConvolutions));
        Assert.True(convolutions > 52, $"{convolutions}");
        Assert.Equal((1, 1), (report.Products, report.IntegerProducts));
        Assert.Equal(52, report.FoldedBatchNorms);
        Assert.Empty(report.FloatNodes);
        Assert.DoesNotContain(report.RuntimeOperators.Keys, op => op is "Conv" or "Gemm" or "Clip" or "Relu" or "BatchNormalization" or "Add" or "Mul");
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, QuantizationGraphs.Batches(9, 2, 4, 3, 32, 32), threads: 1);
        Assert.True(effect.Sqnr > 20, $"{effect.Sqnr} dB");
    }

    private string Exported(AttentionPlan plan)
    {
        manual_seed(3);
        using ResNet model = new ResNetOptions
        {
            Layers = [1, 1],
            StagePlanes = [8, 16],
            StemWidth = 8,
            Classes = 4,
            Stem = ResNetStem.Small,
            Attention = plan,
        }.Create();
        ExportTests.Disturb(model);
        using Tensor example = randn(1, 3, 16, 16);
        string path = _folder.PathOf("float.onnx");
        model.ExportOnnx(path, example);
        return path;
    }

    private static string[] AttentionsOf(string path)
        => JsonSerializer.Deserialize<string[]>(OnnxModelFile.Load(path).MetadataProps.Single(entry => entry.Key == OnnxMetadata.AttentionsKey).Value)!;

    private static OnnxBatch[] Batches(int seed, int count) => QuantizationGraphs.Batches(seed, count, 16, 3, 16, 16);
}
