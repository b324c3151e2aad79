using System.Globalization;
using System.Text;
using Samples;
using TorchSharp.Attention.Onnx;

namespace Deployment;

/// <summary>The tables of docs/deployment.md, from the results that the other commands leave.</summary>
internal static class Tables
{
    private const string Begin = "<!-- results: begin -->", End = "<!-- results: end -->";

    /// <summary>Writes the tables between the two marks of a page.</summary>
    /// <exception cref="IOException">There is no result, or the page has no such marks.</exception>
    public static void WriteInto(string page, IReadOnlyList<DeploymentResult> results)
    {
        if (results.Count == 0) throw new IOException("There are no results to write tables of; give the --out that the other commands wrote into.");
        string text = File.ReadAllText(page);
        int begin = text.IndexOf(Begin, StringComparison.Ordinal), end = text.IndexOf(End, StringComparison.Ordinal);
        if (begin < 0 || end < begin) throw new IOException($"{page} lacks the lines {Begin} and {End}.");
        WholeFile.WriteText(page, text[..(begin + Begin.Length)] + "\n" + Of(results) + text[end..]);
    }

    public static string Of(IReadOnlyList<DeploymentResult> results)
    {
        DeploymentResult[] trained = [.. results.Where(result => result.Accuracy.Count > 0)], timed = [.. trained.Where(result => result.Latency.Count > 0)];
        DeploymentResult[] large = [.. results.Where(result => result.Accuracy.Count == 0)], gated = [.. trained.Where(result => result.Sensitivity?.AllBySigmoid is not null)];
        StringBuilder text = new();
        Section(text, "Accuracy and size", ["network", "attention", "parameters", "M MACs", "eager, %", "fused, %", "ONNX float, %", "ONNX INT8, %", "weights, KiB", "ONNX float, KiB", "ONNX INT8, KiB", "integer convolutions"], trained, result =>
        [
            result.Network, result.Attention, $"{result.Parameters:N0}", $"{result.MultiplyAccumulates / 1e6:N1}", Percent(result.Accuracy["eager"]), Percent(result.Accuracy["fused"]),
            Percent(result.Accuracy["onnx"]), Percent(result.Accuracy["int8"]), result.Bytes.TryGetValue("weights", out long weights) ? Kibibytes(weights) : "", Kibibytes(result.Bytes["float"]), Kibibytes(result.Bytes["int8"]), $"{result.IntegerConvolutions} of {result.Convolutions}",
        ]);
        Times(text, "Latency of one image", timed);
        Section(text, "Calibration", ["network", "attention", "min-max, dB", "%", "percentile, dB", "%", "entropy, dB", "%"], trained, result =>
        [
            result.Network, result.Attention, .. Enum.GetNames<CalibrationMethod>().SelectMany(method => Effect(result.Calibration[method])),
        ]);
        Section(text, "Sigmoids: the whole network in eight bits", ["network", "attention", "fixed, dB", "%", "calibrated, dB", "%", "in float, dB", "%"], gated, result =>
        [
            result.Network, result.Attention, .. Effects(result.Sensitivity!.AllBySigmoid!),
        ]);
        foreach (DeploymentResult result in gated)
        {
            Section(
                text, $"Sensitivity of {result.Network} with {result.Attention}{(result.Network == "resnet" ? "" : ", attentions only")}", ["part", "only it, dB", "%", "all but it, dB", "%", "sigmoid fixed, dB", "calibrated, dB", "in float, dB"],
                [.. result.Sensitivity!.Rows.Where(row => row.Kind == "attention" || result.Network == "resnet")], row =>
                [
                    $"`{row.Name}`", .. Effect(row.Only), .. Effect(row.AllBut),
                    .. row.Sigmoids is { } gates ? (string[])[Decibel(gates.FixedRange), Decibel(gates.Calibrated), Decibel(gates.Unquantized)] : ["", "", ""],
                ]);
        }

        Times(text, "Networks for 224 × 224", large);
        return text.ToString();
    }

    private static void Times(StringBuilder text, string title, DeploymentResult[] results)
    {
        string[] ways = ["fused", "onnx", "int8"];
        Section(text, title, ["network", "attention", "eager, ms", "fused, ms", "ONNX float, ms", "ONNX INT8, ms", "fused ×", "ONNX float ×", "ONNX INT8 ×", "ONNX float over fused, × of medians"], results, result =>
        [
            result.Network, result.Attention, .. result.Latency.Values.Select(timing => Number(timing.Milliseconds, "0.00")),
            .. ways.Select(way => $"{Number(result.Latency[way].Ratio, "0.00")} ({Number(result.Latency[way].LowerQuartile, "0.00")}–{Number(result.Latency[way].UpperQuartile, "0.00")})"),
            Number(result.Latency["fused"].Milliseconds / result.Latency["onnx"].Milliseconds, "0.00"),
        ]);
        foreach (string timed in results.Select(result => result.Timed!).Distinct()) text.Append(CultureInfo.InvariantCulture, $"Timed {timed}.\n\n");
    }

    private static void Section<T>(StringBuilder text, string title, string[] columns, T[] rows, Func<T, IEnumerable<string>> cells)
    {
        if (rows.Length == 0) return;
        text.Append(CultureInfo.InvariantCulture, $"\n### {title}\n\n| {string.Join(" | ", columns)} |\n|{string.Concat(Enumerable.Repeat("---|", columns.Length))}\n");
        foreach (T row in rows) text.Append(CultureInfo.InvariantCulture, $"| {string.Join(" | ", cells(row))} |\n");
        text.Append('\n');
    }

    private static IEnumerable<string> Effects(SigmoidEffects effects) => ((QuantizationEffect[])[effects.FixedRange, effects.Calibrated, effects.Unquantized]).SelectMany(Effect);

    private static string[] Effect(QuantizationEffect effect) => [Decibel(effect), effect.Accuracy is { } accuracy ? Percent(accuracy) : ""];

    private static string Decibel(QuantizationEffect effect) => Number(effect.Sqnr, "0.0");

    private static string Percent(double share) => Number(share * 100, "0.00");

    private static string Kibibytes(long bytes) => Number(bytes / 1024.0, "0");

    private static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
