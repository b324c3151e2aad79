namespace TorchSharp.Attention.Training.Tests;

/// <summary>How often equal variants are called different, and what an equal difference in all seeds says.</summary>
public sealed class VerdictTests
{
    private const int Variants = 6;

    /// <summary>
    /// Seven equal variants, accuracies on so many test images: a report is wrong that calls one of them better or worse. At a level of 5 % at most 5 % of the reports may be. 2,000 simulated reports
    /// have a standard error of 0.5 %, and three of those are granted. Equal differences by chance made it 22 % with two seeds on 200 images.
    /// </summary>
    [Theory]
    [InlineData(2, 200, 0.8)]
    [InlineData(2, 50, 0.9)]
    [InlineData(2, 500, 0.8)]
    [InlineData(2, 2000, 0.8)]
    [InlineData(3, 200, 0.8)]
    [InlineData(3, 20, 0.95)]
    [InlineData(5, 200, 0.8)]
    [InlineData(5, 50, 0.98)]
    [InlineData(8, 200, 0.8)]
    [InlineData(8, 50, 0.98)]
    public void Equal_variants_are_called_different_in_five_percent_of_reports_at_most(int seeds, int images, double accuracy)
    {
        const int Reports = 2000;
        Random random = new(17);
        int wrong = Enumerable.Range(0, Reports).Count(_ => Verdicts(Report(seeds, (_, _) => Accuracy(random, images, accuracy))).Any(verdict => verdict is "better" or "worse"));
        Assert.True(wrong <= Reports * (0.05 + (3 * Math.Sqrt(0.05 * 0.95 / Reports))), $"{wrong} of {Reports} reports");
    }

    /// <summary>A test that never decides would pass the one above.</summary>
    [Theory]
    [InlineData(3, 0.25)]
    [InlineData(5, 0.9)]
    [InlineData(8, 0.99)]
    public void A_difference_of_ten_points_is_found(int seeds, double share)
    {
        Random random = new(5);
        int found = Enumerable.Range(0, 400).Count(_ => Verdicts(Report(seeds, (variant, _) => Accuracy(random, 500, variant == 1 ? 0.9 : 0.8)))[0] == "better");
        Assert.True(found >= 400 * share, $"{found} of 400 reports");
    }

    /// <summary>0.83 − 0.80 and 0.53 − 0.50 are 0.03 each, and differ in the last digits of floating point.</summary>
    [Fact]
    public void Equal_differences_in_all_seeds_are_no_verdict()
    {
        double[][] scores = [[0.80, 0.50], [0.83, 0.53]];
        Assert.NotEqual(0.83 - 0.80, 0.53 - 0.50);
        AblationReport report = Report(2, (variant, seed) => scores[Math.Min(variant, 1)][seed]);
        Assert.All(report.Rows.Skip(1), row => Assert.Null(row.PValue));
        Assert.All(report.Rows.Skip(1), row => Assert.Null(row.AdjustedPValue));
        Assert.All(Verdicts(report), verdict => Assert.Equal("no variance: no verdict", verdict));

        // The interval is that of the resolution, 0.03: 0.03 ± 12.7062 · 0.03 / √6 / √2.
        Assert.Equal(0.03, report.Resolution!.Value, 12);
        Assert.Equal(0.03 + (12.7062 * 0.03 / Math.Sqrt(12)), report.Rows[1].Difference!.High!.Value, 4);
        Assert.Equal(0.65 + (12.7062 * 0.15 / Math.Sqrt(2) * Math.Sqrt(2)), report.Rows[0].Score.High!.Value, 4);
    }

    [Fact]
    public void Equal_scores_everywhere_are_within_noise()
    {
        AblationReport report = Report(3, (_, _) => 0.75);
        Assert.Null(report.Resolution);
        Assert.All(report.Rows.Skip(1), row => Assert.Equal(1, row.AdjustedPValue));
        Assert.All(Verdicts(report), verdict => Assert.Equal("within noise", verdict));
    }

    /// <summary>A comparison without a p value still counts among those that chance could have decided.</summary>
    [Fact]
    public void Holm_counts_every_comparison()
        => Assert.Equal([null, 0.03, 0.04], Estimate.Holm([null, 0.01, 0.02], 3).Select(p => p is double value ? Math.Round(value, 12) : p));

    /// <summary>The first variant differs by the same in all seeds and has no p value; the others are adjusted for it all the same.</summary>
    [Fact]
    public void A_report_counts_comparisons_without_a_p_value()
    {
        double[] noise = [0.01, 0.05, 0.02];
        AblationReport report = Report(3, (variant, seed) => variant switch { 0 => 0.5, 1 => 0.53, _ => 0.6 + (variant * 0.01) + noise[seed] });
        Assert.Null(report.Rows[1].PValue);
        AblationRow least = report.Rows.Where(row => row.PValue is not null).MinBy(row => row.PValue)!;
        Assert.InRange(least.PValue!.Value, 1e-6, 0.1);
        Assert.Equal(Variants * least.PValue.Value, least.AdjustedPValue!.Value, 12);
    }

    [Fact]
    public void The_deviation_is_never_below_what_rounding_to_the_resolution_brings()
    {
        // Differences 6 r and 7 r with r = 0.01: the deviation 0.7071 r is above r / √6. 6 r and 6.1 r: it is below.
        double wide = Estimate.PairedTest([0.06, 0.07], 0.0001 / 6)!.Value, narrow = Estimate.PairedTest([0.06, 0.061], 0.0001 / 6)!.Value;
        Assert.Equal(1 - (2 * Math.Atan(13) / Math.PI), wide, 9);
        Assert.Equal(1 - (2 * Math.Atan(0.0605 / (0.01 / Math.Sqrt(12))) / Math.PI), narrow, 9);
    }

    private static double Accuracy(Random random, int images, double probability) => Enumerable.Range(0, images).Count(_ => random.NextDouble() < probability) / (double)images;

    private static AblationReport Report(int seeds, Func<int, int, double> score)
    {
        AblationVariant[] variants = [.. Enumerable.Range(0, Variants + 1).Select(i => new AblationVariant(i == 0 ? "plain" : $"v{i}", AttentionPlan.None))];
        List<AblationRun> runs = [];
        for (int seed = 0; seed < seeds; seed++)
        {
            for (int variant = 0; variant <= Variants; variant++) runs.Add(new AblationRun(variants[variant].Name, seed, new AblationOutcome(score(variant, seed), 1, 1), 1));
        }

        return new AblationReport(variants, runs, "plain", 0.95, higherIsBetter: true);
    }

    /// <summary>The verdict of each variant but the baseline, as the CSV has it.</summary>
    private static string[] Verdicts(AblationReport report)
    {
        string[] lines = report.ToCsv().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        int column = Array.IndexOf(lines[0].Split(','), "verdict");
        return [.. lines.Skip(2).Select(line => line.Split(',')[column])];
    }
}
