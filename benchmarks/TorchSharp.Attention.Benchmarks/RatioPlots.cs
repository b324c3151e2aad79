using ScottPlot;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>What the tables say, as pictures.</summary>
internal static class RatioPlots
{
    private const string Font = "DejaVu Sans";

    // Okabe and Ito's, told apart with any colour vision.
    private static readonly Color[] _colors = [Color.FromHex("#0072B2"), Color.FromHex("#E69F00"), Color.FromHex("#009E73"), Color.FromHex("#CC79A7")];

    /// <summary>modules.png: geometric means with slowest and fastest case. networks.png: what attention costs over the plain network.</summary>
    public static void Write(IReadOnlyList<RatioRow> rows, string folder)
    {
        // A bare Linux machine has no font.
        Fonts.AddFontFile(Font, Path.Combine(AppContext.BaseDirectory, "DejaVuSans.ttf"));
        Fonts.Default = Font;
        Modules([.. rows.Where(row => Kind(row) is "inference" or "training" && row.Way != "composed")], Path.Combine(folder, "modules.png"));
        Networks([.. rows.Where(row => Kind(row) is "network" or "network-training" && row.Way is "composed" or "fused" && Kind(row).StartsWith("network", StringComparison.Ordinal))], Path.Combine(folder, "networks.png"));
    }

    private static string Kind(RatioRow row) => row.Case.Split('/')[0];

    private static void Modules(RatioRow[] rows, string path)
    {
        if (rows.Length == 0) return;
        string[] modules = [.. rows.Select(row => row.Case.Split('/')[1]).Distinct()];
        (string Kind, string Way, string Name)[] series =
            [("inference", "fused", "inference, fresh output"), ("inference", "in place", "inference, in place"), ("training", "fused", "forward and backward")];
        Grouped(path, "Faster than composed operations: geometric mean over the shapes, line from slowest to fastest", "times", modules, series.Length, s => series[s].Name, (module, s) =>
        {
            double[] ratios = [.. rows.Where(row => row.Case == $"{series[s].Kind}/{modules[module]}" && row.Way == series[s].Way).Select(row => row.Ratio)];
            return ratios.Length == 0 ? null : (RatioReport.Mean(ratios), ratios.Min(), ratios.Max());
        }, fromZero: true);
    }

    private static void Networks(RatioRow[] rows, string path)
    {
        if (rows.Length == 0) return;
        (string Case, string Shape)[] cases = [.. rows.Select(row => (row.Case, row.Shape)).Distinct()];
        string[] labels = [.. cases.Select(one => $"{one.Case.Replace("network-training/", "step ").Replace("network/", "").Replace('/', ' ')}\nbatch {one.Shape.Split('x')[0]}")];
        string[] ways = ["composed", "fused"];
        Grouped(path, "Time of the network with attention over the plain network's, line between the quartiles", "times", labels, ways.Length, s => ways[s], (index, s) =>
            rows.FirstOrDefault(row => (row.Case, row.Shape) == cases[index] && row.Way == ways[s]) is { } row
                ? (1 / row.Ratio, 1 / row.UpperQuartile, 1 / row.LowerQuartile)
                : null, fromZero: false);
    }

    private static void Grouped(
        string path, string title, string axis, string[] labels, int series, Func<int, string> name, Func<int, int, (double Value, double Low, double High)?> value, bool fromZero)
    {
        using Plot plot = new();
        double width = 0.8 / series;
        for (int s = 0; s < series; s++)
        {
            List<Bar> bars = [];
            List<(double X, double Low, double High)> ranges = [];
            for (int i = 0; i < labels.Length; i++)
            {
                if (value(i, s) is not { } one) continue;
                double x = i - 0.4 + (width * (s + 0.5));
                bars.Add(new Bar { Position = x, Value = one.Value, Size = width * 0.9, FillColor = _colors[s], LineWidth = 0 });
                ranges.Add((x, one.Low, one.High));
            }

            if (bars.Count == 0) continue;
            if (fromZero) plot.Add.Bars(bars).LegendText = name(s);
            foreach ((double x, double low, double high) in ranges) plot.Add.Line(x, low, x, high).LineStyle = new LineStyle(1.5f, Colors.Black.WithAlpha(0.7f));
            if (!fromZero)
            {
                var points = plot.Add.ScatterPoints(bars.Select(bar => bar.Position).ToArray(), bars.Select(bar => bar.Value).ToArray(), _colors[s]);
                points.LegendText = name(s);
                points.MarkerSize = 11;
            }
        }

        plot.Add.HorizontalLine(1, 1, Colors.Black, LinePattern.Dashed);
        plot.Axes.Bottom.SetTicks([.. Enumerable.Range(0, labels.Length).Select(i => (double)i)], labels);
        plot.Axes.Bottom.TickLabelStyle.Rotation = labels.Length > 8 ? -45 : 0;
        if (labels.Length > 8) plot.Axes.Bottom.TickLabelStyle.Alignment = Alignment.UpperRight;
        plot.Axes.Bottom.MinimumSize = labels.Length > 8 ? 110 : 40;
        if (fromZero) plot.Axes.Margins(bottom: 0);
        plot.YLabel(axis);
        plot.Title(title, 15);
        plot.ShowLegend(Alignment.UpperRight);
        plot.SavePng(path, Math.Max(900, 60 * labels.Length), 520);
    }
}
