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
        string[] modules = [.. rows.Where(row => row.Way == "fused" && Kind(row) == "inference").GroupBy(row => row.Case.Split('/')[1]).OrderByDescending(group => RatioReport.Mean(group.Select(row => row.Ratio))).Select(group => group.Key)];
        (string Kind, string Way, string Name)[] series =
            [("inference", "fused", "inference, fresh output"), ("inference", "in place", "inference, in place"), ("training", "fused", "forward and backward")];
        Grouped(path, "Faster than composed operations: geometric means over the shapes, lines from the slowest to the fastest", "times", modules, series.Length, s => series[s].Name, (module, s) =>
        {
            double[] ratios = [.. rows.Where(row => row.Case == $"{series[s].Kind}/{modules[module]}" && row.Way == series[s].Way).Select(row => row.Ratio)];
            return ratios.Length == 0 ? null : (RatioReport.Mean(ratios), ratios.Min(), ratios.Max());
        }, powersOfTwo: true);
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
                : null, powersOfTwo: false);
    }

    private static void Grouped(
        string path, string title, string axis, string[] labels, int series, Func<int, string> name, Func<int, int, (double Value, double Low, double High)?> value, bool powersOfTwo)
    {
        using Plot plot = new();
        double Place(double ratio) => powersOfTwo ? Math.Log2(ratio) : ratio;
        for (int s = 0; s < series; s++)
        {
            List<double> xs = [], ys = [];
            for (int i = 0; i < labels.Length; i++)
            {
                if (value(i, s) is not { } one) continue;
                double x = i - 0.4 + (0.8 / series * (s + 0.5));
                xs.Add(x);
                ys.Add(Place(one.Value));
                plot.Add.Line(x, Place(one.Low), x, Place(one.High)).LineStyle = new LineStyle(1.5f, _colors[s].WithAlpha(0.8f));
            }

            if (xs.Count == 0) continue;
            ScottPlot.Plottables.Scatter points = plot.Add.ScatterPoints(xs, ys, _colors[s]);
            points.LegendText = name(s);
            points.MarkerSize = 11;
        }

        plot.Add.HorizontalLine(Place(1), 1, Colors.Black, LinePattern.Dashed);
        plot.Axes.Bottom.SetTicks([.. Enumerable.Range(0, labels.Length).Select(i => (double)i)], labels);
        plot.Axes.Bottom.TickLabelStyle.Rotation = labels.Length > 8 ? -45 : 0;
        if (labels.Length > 8) plot.Axes.Bottom.TickLabelStyle.Alignment = Alignment.UpperRight;
        plot.Axes.Bottom.MinimumSize = labels.Length > 8 ? 110 : 40;
        if (powersOfTwo) plot.Axes.Left.SetTicks([-1, 0, 1, 2, 3, 4, 5], ["½", "1", "2", "4", "8", "16", "32"]);
        plot.YLabel(axis);
        plot.Title(title, 15);
        plot.ShowLegend(Alignment.UpperRight);
        plot.SavePng(path, Math.Max(900, 60 * labels.Length), 520);
    }
}
