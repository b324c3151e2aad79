using Microsoft.ML.OnnxRuntime;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>The C# of docs/quantization.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class QuantizationPageTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_page_shows_what_runs_here() => DocSnippets.AreShown("docs/quantization.md");

    [Fact]
    public void Its_snippets_run()
    {
        manual_seed(5);
        using DisposeScope scope = NewDisposeScope();
        string floatPath = _folder.PathOf("float.onnx"), int8Path = _folder.PathOf("int8.onnx");
        using ResNet network = new ResNetOptions
        {
            Layers = [1, 1],
            StagePlanes = [8, 16],
            StemWidth = 8,
            Classes = 4,
            Stem = ResNetStem.Small,
            Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }),
        }.Create();
        ExportTests.Disturb(network);
        Tensor example = randn(1, 3, 16, 16), testImages = randn(64, 3, 16, 16), testLabels = randint(4, [64], dtype: ScalarType.Int64);
        Tensor[] images = [randn(16, 3, 16, 16), randn(16, 3, 16, 16)];

        // begin quantize
        network.ExportOnnx(floatPath, example);
        OnnxBatch[] calibration = [.. images.Select(batch => OnnxBatch.From(batch))];   // some hundred images, normalised as in training
        QuantizationReport report = OnnxQuantizer.Quantize(floatPath, int8Path, calibration);
        Console.WriteLine(report);                                                      // size, what runs as integers, what stays in float and why
        // end quantize
        Assert.Equal(report.Convolutions, report.IntegerConvolutions);

        // begin run
        using InferenceSession session = new(int8Path);
        using OrtValue input = OrtValue.CreateTensorValueFromMemory(new float[1 * 3 * 16 * 16], [1, 3, 16, 16]);
        using var outputs = session.Run(new RunOptions(), ["input"], [input], ["output"]);
        float[] logits = outputs[0].GetTensorDataAsSpan<float>().ToArray();
        // end run
        Assert.Equal(4, logits.Length);

        // begin sensitivity
        OnnxBatch[] evaluation = [OnnxBatch.From(testImages, testLabels)];              // not those of calibration
        SensitivityReport sensitivity = OnnxSensitivity.Measure(floatPath, calibration, evaluation);
        Console.WriteLine(sensitivity);                                                 // ToMarkdown(), ToCsv()
        // end sensitivity
        Assert.Equal(2, sensitivity.Rows.Count(row => row.Kind == "attention"));

        // begin within
        QuantizationReport within = OnnxQuantizer.QuantizeWithin(floatPath, int8Path, calibration, new QuantizationBudget
        {
            Evaluation = evaluation,
            MaxAccuracyLoss = 0.005,      // half a percentage point
        });
        Console.WriteLine(string.Join(", ", within.FallbackParts));                        // the parts that stay in float
        // end within

        // begin options
        QuantizationOptions options = new()
        {
            Method = CalibrationMethod.Percentile,        // default MinMax
            Percentile = 99.99,
            Sigmoid = SigmoidQuantization.FixedRange,     // the default; or Calibrated, or None: in float
            ExcludeNames = ["fc/*", "layer1.*"],          // by module path and operator; a pattern without a match is an error
            ExcludeOperators = ["MaxPool"],
            ExcludeAttentions = true,                     // whole attentions in float; or ExcludeAttentionKinds = ["cbam"]
        };
        // end options
        QuantizationReport some = OnnxQuantizer.Quantize(floatPath, int8Path, calibration, options);
        Assert.Contains(some.FloatNodes, node => node.Reason == "part of an attention");

        string transformer = _folder.PathOf("transformer.onnx");
        using nn.Module<Tensor, Tensor> perceptron = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4));
        perceptron.ExportOnnx(transformer, randn(1, 32));

        // begin dynamic
        QuantizationReport linear = OnnxQuantizer.QuantizeDynamic(transformer, int8Path);   // no calibration
        // end dynamic
        Assert.Equal((2, 2), (linear.Products, linear.IntegerProducts));
    }
}
