using System.Diagnostics;

namespace TorchSharp.Attention.Training;

/// <summary>Settings of an ablation.</summary>
public sealed record AblationOptions
{
    /// <summary>
    /// Folder of the results, with one file per finished run in its folder <c>runs</c>. Runs that already have a result are not
    /// repeated.
    /// </summary>
    public required string Folder { get; init; }

    /// <summary>Name of the variant that the others are compared with. Default <c>plain</c>.</summary>
    public string Baseline { get; init; } = "plain";

    /// <summary>
    /// Everything else that a result depends on, as text or JSON: data, epochs, learning rate. If the folder holds results of
    /// another setup, an exception is thrown, so that results of different trainings never get into one table. Default empty.
    /// </summary>
    public string Setup { get; init; } = "";

    /// <summary>Confidence of the intervals. The significance level of the tests is one minus it. Default 0.95.</summary>
    public double Confidence { get; init; } = 0.95;

    /// <summary>Whether a larger score is better. Set false for errors and losses. Default true.</summary>
    public bool HigherIsBetter { get; init; } = true;

    /// <summary>Receives a line for each run. Default none.</summary>
    public Action<string>? Log { get; init; }

    internal void Validate()
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(Folder);
        ArgumentNullException.ThrowIfNull(Baseline);
        ArgumentNullException.ThrowIfNull(Setup);
        if (Confidence is > 0 and < 1) return;
        throw new ArgumentOutOfRangeException(
            nameof(Confidence), Confidence, $"Confidence is {Confidence}; it must lie between 0 and 1, such as 0.95.");
    }
}

/// <summary>Compares attentions fairly: every variant is trained with every seed, and all variants use the same seeds.</summary>
public static class Ablation
{
    /// <summary>
    /// Runs every variant with every seed that has no result in the folder yet. The runs are sequential: all variants of a seed,
    /// then the next seed. Each result is written at once, under a temporary name that is then renamed, so you can stop at any
    /// time and call this again to continue.
    /// </summary>
    /// <param name="variants">The variants, the baseline among them.</param>
    /// <param name="seeds">The seeds; two at least for intervals and tests, five or more for conclusions.</param>
    /// <param name="trainAndEvaluate">
    /// Trains one variant with one seed and returns its score and cost. It must take all randomness from the seed.
    /// </param>
    /// <param name="options">Settings; the folder at least.</param>
    /// <param name="stop">Stops before the next run; handed to <paramref name="trainAndEvaluate"/> as well.</param>
    /// <returns>All results, summed up.</returns>
    /// <exception cref="ArgumentException">
    /// No variant, no seed, a variant without plan or name, a name or seed twice, no baseline, a setting out of
    /// range, or a score that is not finite.
    /// </exception>
    /// <exception cref="InvalidOperationException">The folder holds results of another setup or plan.</exception>
    /// <exception cref="OperationCanceledException">The caller stopped it; what was finished is in the folder.</exception>
    public static AblationReport Run(
        IReadOnlyList<AblationVariant> variants, IReadOnlyList<int> seeds,
        Func<AblationVariant, int, CancellationToken, AblationOutcome> trainAndEvaluate,
        AblationOptions options, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(trainAndEvaluate);
        Check(variants, seeds, options);
        AblationFolder folder = new(options);

        // All files are read before the first run, so that a folder of another setup is refused before an hour is spent.
        Dictionary<(string, int), AblationRun> done = [];
        foreach ((AblationVariant variant, int seed) in seeds.SelectMany(seed => variants.Select(variant => (variant, seed))))
        {
            if (folder.Read(variant, seed) is { } run) done[(variant.Name, seed)] = run;
        }

        int all = variants.Count * seeds.Count;
        foreach ((AblationVariant variant, int seed) in seeds.SelectMany(seed => variants.Select(variant => (variant, seed))))
        {
            if (done.ContainsKey((variant.Name, seed))) continue;
            stop.ThrowIfCancellationRequested();
            long start = Stopwatch.GetTimestamp();
            AblationOutcome outcome = trainAndEvaluate(variant, seed, stop)
                ?? throw new ArgumentException(
                    $"{nameof(trainAndEvaluate)} returned nothing for '{variant.Name}', seed {seed}.", nameof(trainAndEvaluate));
            if (!double.IsFinite(outcome.Score))
            {
                throw new ArgumentException(
                    $"The score of '{variant.Name}' with seed {seed} is {outcome.Score}; " +
                    "return a finite one, for a training that diverged the worst there is.",
                    nameof(trainAndEvaluate));
            }

            AblationRun run = new(variant.Name, seed, outcome, Stopwatch.GetElapsedTime(start).TotalSeconds);
            folder.Write(variant, run);
            done[(variant.Name, seed)] = run;
            options.Log?.Invoke(
                FormattableString.Invariant(
                    $"{done.Count}/{all} {variant.Name}, seed {seed}: {outcome.Score:G5} in {run.Seconds:F1} s"));
        }

        return new AblationReport(
            variants, [.. seeds.SelectMany(seed => variants.Select(variant => done[(variant.Name, seed)]))],
            options.Baseline, options.Confidence, options.HigherIsBetter);
    }

    private static void Check(IReadOnlyList<AblationVariant> variants, IReadOnlyList<int> seeds, AblationOptions options)
    {
        ArgumentNullException.ThrowIfNull(variants);
        ArgumentNullException.ThrowIfNull(seeds);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        if (variants.Count == 0)
        {
            throw new ArgumentException(
                "There are no variants; give the plain network and what to compare with it.", nameof(variants));
        }

        for (int i = 0; i < variants.Count; i++)
        {
            if (variants[i] is not { Plan: not null })
            {
                throw new ArgumentException(
                    $"variants[{i}] is {(variants[i] is null ? "null" : "without a plan")}; " +
                    "give AttentionPlan.None for a plain network.", nameof(variants));
            }

            if (string.IsNullOrWhiteSpace(variants[i].Name))
            {
                throw new ArgumentException($"variants[{i}] has no name; reports and files go by it.", nameof(variants));
            }
        }

        if (seeds.Count == 0) throw new ArgumentException("There are no seeds; give two at least.", nameof(seeds));
        if (variants.GroupBy(variant => variant.Name, StringComparer.Ordinal).FirstOrDefault(
            group => group.Count() > 1) is { } twice)
        {
            throw new ArgumentException($"Two variants are called '{twice.Key}'; give each a name of its own.", nameof(variants));
        }

        if (seeds.GroupBy(seed => seed).FirstOrDefault(group => group.Count() > 1) is { } again)
        {
            throw new ArgumentException(
                $"The seed {again.Key} is there twice; the same run twice is no evidence.", nameof(seeds));
        }

        if (variants.All(variant => variant.Name != options.Baseline))
        {
            throw new ArgumentException(
                $"No variant is called '{options.Baseline}', the baseline; " +
                $"there are {string.Join(", ", variants.Select(variant => variant.Name))}.", nameof(options));
        }
    }
}
