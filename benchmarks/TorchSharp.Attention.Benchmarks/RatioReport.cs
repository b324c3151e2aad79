using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>Writes the tables of docs/benchmarks.md between its two marks, and the plots beside the measurements, from the files of <c>ratios --csv</c>.</summary>
internal static class RatioReport
{
    private const string Begin = "<!-- results: begin -->", End = "<!-- results: end -->";

    public static int Run(string[] arguments)
    {
        if (arguments is not [string folder, string page] || !Directory.Exists(folder) || !File.Exists(page))
        {
            Console.Error.WriteLine("usage: report FOLDER PAGE, the folder of ratios --csv's files and the page to write into");
            return 2;
        }

        string text = File.ReadAllText(page);
        int begin = text.IndexOf(Begin, StringComparison.Ordinal), end = text.IndexOf(End, StringComparison.Ordinal);
        if (begin < 0 || end < begin)
        {
            Console.Error.WriteLine($"{page} lacks the lines {Begin} and {End}.");
            return 2;
        }

        RatioRow[] rows = [.. Directory.EnumerateFiles(folder, "*.csv").Order(StringComparer.Ordinal).SelectMany(RatioRow.Read)];
        AtomicFile.WriteText(page, text[..(begin + Begin.Length)] + "\n" + Tables(rows) + text[end..]);
        RatioPlots.Write(rows, folder);
        return 0;
    }

    private static string Tables(RatioRow[] rows)
    {
        StringBuilder page = new();
        page.AppendLine();
        string[] origins = [.. rows.Select(row => $"{row.Date}, {row.Machine}, {row.Threads} threads").Distinct().Order(StringComparer.Ordinal)];
        page.AppendLine("Measured: " + string.Join("; ", origins) + ".").AppendLine();
        page.AppendLine("![how much faster each module is](benchmarks/modules.png)").AppendLine();
        page.AppendLine("![what attention costs in a network](benchmarks/networks.png)").AppendLine();
        Means(page, "Inference of modules", [.. rows.Where(row => row.Case.StartsWith("inference/", StringComparison.Ordinal))]);
        Means(page, "Forward and backward of modules", [.. rows.Where(row => row.Case.StartsWith("training/", StringComparison.Ordinal))]);
        Networks(page, "Networks, inference", [.. rows.Where(row => row.Case.StartsWith("network/", StringComparison.Ordinal))]);
        Networks(page, "Networks, training step", [.. rows.Where(row => row.Case.StartsWith("network-training/", StringComparison.Ordinal))]);
        Networks(page, "Networks, training step after NativeHeap.RetainFreedMemory", [.. rows.Where(row => row.Case.StartsWith("network-training-kept/", StringComparison.Ordinal))]);
        return page.ToString();
    }

    /// <summary>Geometric means over the cases, with the slowest and, of maps of 6 MB and more, the mean time over the floor's.</summary>
    private static void Means(StringBuilder page, string title, RatioRow[] rows)
    {
        if (rows.Length == 0) return;
        page.AppendLine($"### {title}").AppendLine();
        page.AppendLine("| module | way | cases | geometric mean | slowest | fastest | slowest case | time over the floor's, maps ≥ 6 MB |");
        page.AppendLine("|---|---|---:|---:|---:|---:|---|---:|");
        foreach (IGrouping<(string Case, string Way), RatioRow> group in rows.Where(row => row.Way != "composed").GroupBy(row => (row.Case, row.Way)))
        {
            RatioRow slowest = group.MinBy(row => row.Ratio)!;
            double[] floors = [.. group.Where(row => row.ToFloor is not null && Bytes(row.Shape) >= 6e6).Select(row => row.ToFloor!.Value)];
            page.AppendLine(string.Create(
                CultureInfo.InvariantCulture,
                $"| {group.Key.Case.Split('/')[1]} | {group.Key.Way} | {group.Count()} | {Mean(group.Select(row => row.Ratio)):0.00} | {slowest.Ratio:0.00} | {group.Max(row => row.Ratio):0.00} | {slowest.Shape} {slowest.Layout} | {(floors.Length == 0 ? "" : Mean(floors).ToString("0.00", CultureInfo.InvariantCulture))} |"));
        }

        page.AppendLine();
    }

    private static void Networks(StringBuilder page, string title, RatioRow[] rows)
    {
        if (rows.Length == 0) return;
        string[] ways = [.. rows.Select(row => row.Way).Distinct()];
        page.AppendLine($"### {title}").AppendLine();
        page.AppendLine("| network | attention | batch | plain, ms | " + string.Join(" | ", ways.Skip(1)) + " |");
        page.AppendLine("|---|---|---:|---:|" + string.Concat(ways.Skip(1).Select(_ => "---:|")));
        foreach (IGrouping<(string Case, string Shape), RatioRow> group in rows.GroupBy(row => (row.Case, row.Shape)))
        {
            string[] names = group.Key.Case.Split('/');
            Dictionary<string, RatioRow> byWay = group.ToDictionary(row => row.Way);
            IEnumerable<string> cells = ways.Skip(1).Select(way => byWay.TryGetValue(way, out RatioRow? row)
                ? string.Create(CultureInfo.InvariantCulture, $"{row.Ratio:0.000} ({row.LowerQuartile:0.000}–{row.UpperQuartile:0.000})")
                : "");
            page.AppendLine(string.Create(
                CultureInfo.InvariantCulture,
                $"| {names[1]} | {names[2]} | {group.First().Batch} | {byWay[ways[0]].Milliseconds:0.0} | {string.Join(" | ", cells)} |"));
        }

        page.AppendLine();
    }

    /// <summary>Of a float32 map.</summary>
    public static double Bytes(string shape) => shape.Split('x').Aggregate(4.0, (size, side) => size * double.Parse(side, CultureInfo.InvariantCulture));

    public static double Mean(IEnumerable<double> values) => Math.Exp(values.Average(Math.Log));
}
