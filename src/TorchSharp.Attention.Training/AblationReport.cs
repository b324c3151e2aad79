using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Training;

/// <summary>The results of an ablation: table, CSV, plot.</summary>
public sealed class AblationReport
{
    private readonly double _level;

    internal AblationReport(
        IReadOnlyList<AblationVariant> variants, IReadOnlyList<AblationRun> runs, string baseline, double confidence,
        bool higherIsBetter)
    {
        Runs = runs;
        Baseline = baseline;
        Confidence = confidence;
        _level = 1 - confidence;
        HigherIsBetter = higherIsBetter;
        double tolerance = 1e-9 * runs.Max(run => Math.Abs(run.Outcome.Score));
        Resolution = LeastGap([.. runs.Select(run => run.Outcome.Score).Order()], tolerance);

        // Rounding to a multiple of r adds the variance r² / 12 to a score, so r² / 6 to a difference of two scores.
        double ofScore = Resolution * Resolution / 12 ?? 0, ofDifference = 2 * ofScore;

        ILookup<string, AblationRun> byVariant = runs.ToLookup(run => run.Variant);
        Dictionary<int, double> plain = byVariant[baseline].ToDictionary(run => run.Seed, run => run.Outcome.Score);
        List<AblationRow> rows = [];
        foreach (AblationVariant variant in variants)
        {
            AblationRun[] own = [.. byVariant[variant.Name]];
            double[] scores = [.. own.Select(run => run.Outcome.Score)];
            double[] differences = [.. own.Select(run => run.Outcome.Score - plain[run.Seed])];
            bool isBaseline = variant.Name == baseline;
            rows.Add(new AblationRow(
                variant.Name, AblationFolder.TextOf(variant), own.Length, Estimate.Of(scores, confidence, ofScore),
                isBaseline ? null : Estimate.Of(differences, confidence, ofDifference),
                isBaseline ? null : Estimate.PairedTest(differences, ofDifference, tolerance), null, own[0].Outcome.Parameters,
                own[0].Outcome.MultiplyAccumulates,
                own.Average(run => run.Seconds), false));
        }

        double?[] adjusted = Estimate.Holm([.. rows.Select(row => row.PValue)], rows.Count - 1);
        Rows = [
            .. rows.Select(
                (row, i) => row with { AdjustedPValue = adjusted[i], IsOnFront = !rows.Any(other => Dominates(other, row)) })];
    }

    /// <summary>One row per variant, in the order given.</summary>
    public IReadOnlyList<AblationRow> Rows { get; }

    /// <summary>Every run.</summary>
    public IReadOnlyList<AblationRun> Runs { get; }

    /// <summary>Name of the variant that the others are compared with.</summary>
    public string Baseline { get; }

    /// <summary>Confidence of the intervals.</summary>
    public double Confidence { get; }

    /// <summary>Whether a larger score is a better one.</summary>
    public bool HigherIsBetter { get; }

    /// <summary>
    /// Smallest difference between two different scores of all runs. Null if all scores are equal. Example: an accuracy on 200
    /// images is a multiple of 1/200, so two seeds can have equal scores by chance. The standard deviation that intervals and
    /// tests use is therefore never below the rounding error of this resolution: resolution / √12 for a score, resolution / √6
    /// for a difference.
    /// </summary>
    public double? Resolution { get; }

    /// <summary>
    /// Formats the rows as an aligned table: mean, interval, difference from the baseline, p values, verdict and cost. An
    /// asterisk marks the variants on the cost-accuracy front, for which no other variant is at least as good in both and better
    /// in one.
    /// </summary>
    public string ToTable()
    {
        List<string[]> lines = [
            ["variant", "runs", "mean", $"{Confidence:0.#%} interval", "difference", "interval", "p", "p adjusted", "verdict",
                "parameters", "MACs", "s/run", "front"]];
        foreach (AblationRow row in Rows)
        {
            lines.Add(
            [
                row.Variant, Text($"{row.Runs}"), Text($"{row.Score.Mean:F4}"), Interval(row.Score),
                row.Difference is { } d ? Text($"{d.Mean:+0.0000;-0.0000;0.0000}") : "",
                row.Difference is { } e ? Interval(e) : "", P(row.PValue), P(row.AdjustedPValue), Verdict(row),
                Text($"{row.Parameters:N0}"),
                Text($"{row.MultiplyAccumulates:N0}"), Text($"{row.Seconds:F1}"), row.IsOnFront ? "*" : "",
            ]);
        }

        int[] widths = [.. lines[0].Select((_, column) => lines.Max(line => line[column].Length))];
        return string.Join(
            '\n',
            lines.Select(
                line => string.Join(
                    "  ", line.Select((cell, i) => i is 0 or 8 ? cell.PadRight(widths[i]) : cell.PadLeft(widths[i]))).TrimEnd()));
    }

    /// <summary>The rows as comma-separated values.</summary>
    public string ToCsv()
    {
        StringBuilder text = new(
            "variant,plan,runs,mean,low,high,difference,differenceLow,differenceHigh,p,pAdjusted,verdict,parameters," +
            "multiplyAccumulates,seconds,front\n");
        foreach (AblationRow row in Rows)
        {
            text.AppendJoin(
                ',', Quoted(row.Variant), Quoted(row.Plan), Number(row.Runs), Number(row.Score.Mean), Number(row.Score.Low),
                Number(row.Score.High),
                Number(row.Difference?.Mean), Number(row.Difference?.Low), Number(row.Difference?.High), Number(row.PValue),
                Number(row.AdjustedPValue), Verdict(row),
                Number(row.Parameters), Number(row.MultiplyAccumulates), Number(row.Seconds),
                row.IsOnFront ? "true" : "false").Append('\n');
        }

        return text.ToString();
    }

    /// <summary>Every run as comma-separated values.</summary>
    public string RunsToCsv()
    {
        StringBuilder text = new("variant,seed,score,parameters,multiplyAccumulates,seconds\n");
        foreach (AblationRun run in Runs)
        {
            text.AppendJoin(',', Quoted(run.Variant), Number(run.Seed), Number(run.Outcome.Score), Number(run.Outcome.Parameters),
                Number(run.Outcome.MultiplyAccumulates), Number(run.Seconds)).Append('\n');
        }

        return text.ToString();
    }

    /// <summary>
    /// Draws the cost-accuracy front as a self-contained SVG. Cost is on the x axis, score on the y axis, intervals are bars, and
    /// the front is a dashed line. The package TorchSharp.Attention.Visualization draws the same as PNG.
    /// </summary>
    public string ToSvg() => AblationPlot.Svg(this);

    /// <summary>
    /// Writes <c>summary.csv</c>, <c>runs.csv</c>, <c>summary.txt</c> and <c>front.svg</c>, each whole or not at all.
    /// </summary>
    /// <param name="folder">Where to; made if it is not there.</param>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public void Save(string folder)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(folder);
        Directory.CreateDirectory(folder);
        Write("summary.csv", ToCsv());
        Write("runs.csv", RunsToCsv());
        Write("summary.txt", ToTable() + "\n");
        Write("front.svg", ToSvg());

        void Write(string name, string text) => AtomicFile.WriteText(Path.Combine(folder, name), text);
    }

    /// <summary><see cref="ToTable"/>.</summary>
    public override string ToString() => ToTable();

    private string Verdict(AblationRow row) => row switch
    {
        { Difference: null } => "baseline",
        { AdjustedPValue: null, Runs: < 2 } => "one seed says nothing",
        { AdjustedPValue: null } => "no variance: no verdict",
        { AdjustedPValue: { } p } when p >= _level => "within noise",
        _ => row.Difference!.Mean > 0 == HigherIsBetter ? "better" : "worse",
    };

    private static double? LeastGap(double[] sorted, double tolerance)
    {
        double[] gaps = [.. sorted.Zip(sorted.Skip(1), (low, high) => high - low).Where(gap => gap > tolerance)];
        return gaps.Length == 0 ? null : gaps.Min();
    }

    private bool Dominates(AblationRow one, AblationRow other)
    {
        double gain = (one.Score.Mean - other.Score.Mean) * (HigherIsBetter ? 1 : -1);
        return gain >= 0 && one.MultiplyAccumulates <= other.MultiplyAccumulates
            && (gain > 0 || one.MultiplyAccumulates < other.MultiplyAccumulates);
    }

    private static string Interval(Estimate estimate)
        => estimate.Low is double low && estimate.High is double high ? Text($"{low:F4} to {high:F4}") : "";

    private static string P(double? p) => p is double value ? (value < 0.001 ? "<0.001" : Text($"{value:F3}")) : "";

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static string Number(double? value) => value?.ToString("R", CultureInfo.InvariantCulture) ?? "";

    private static string Quoted(string cell)
        => cell.AsSpan().ContainsAny(",\"\r\n") ? $"\"{cell.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : cell;
}
