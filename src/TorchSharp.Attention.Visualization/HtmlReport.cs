using System.Globalization;
using System.Net;
using System.Text;

namespace TorchSharp.Attention.Visualization;

/// <summary>
/// A report in one self-contained HTML file, which needs no network to open: text, tables, pictures and curves. The parts appear
/// in the order of the calls. Calls can be chained.
/// </summary>
public sealed class HtmlReport
{
    private readonly StringBuilder _body = new();
    private readonly string _title;

    /// <summary>Creates an empty report.</summary>
    /// <param name="title">The title.</param>
    public HtmlReport(string title)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(title);
        _title = title;
    }

    /// <summary>Begins a section.</summary>
    /// <param name="text">The heading.</param>
    public HtmlReport Heading(string text) => Add($"<h2>{Escape(text)}</h2>");

    /// <summary>Adds a paragraph.</summary>
    /// <param name="text">Plain text.</param>
    public HtmlReport Text(string text) => Add($"<p>{Escape(text)}</p>");

    /// <summary>Adds a table. All columns except the first are aligned to the right.</summary>
    /// <param name="head">Words above the columns.</param>
    /// <param name="rows">The cells, as many a row as there are columns.</param>
    /// <exception cref="ArgumentException">A row has another number of cells.</exception>
    public HtmlReport Table(IReadOnlyList<string> head, IEnumerable<IReadOnlyList<string>> rows)
    {
        ArgumentNullException.ThrowIfNull(head);
        ArgumentNullException.ThrowIfNull(rows);
        Add(
            "<div class=\"wide\"><table><thead><tr>" + string.Concat(head.Select(cell => $"<th>{Escape(cell)}</th>")) +
            "</tr></thead><tbody>");
        foreach (IReadOnlyList<string> row in rows)
        {
            if (row.Count != head.Count)
            {
                throw new ArgumentException($"A row has {row.Count} cells for {head.Count} columns.", nameof(rows));
            }

            Add("<tr>" + string.Concat(row.Select(cell => $"<td>{Escape(cell)}</td>")) + "</tr>");
        }

        return Add("</tbody></table></div>");
    }

    /// <summary>
    /// Adds a table of the cost of networks. Each network after the first is also compared with the first. A note below the table
    /// lists what is not counted.
    /// </summary>
    /// <param name="costs">Names and costs.</param>
    public HtmlReport Cost(IReadOnlyList<(string Name, ModelCost Cost)> costs)
    {
        ArgumentNullException.ThrowIfNull(costs);
        Table(["network", "parameters", "", "multiply-accumulates", ""], costs.Select((row, i) => (IReadOnlyList<string>)
        [
            row.Name,
            Whole(row.Cost.Parameters), i == 0 ? "" : Change(row.Cost.Parameters, costs[0].Cost.Parameters),
            Whole(row.Cost.MultiplyAccumulates),
            i == 0 ? "" : Change(row.Cost.MultiplyAccumulates, costs[0].Cost.MultiplyAccumulates),
        ]));
        foreach ((string name, ModelCost cost) in costs)
        {
            string[] missing = [
                .. cost.NotCounted.Select(
                    module => module.Path.Length == 0 ? module.Description : $"{module.Path} ({module.Description})")];
            string[] partly = [.. cost.PartlyCounted.Select(module => module.Description).Distinct()];
            if (missing.Length > 0) Text($"{name}: not counted: {string.Join(", ", missing)}.");
            if (partly.Length > 0)
            {
                Text(
                    $"{name}: of {string.Join(", ", partly)} only the modules inside are counted; " +
                    "products that forward calls as functions are not seen.");
            }
        }

        return this;
    }

    /// <summary>Adds a table of gate statistics.</summary>
    /// <param name="gates">Names and statistics.</param>
    public HtmlReport Gates(IEnumerable<(string Name, GateStatistics Statistics)> gates)
    {
        ArgumentNullException.ThrowIfNull(gates);
        return Table(
            ["gate", "values", "mean", "deviation", "deviation over samples", "shut (< 0.05)", "open (> 0.95)", "sparsity",
                "entropy", "dead"],
            gates.Select(gate => (IReadOnlyList<string>)
            [
                gate.Name, Whole(gate.Statistics.Units), Number(gate.Statistics.Mean),
                Number(Math.Sqrt(gate.Statistics.Variance)),
                Number(Math.Sqrt(gate.Statistics.VarianceOverSamples)), Percent(gate.Statistics.ClosedShare),
                Percent(gate.Statistics.OpenShare),
                Number(gate.Statistics.Sparsity), Number(gate.Statistics.Entropy), Whole(gate.Statistics.Dead.Count),
            ]));
    }

    /// <summary>Adds a table with statistics of attention weights, one row per head.</summary>
    /// <param name="weights">Names and statistics.</param>
    public HtmlReport Weights(IEnumerable<(string Name, PairwiseStatistics Statistics)> weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        return Table(
            ["attention", "head", "entropy", "largest weight", "distance"],
            weights.SelectMany(pair => Enumerable.Range(0, pair.Statistics.Heads)
            .Select(head => (IReadOnlyList<string>)
            [
                head == 0 ? pair.Name : "", Whole(head), Number(pair.Statistics.Entropy[head]),
                Number(pair.Statistics.Peak[head]),
                pair.Statistics.Distance is { } distance ? Number(distance[head]) : "",
            ])));
    }

    /// <summary>Adds a picture, which is stored in the report.</summary>
    /// <param name="picture">The picture; it stays the caller's.</param>
    /// <param name="caption">A line below, which also describes it to those who cannot see it.</param>
    public HtmlReport Picture(Picture picture, string caption)
    {
        ArgumentNullException.ThrowIfNull(picture);
        string data = Convert.ToBase64String(picture.ToPng());
        return Add(
            $"<figure><div class=\"wide\"><img width=\"{picture.Width}\" height=\"{picture.Height}\" alt=\"{Escape(caption)}\" " +
            $"src=\"data:image/png;base64,{data}\"></div>" +
            $"<figcaption>{Escape(caption)}</figcaption></figure>");
    }

    /// <summary>Adds a picture of where a network looks, made by <see cref="AttentionOverlays.Draw"/>.</summary>
    /// <param name="model">A network from (N, C, H, W) to (N, classes).</param>
    /// <param name="images">The images, as the network takes them.</param>
    /// <param name="layer">The layer of Grad-CAM, by name; null to leave it out.</param>
    /// <param name="mean">Mean per channel that normalization subtracted from the images; null for none.</param>
    /// <param name="std">Deviation per channel that normalization divided by; null for none.</param>
    /// <exception cref="ArgumentException">There is no such layer, or the images do not fit.</exception>
    public HtmlReport Overlays(
        torch.nn.Module<torch.Tensor, torch.Tensor> model, torch.Tensor images, string? layer = null,
        IReadOnlyList<double>? mean = null, IReadOnlyList<double>? std = null)
    {
        using Picture picture = AttentionOverlays.Draw(model, images, layer, mean, std);
        string gradCam = layer is null ? "" : $" Grad-CAM: what speaks for the class that the network chooses, at {layer}.";
        return Picture(
            picture, $"Where the network looks.{gradCam} Attentions: what they let through; the scale of each map is its own.");
    }

    /// <summary>Adds a chart of curves over steps or epochs, which are counted from 1.</summary>
    /// <param name="title">What the values are, such as "loss".</param>
    /// <param name="axis">What the points are, such as "epoch".</param>
    /// <param name="curves">Names and values; values that are no numbers leave a gap.</param>
    /// <exception cref="ArgumentException">There is no finite value.</exception>
    public HtmlReport Curves(string title, string axis, IReadOnlyList<(string Name, IReadOnlyList<double> Values)> curves)
        => Add($"<figure>{CurveChart.Svg(title, axis, curves)}</figure>");

    /// <summary>
    /// Adds the readings of a monitor: curves of the gates and of the pairwise weights, and the alerts with their advice.
    /// </summary>
    /// <param name="monitor">The monitor, which may be disposed.</param>
    public HtmlReport GateHistory(GateMonitor monitor)
    {
        ArgumentNullException.ThrowIfNull(monitor);
        long[] steps = [.. monitor.Readings.Select(reading => reading.Step).Distinct()];
        if (steps.Length == 0) return Text("The monitor has not looked at any step yet.");
        long every = steps.Length == 1 ? 1 : steps[1] - steps[0];
        Over("mean of the gates", reading => reading.Mean);
        Over("deviation of the gates", reading => reading.StandardDeviation);
        Over("entropy of the weights of pairs", reading => reading.Map == AttentionMapKind.Pairwise ? reading.Entropy : null);
        if (monitor.AlertHistory.Count == 0) return Text("No alert was raised.");
        Table(["alert", "step", "statistic", "value", "threshold"], monitor.AlertHistory.Select(alert => (IReadOnlyList<string>)
        [
            $"{Name(alert.Module, alert.Map)}: {alert.Kind}", Whole(alert.Step), alert.Statistic, Number(alert.Value),
            Number(alert.Threshold),
        ]));
        foreach (string advice in monitor.AlertHistory.Select(
            alert => alert.Advice.StartsWith($"{alert.Kind}:", StringComparison.Ordinal)
                ? alert.Advice
                : $"{alert.Kind}. {alert.Advice}").Distinct())
        {
            Text(advice);
        }

        return this;

        void Over(string title, Func<GateReading, double?> number)
        {
            (string, IReadOnlyList<double>)[] curves = [.. monitor.Readings.Where(reading => number(reading) is not null)
                .GroupBy(reading => Name(reading.Module, reading.Map))
                .Select(
                    group =>
                        (group.Key, (IReadOnlyList<double>)[
                            .. steps.Select(
                                step => group.FirstOrDefault(reading => reading.Step == step) is { } found
                                    ? number(found) ?? double.NaN
                                    : double.NaN)]))];
            if (curves.Length > 0) Add($"<figure>{CurveChart.Svg(title, "step", curves, steps[0], every)}</figure>");
        }

        static string Name(string module, AttentionMapKind map)
            => $"{(module.Length == 0 ? "attention" : module)} {map.ToString().ToLowerInvariant()}";
    }

    /// <summary>The report as one HTML text.</summary>
    public string ToHtml() =>
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" " +
        "content=\"width=device-width, initial-scale=1\">\n" +
        $"<title>{Escape(_title)}</title>\n<style>\n{Style}</style>\n</head>\n<body>\n" +
        $"<h1>{Escape(_title)}</h1>\n{_body}</body>\n</html>\n";

    /// <summary>Writes the report, completely or not at all. A missing folder is created.</summary>
    /// <param name="path">The file.</param>
    public void Save(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        byte[] html = Encoding.UTF8.GetBytes(ToHtml());
        AtomicFile.Write(path, stream => stream.Write(html));
    }

    internal static string Escape(string text) => WebUtility.HtmlEncode(text);

    private const string Style = """
        body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #222; max-width: 1400px; margin: 32px auto; padding: 0 20px; }
        h1 { font-size: 28px; margin: 0 0 8px; } h2 { font-size: 20px; margin: 40px 0 8px; padding-bottom: 4px; border-bottom: 1px solid #ddd; }
        p { max-width: 76ch; } .wide { overflow-x: auto; }
        table { border-collapse: collapse; font-size: 14px; margin: 12px 0; font-variant-numeric: tabular-nums; }
        th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
        th { border-bottom: 2px solid #999; } th:first-child, td:first-child { text-align: left; } tbody tr:hover { background: #f6f8fa; }
        figure { margin: 16px 0; } figure img, figure svg { display: block; max-width: max(100%, 800px); height: auto; } figcaption { color: #555; font-size: 14px; max-width: 90ch; }

        """;

    private static string Whole(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    private static string Number(double value) => value.ToString("0.000", CultureInfo.InvariantCulture);

    private static string Percent(double value) => value.ToString("0.0 %", CultureInfo.InvariantCulture);

    private static string Change(long value, long from)
        => from == 0 ? "" : ((double)(value - from) / from).ToString("+0.00 %;−0.00 %;±0 %", CultureInfo.InvariantCulture);

    private HtmlReport Add(string html)
    {
        _body.Append(html).Append('\n');
        return this;
    }
}
