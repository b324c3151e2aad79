using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What quantization refuses, when, and in which words.</summary>
public sealed class QuantizationErrorTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1 };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Errors_come_before_anything_is_written()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), target = _folder.PathOf("int8.onnx");
        Contains("no calibration batch", () => OnnxQuantizer.Quantize(path, target, [], _options));
        Contains("takes (batch, 3, 16, 16)", () => OnnxQuantizer.Quantize(path, target, QuantizationGraphs.Batches(1, 1, 1, 4, 16, 16), _options));
        Contains("no input 'image'", () => OnnxQuantizer.Quantize(path, target, [OnnxBatch.Of(("image", new float[768], [1, 3, 16, 16]))], _options));
        Contains("'input' holds NaN", () => OnnxQuantizer.Quantize(path, target, [new OnnxBatch([.. Enumerable.Repeat(float.NaN, 768)], 1, 3, 16, 16)], _options));
        Contains("'nothing*', which no node matches", () => OnnxQuantizer.Quantize(path, target, QuantizationGraphs.Calibration(), _options with { ExcludeNames = ["nothing*"] }));
        Contains("not all batches", () => OnnxQuantizer.QuantizeWithin(path, target, QuantizationGraphs.Calibration(), new QuantizationBudget { Evaluation = QuantizationGraphs.Evaluation(), MaxAccuracyLoss = 0.01 }, _options));
        Contains("no limit", () => OnnxQuantizer.QuantizeWithin(path, target, QuantizationGraphs.Calibration(), new QuantizationBudget { Evaluation = QuantizationGraphs.Evaluation() }, _options));
        Contains("Percentile is 20", () => OnnxQuantizer.Quantize(path, target, QuantizationGraphs.Calibration(), _options with { Percentile = 20 }));
        Contains("its product must be their number", () => _ = new OnnxBatch(new float[5], 2, 3));
        ModelProto old = QuantizationGraphs.Cbam(1);
        old.OpsetImport[0].Version = 8;
        Contains("operator set 8", () => OnnxQuantizer.Quantize(Saved(old, "old.onnx"), target, QuantizationGraphs.Calibration(), _options));
        old.OpsetImport[0].Version = 17;
        old.MetadataProps.Clear();
        Contains("names no attention", () => OnnxQuantizer.Quantize(Saved(old, "plain.onnx"), target, QuantizationGraphs.Calibration(), _options with { ExcludeAttentions = true }));
        QuantizationGraphs convolution = new(1, 17, 1, 3, 8, 8);
        Contains("no linear layer", () => OnnxQuantizer.QuantizeDynamic(Saved(convolution.Output(convolution.Conv("c", "input", 3, 4, 1), 1, 4, 8, 8), "conv.onnx"), target, _options));
        string text = _folder.PathOf("text.onnx");
        File.WriteAllText(text, "this is no model, it is a text of some length");
        Assert.Throws<InvalidDataException>(() => OnnxQuantizer.Quantize(text, target, QuantizationGraphs.Calibration(), _options));
        Assert.Throws<FileNotFoundException>(() => OnnxQuantizer.Quantize(_folder.PathOf("absent.onnx"), target, QuantizationGraphs.Calibration(), _options));
        Assert.False(File.Exists(target));

        OnnxQuantizer.Quantize(path, target, QuantizationGraphs.Calibration(), _options);
        Contains("quantized already", () => OnnxQuantizer.Quantize(target, _folder.PathOf("again.onnx"), QuantizationGraphs.Calibration(), _options));
        Assert.DoesNotContain(_folder.Files(), file => file.EndsWith(".tmp", StringComparison.Ordinal));
    }

    [Fact]
    public void Paths_are_checked_before_calibration()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), absent = Path.Combine(_folder.PathOf("absent"), "int8.onnx");
        QuantizationBudget budget = new() { Evaluation = QuantizationGraphs.Evaluation(), MaxRelativeError = 0.1 };
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
        Assert.Contains("ONNX Runtime does not load the model", Assert.Throws<InvalidDataException>(() => OnnxQuantizer.Quantize(path, _folder.PathOf("int8.onnx"), batches, _options)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => OnnxSensitivity.Compare(path, path, batches, 1));
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.NegativeInfinity)]
    public void Weights_that_are_no_numbers_are_not_quantized_while_running(float wrong)
    {
        QuantizationGraphs g = new(1, 17, -1, 2);
        string path = Saved(g.Output(g.Node("MatMul", "fc", ["input", g.Floats("fc.weight", [1, wrong, 2, 3], 2, 2)]), -1, 2)), target = _folder.PathOf("int8.onnx");
        Contains("The weight 'fc.weight' of 'fc/MatMul' holds NaN or infinity", () => OnnxQuantizer.QuantizeDynamic(path, target, _options));
        Assert.False(File.Exists(target));
    }

    [Fact]
    public void Batches_that_do_not_fit_name_the_callers_argument()
    {
        string path = Saved(QuantizationGraphs.Cbam(1)), target = _folder.PathOf("int8.onnx");
        OnnxBatch wrong = QuantizationGraphs.Batches(1, 1, 1, 4, 16, 16)[0], unknown = OnnxBatch.Of(("image", new float[768], [1, 3, 16, 16]));
        foreach (OnnxBatch?[] batches in new OnnxBatch?[][] { [], [wrong], [unknown], [null] })
        {
            Assert.Equal("calibration", Assert.ThrowsAny<ArgumentException>(() => OnnxQuantizer.Quantize(path, target, batches!, _options)).ParamName);
            Assert.Equal("evaluation", Assert.ThrowsAny<ArgumentException>(() => OnnxSensitivity.Measure(path, QuantizationGraphs.Calibration(), batches!, _options)).ParamName);
            QuantizationBudget budget = new() { Evaluation = batches!, MaxRelativeError = 0.1 };
            Assert.Equal("budget", Assert.ThrowsAny<ArgumentException>(() => OnnxQuantizer.QuantizeWithin(path, target, QuantizationGraphs.Calibration(), budget, _options)).ParamName);
        }

        OnnxBatch nan = new([.. Enumerable.Repeat(float.NaN, 768)], 1, 3, 16, 16);
        Contains("In calibration batch 1, counted from 0, the value 'input' holds NaN", () => OnnxQuantizer.Quantize(path, target, [QuantizationGraphs.Calibration()[0], nan], _options));
    }

    private static void Contains(string part, Action action) => Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(action).Message, StringComparison.Ordinal);

    private string Saved(ModelProto model, string name = "float.onnx")
    {
        string path = _folder.PathOf(name);
        OnnxModelFile.Save(model, path);
        return path;
    }
}
