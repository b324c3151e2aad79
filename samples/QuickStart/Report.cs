using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Samples;
using TorchSharp;
using TorchSharp.Attention;

namespace QuickStart;

/// <summary>A trained network of the comparison. Everything but <see cref="Latency"/> and the epochs' seconds repeats exactly.</summary>
internal sealed record VariantResult(Variant Variant, ResNet Network, ModelCost Cost, IReadOnlyList<EpochResult> Epochs, string Checksum)
{
    public double TestAccuracy => Epochs[^1].TestAccuracy;

    public double SecondsAnEpoch => QuickStart.Latency.Median(Epochs.Select(epoch => epoch.Seconds));

    public required Latency Latency { get; init; }
}

/// <summary>The results as a table and as results.json.</summary>
internal static class Report
{
    public const string FileName = "results.json";

    public static void Show(Screen screen, IReadOnlyList<VariantResult> results)
    {
        screen.Table(
            ["variant", "parameters", "MACs", "test accuracy", "weights", "s/epoch", "latency ms", "overhead"],
            [.. results.Select(result => new[]
            {
                result.Variant.Name,
                Text($"{result.Cost.Parameters:N0}"),
                Text($"{result.Cost.MultiplyAccumulates:N0}"),
                Text($"{result.TestAccuracy:P1}"),
                result.Checksum,
                Text($"{result.SecondsAnEpoch:F1}"),
                Text($"{result.Latency.Milliseconds:F2}"),
                result == results[0] ? "" : Text($"{result.Latency.Overhead:+0 %;-0 %;0 %}"),
            })]);
        screen.Line("MACs: multiply-accumulates for one image. Weights: start of their SHA-256. Latency:");
        screen.Line($"one image at a time, {Threads}, plain and the other network in turns, medians.");
        screen.Line("Parameters to weights repeat exactly with the same seed, machine and number of");
        screen.Line("threads; times do not.");
    }

    public static void Save(string folder, QuickStartOptions options, string data, IReadOnlyList<VariantResult> results) =>
        WholeFile.Write(Path.Combine(folder, FileName), stream => JsonSerializer.Serialize(stream, Content(options, data, results), SampleJson.Format));

    private static string Threads => torch.get_num_threads() is var threads and not 1 ? $"{threads} threads" : "1 thread";

    private static object Content(QuickStartOptions options, string data, IReadOnlyList<VariantResult> results) => new
    {
        Date = DateTimeOffset.UtcNow,
        Machine = new
        {
            Environment.ProcessorCount,
            Architecture = RuntimeInformation.ProcessArchitecture,
            System = RuntimeInformation.OSDescription,
            Runtime = RuntimeInformation.FrameworkDescription,
            Threads = torch.get_num_threads(),
        },
        Options = new { options.Seed, Epochs = options.EpochCount, options.Quick, Data = data, options.Attention },
        Results = results.Select(result => new
        {
            result.Variant.Name,
            Plan = JsonSerializer.SerializeToNode(JsonDocument.Parse(result.Variant.Plan.ToJson())),
            result.Cost.Parameters,
            result.Cost.MultiplyAccumulates,
            result.TestAccuracy,
            WeightsChecksum = result.Checksum,
            Epochs = result.Epochs.Select(epoch => new { epoch.Loss, epoch.TrainAccuracy, epoch.TestAccuracy }),
        }),
        Timing = results.Select(result => new
        {
            result.Variant.Name,
            EpochSeconds = result.Epochs.Select(epoch => epoch.Seconds),
            LatencyMilliseconds = result.Latency.Milliseconds,
            LatencyOverhead = result.Latency.Overhead,
        }),
    };

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
