using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Training;

/// <summary>Settings of <see cref="PruningCurve.Run"/>.</summary>
public sealed record PruningCurveOptions
{
    /// <summary>
    /// Path of a CSV file of the points. It is replaced before the first point and rewritten completely after each point. Default
    /// null: no file.
    /// </summary>
    public string? CsvPath { get; init; }

    /// <summary>Which channels may be removed. Default: the defaults of <see cref="PruningOptions"/>.</summary>
    public PruningOptions Pruning { get; init; } = new();

    /// <summary>Receives a line for each point. Default none.</summary>
    public Action<string>? Log { get; init; }
}

/// <summary>Accuracy as a function of cost, for one network that is pruned by increasing fractions.</summary>
public sealed class PruningCurve
{
    private PruningCurve(IReadOnlyList<PruningPoint> points) => Points = points;

    /// <summary>The points, in the order of the fractions.</summary>
    public IReadOnlyList<PruningPoint> Points { get; }

    /// <summary>
    /// Prunes the network by each fraction, always starting from the whole network. Each smaller network is then fine-tuned and
    /// evaluated. Fraction 0 is a copy of the whole network with the same fine-tuning, as the reference for comparison.
    /// </summary>
    /// <typeparam name="TNetwork">The network's class.</typeparam>
    /// <param name="network">The trained network; it stays as it is.</param>
    /// <param name="ranking">Its ranking.</param>
    /// <param name="fractions">Shares of channels to remove, each in [0, 1).</param>
    /// <param name="fineTuneAndEvaluate">
    /// Trains a smaller network for a while and returns its score; it does not dispose it.
    /// </param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <param name="stop">Stops before the next point; handed to <paramref name="fineTuneAndEvaluate"/> as well.</param>
    /// <exception cref="ArgumentException">
    /// There is no fraction, one is out of range, a plan cannot be made, or a score is not finite.
    /// </exception>
    /// <exception cref="OperationCanceledException">The caller stopped it; the points so far are in the file.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static PruningCurve Run<TNetwork>(
        TNetwork network, ChannelRanking ranking, IReadOnlyList<double> fractions,
        Func<TNetwork, CancellationToken, double> fineTuneAndEvaluate,
        PruningCurveOptions? options = null, CancellationToken stop = default)
        where TNetwork : FeatureNetwork
    {
        ArgumentNullException.ThrowIfNull(network);
        ArgumentNullException.ThrowIfNull(ranking);
        ArgumentNullException.ThrowIfNull(fractions);
        ArgumentNullException.ThrowIfNull(fineTuneAndEvaluate);
        if (fractions.Count == 0)
        {
            throw new ArgumentException("There are no fractions; give several, such as 0, 0.2 and 0.4.", nameof(fractions));
        }

        options ??= new PruningCurveOptions();

        // All plans before the first hour of training.
        PruningPlan[] plans = [.. fractions.Select(fraction => ranking.PlanRemoval(fraction, options.Pruning))];
        List<PruningPoint> points = [];
        // And the file: one that cannot be written shows now.
        if (options.CsvPath is not null) Write(options.CsvPath, ToCsv(points));
        for (int i = 0; i < plans.Length; i++)
        {
            stop.ThrowIfCancellationRequested();
            using TNetwork smaller = network.Prune(plans[i]);
            long start = Stopwatch.GetTimestamp();
            double score = fineTuneAndEvaluate(smaller, stop);
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (!double.IsFinite(score))
            {
                throw new ArgumentException(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"The score of fraction {fractions[i]} is {score}; return a finite one, for a training that diverged " +
                        $"the worst there is."),
                    nameof(fineTuneAndEvaluate));
            }

            PruningPoint point = new(
                fractions[i], plans[i].RemovedChannels, plans[i].After.Parameters, plans[i].After.MultiplyAccumulates, score,
                seconds);
            points.Add(point);
            if (options.CsvPath is not null) Write(options.CsvPath, ToCsv(points));
            options.Log?.Invoke(string.Create(
                CultureInfo.InvariantCulture,
                $"{i + 1}/{plans.Length} fraction {point.Fraction}: {point.Score:G5}, {point.Parameters:N0} parameters, " +
                $"{point.MultiplyAccumulates:N0} multiply-accumulates, {point.Seconds:F1} s"));
        }

        return new PruningCurve(points);
    }

    /// <summary>The points as comma-separated values.</summary>
    public string ToCsv() => ToCsv(Points);

    /// <summary>
    /// Formats the points as an aligned table, one line per point. Costs are shown as a share of those of the first point.
    /// </summary>
    public override string ToString()
    {
        List<string[]> lines = [["fraction", "parameters", "", "MACs", "", "score"]];
        foreach (PruningPoint point in Points)
        {
            lines.Add(
            [
                Text($"{point.Fraction}"), Text($"{point.Parameters:N0}"),
                Text($"{(double)point.Parameters / Points[0].Parameters:0%}"), Text($"{point.MultiplyAccumulates:N0}"),
                Text($"{(double)point.MultiplyAccumulates / Points[0].MultiplyAccumulates:0%}"), Text($"{point.Score:F4}"),
            ]);
        }

        int[] widths = [.. lines[0].Select((_, column) => lines.Max(line => line[column].Length))];
        return string.Join('\n', lines.Select(line => string.Join("  ", line.Select((cell, i) => cell.PadLeft(widths[i])))));
    }

    private static string ToCsv(IEnumerable<PruningPoint> points)
    {
        StringBuilder text = new("fraction,removedChannels,parameters,multiplyAccumulates,score,seconds\n");
        foreach (PruningPoint point in points)
        {
            text.Append(
                CultureInfo.InvariantCulture,
                $"{point.Fraction:R},{point.RemovedChannels},{point.Parameters},{point.MultiplyAccumulates}," +
                $"{point.Score:R},{point.Seconds:R}\n");
        }

        return text.ToString();
    }

    private static void Write(string path, string text)
    {
        if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder) Directory.CreateDirectory(folder);
        AtomicFile.WriteText(path, text);
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
