using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using Samples;
using TorchSharp.Attention;
using TorchSharp.Attention.Onnx;
using static TorchSharp.torch;

namespace Deployment;

/// <summary>One image at a time through the network, its fused copy, and its two files.</summary>
internal static class Latency
{
    /// <summary>Adds times to what training left.</summary>
    public static DeploymentResult Of(DeploymentResult result, Candidate candidate, DeploymentOptions options, long[] image)
    {
        using FeatureNetwork network = candidate.Options.Create();
        (string weights, string floatPath, string int8Path) = Training.Files(options.Out, candidate);
        network.LoadWeights(weights);
        network.eval();
        return result with { Latency = Measure(network, floatPath, int8Path, image, options), Timed = Circumstances(options) };
    }

    /// <summary>A network with weights as built: exported, quantized with noise as calibration, timed. Its outputs mean nothing.</summary>
    public static DeploymentResult OfLarge(Candidate candidate, DeploymentOptions options)
    {
        manual_seed(1);
        long[] image = [1, 3, 224, 224];
        using FeatureNetwork network = candidate.Options.Create();
        network.eval();
        (_, string floatPath, string int8Path) = Training.Files(options.Out, candidate with { Network = $"{candidate.Network}-224" });
        using Tensor example = randn(image);
        network.ExportOnnx(floatPath, example);
        QuantizationReport report = OnnxQuantizer.Quantize(floatPath, int8Path, [OnnxBatch.From(example)], new QuantizationOptions { Threads = options.Threads });
        ModelCost cost = ModelCost.Measure(network, 1, 3, 224, 224);
        return new DeploymentResult
        {
            Network = $"{candidate.Network}-224",
            Attention = candidate.Attention,
            Parameters = cost.Parameters,
            MultiplyAccumulates = cost.MultiplyAccumulates,
            Bytes = { ["float"] = report.FloatBytes, ["int8"] = report.Bytes },
            Convolutions = report.Convolutions,
            IntegerConvolutions = report.IntegerConvolutions,
            Latency = Measure(network, floatPath, int8Path, image, options),
            Timed = Circumstances(options),
        };
    }

    private static Dictionary<string, Timing> Measure(FeatureNetwork network, string floatPath, string int8Path, long[] image, DeploymentOptions options)
    {
        set_num_threads(options.Threads);
        using FeatureNetwork fused = Candidate.Fuse(network);
        using Tensor x = randn(image);
        using OrtValue values = OrtValue.CreateTensorValueFromMemory(x.data<float>().ToArray(), image);
        using OnnxClassifier whole = new(floatPath, options.Threads), small = new(int8Path, options.Threads);
        using IDisposable quiet = no_grad();
        return Timing.Measure(
            [
                ("eager", () => network.call(x).Dispose()),
                ("fused", () => fused.call(x).Dispose()),
                ("onnx", () => whole.Run(values)),
                ("int8", () => small.Run(values)),
            ],
            options.RoundsRun);
    }

    private static string Circumstances(DeploymentOptions options) => string.Create(
        CultureInfo.InvariantCulture, $"{DateTime.Today:yyyy-MM-dd}, {Environment.ProcessorCount} cores, {options.Threads} threads, {options.RoundsRun} rounds, DNNL_MAX_CPU_ISA={Environment.GetEnvironmentVariable("DNNL_MAX_CPU_ISA") ?? "(not set)"}");
}
