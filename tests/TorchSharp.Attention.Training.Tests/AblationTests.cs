using System.Xml.Linq;

namespace TorchSharp.Attention.Training.Tests;

/// <summary>Statistics by known values; resuming, refusing and writing by what is on disk.</summary>
public sealed class AblationTests : IDisposable
{
    private static readonly AblationVariant Plain = new("plain", AttentionPlan.None);
    private static readonly AblationVariant Se = new("se", AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }));
    private static readonly AblationVariant Eca = new("eca, \"wide\"", AttentionPlan.Of(new EfficientChannelAttentionOptions()));

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>1, 2, 3, 4, 5: mean 3, s = 1.5811, t(0.975; 4) = 2.776445, so ± 1.963243.</summary>
    [Fact]
    public void An_interval_is_students()
    {
        Estimate estimate = Estimate.Of([1, 2, 3, 4, 5], 0.95);
        Assert.Equal(3, estimate.Mean, 12);
        Assert.Equal(3 - 1.963243, estimate.Low!.Value, 5);
        Assert.Equal(3 + 1.963243, estimate.High!.Value, 5);
        Assert.Equal(new Estimate(7, null, null), Estimate.Of([7], 0.95));
    }

    /// <summary>
    /// One degree of freedom is Cauchy's distribution: differences 1 and 3 give t = 2, p = 1 − 2 atan(2) / π = 0.295167. And t = 2.776445 with
    /// four degrees is p = 0.05.
    /// </summary>
    [Fact]
    public void The_paired_test_is_students()
    {
        Assert.Equal(1 - (2 * Math.Atan(2) / Math.PI), Estimate.PairedTest([1, 3])!.Value, 9);
        double shift = 2.776445 * Math.Sqrt(2.5 / 5);
        Assert.Equal(0.05, Estimate.PairedTest([shift - 2, shift - 1, shift, shift + 1, shift + 2])!.Value, 5);
        Assert.Equal(Estimate.PairedTest([1, 3]), Estimate.PairedTest([-1, -3]));
        Assert.Equal(1, Estimate.PairedTest([0, 0]));
        Assert.Null(Estimate.PairedTest([0.5, 0.5]));
        Assert.Null(Estimate.PairedTest([1]));
    }

    [Fact]
    public void Holm_multiplies_the_smallest_most_and_never_falls()
        => Assert.Equal([null, 0.04, 0.09, 0.09, 1], Estimate.Holm([null, 0.01, 0.04, 0.03, 1.0], 4).Select(p => p is double value ? Math.Round(value, 12) : p));

    [Fact]
    public void Every_variant_runs_with_every_seed_and_the_report_adds_up()
    {
        List<(string, int)> ran = [];
        AblationReport report = Ran([Plain, Se, Eca], [1, 2, 3], (variant, seed, _) =>
        {
            ran.Add((variant.Name, seed));
            return Outcome(variant, seed);
        }, new AblationOptions { Folder = _folder.Root });

        Assert.Equal([("plain", 1), ("se", 1), (Eca.Name, 1), ("plain", 2)], ran.Take(4));
        Assert.Equal(9, ran.Count);
        AblationRow plain = report.Rows[0], se = report.Rows[1], eca = report.Rows[2];
        Assert.Equal((0.82, 3), (Math.Round(plain.Score.Mean, 12), plain.Runs));
        Assert.Null(plain.Difference);
        Assert.Null(plain.PValue);

        // se: 0.05, 0.06, 0.07 better: t = 0.06 / (0.01 / √3), two degrees: p = 1 − t / √(t² + 2).
        double t = 6 * Math.Sqrt(3);
        Assert.Equal(0.06, se.Difference!.Mean, 12);
        Assert.Equal(1 - (t / Math.Sqrt((t * t) + 2)), se.PValue!.Value, 9);
        Assert.Equal(2 * se.PValue.Value, se.AdjustedPValue!.Value, 9);

        // eca costs more than se and scores less: not on the front.
        Assert.Equal([true, true, false], report.Rows.Select(row => row.IsOnFront));
        string[] lines = report.ToTable().Split('\n');
        Assert.Contains("  better  ", lines[2], StringComparison.Ordinal);
        Assert.Contains("  within noise  ", lines[3], StringComparison.Ordinal);
        Assert.Contains("\"eca, \"\"wide\"\"\",", report.ToCsv(), StringComparison.Ordinal);
        Assert.Equal(11, report.RunsToCsv().Split('\n').Length);
        Assert.Equal(0, eca.Difference!.Mean, 12);
    }

    [Fact]
    public void An_interrupted_ablation_goes_on_where_it_was()
    {
        int calls = 0;
        using CancellationTokenSource stop = new();
        Assert.Throws<OperationCanceledException>(() => Ran([Plain, Se], [1, 2], (variant, seed, _) =>
        {
            if (++calls == 3) stop.Cancel();
            return Outcome(variant, seed);
        }, new AblationOptions { Folder = _folder.Root }, stop));
        Assert.Equal(3, calls);
        Assert.Equal(3, Directory.GetFiles(_folder.PathOf("runs")).Length);

        // A killed process may leave a temporary file, and somebody else's accident a damaged one.
        string damaged = Directory.GetFiles(_folder.PathOf("runs"), "plain-*-seed2.json").Single();
        File.WriteAllText(damaged, "{ \"plan\": ");
        File.WriteAllText(damaged + ".x.tmp", "{");
        List<string> log = [];
        AblationReport report = Ran([Plain, Se], [1, 2], (variant, seed, _) =>
        {
            calls++;
            return Outcome(variant, seed);
        }, new AblationOptions { Folder = _folder.Root, Log = log.Add });
        Assert.Equal(5, calls);
        Assert.Equal(4, report.Runs.Count);
        Assert.Contains("is no result", log[0], StringComparison.Ordinal);
        Assert.StartsWith("4/4 se, seed 2: ", log[^1], StringComparison.Ordinal);

        AblationReport again = Ran([Plain, Se], [1, 2], (_, _, _) => throw new InvalidOperationException("nothing is left to run"), new AblationOptions { Folder = _folder.Root });
        Assert.Equal(report.Runs, again.Runs);
    }

    /// <summary>
    /// Wherever the process or the machine stopped: a temporary name with a part of a result, a result cut anywhere, one of zeros (what some file
    /// systems leave of a file that was not brought to disk).
    /// </summary>
    [Fact]
    public void A_result_cut_anywhere_is_run_again_and_no_other()
    {
        AblationOptions options = new() { Folder = _folder.Root };
        AblationReport whole = Ran([Plain, Se], [1, 2], (variant, seed, _) => Outcome(variant, seed), options);
        string file = Directory.GetFiles(_folder.PathOf("runs"), "se-*-seed1.json").Single(), text = File.ReadAllText(file);
        string temporary = file + ".abc.tmp";
        foreach (int length in Enumerable.Range(0, text.Length).Where(i => i % 7 == 0 || i > text.Length - 5).Append(-1))
        {
            File.WriteAllText(temporary, length < 0 ? text : text[..length]);
            File.WriteAllText(file, length < 0 ? new string('\0', text.Length) : text[..length]);
            List<(string, int)> ran = [];
            AblationReport report = Ran([Plain, Se], [1, 2], (variant, seed, _) =>
            {
                ran.Add((variant.Name, seed));
                return Outcome(variant, seed);
            }, options);
            Assert.Equal([("se", 1)], ran);
            Assert.Equal(whole.Runs.Select(run => (run.Variant, run.Seed, run.Outcome)), report.Runs.Select(run => (run.Variant, run.Seed, run.Outcome)));
        }
    }

    [Theory]
    [InlineData("\"score\": 1e999", "its score is")]
    [InlineData("\"score\": -1e999", "its score is")]
    [InlineData("\"parameters\": -1", "its cost is negative")]
    [InlineData("\"seconds\": 1e999", "its time is")]
    [InlineData("\"seconds\": -1", "its time is")]
    public void A_result_with_numbers_that_no_run_gives_is_run_again(string number, string reason)
    {
        List<string> log = [];
        AblationOptions options = new() { Folder = _folder.Root, Log = log.Add };
        AblationReport whole = Ran([Plain, Se], [1, 2], (variant, seed, _) => Outcome(variant, seed), options);
        string file = Directory.GetFiles(_folder.PathOf("runs"), "se-*-seed1.json").Single(), text = File.ReadAllText(file);
        string changed = System.Text.RegularExpressions.Regex.Replace(text, number.Split(':')[0] + ": [-+.0-9Ee]+", number);
        Assert.NotEqual(text, changed);
        File.WriteAllText(file, changed);
        log.Clear();
        int calls = 0;
        AblationReport report = Ran([Plain, Se], [1, 2], (variant, seed, _) =>
        {
            calls++;
            return Outcome(variant, seed);
        }, options);
        Assert.Equal(1, calls);
        Assert.Contains(reason, log[0], StringComparison.Ordinal);
        Assert.Equal(whole.Runs.Select(run => run.Outcome), report.Runs.Select(run => run.Outcome));
    }

    [Fact]
    public void A_failed_run_leaves_the_finished_ones()
    {
        Assert.Throws<TimeoutException>(() => Ran(
            [Plain, Se], [1], (variant, seed, _) => variant == Se ? throw new TimeoutException() : Outcome(variant, seed), new AblationOptions { Folder = _folder.Root }));
        Assert.Single(Directory.GetFiles(_folder.PathOf("runs")));
    }

    [Fact]
    public void Results_of_another_setup_or_plan_are_refused()
    {
        AblationOptions options = new() { Folder = _folder.Root, Setup = "2 epochs" };
        Ran([Plain, Se], [1, 2], (variant, seed, _) => Outcome(variant, seed), options);
        Assert.Contains("'2 epochs'", Refused<InvalidOperationException>([Plain, Se], [1, 2], options with { Setup = "3 epochs" }), StringComparison.Ordinal);
        AblationVariant other = Se with { Plan = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 8 }) };
        Assert.Contains("Take another folder", Refused<InvalidOperationException>([Plain, other], [1, 2], options), StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_input_is_refused()
    {
        AblationOptions options = new() { Folder = _folder.Root };
        Assert.Contains("no variants", Refused<ArgumentException>([], [1], options), StringComparison.Ordinal);
        Assert.Contains("variants[1] is null", Refused<ArgumentException>([Plain, null!], [1], options), StringComparison.Ordinal);
        Assert.Contains("variants[0] is without a plan", Refused<ArgumentException>([new("plain", (AttentionPlan)null!)], [1], options), StringComparison.Ordinal);
        Assert.Contains("variants[1] has no name", Refused<ArgumentException>([Plain, new(" ", AttentionPlan.None)], [1], options), StringComparison.Ordinal);
        Assert.Contains("no seeds", Refused<ArgumentException>([Plain], [], options), StringComparison.Ordinal);
        Assert.Contains("seed 1 is there twice", Refused<ArgumentException>([Plain], [1, 1], options), StringComparison.Ordinal);
        Assert.Contains("called 'plain'", Refused<ArgumentException>([Plain, Plain], [1], options), StringComparison.Ordinal);
        Assert.Contains("No variant is called 'base'", Refused<ArgumentException>([Plain], [1], options with { Baseline = "base" }), StringComparison.Ordinal);
        Assert.Contains("Confidence is 95", Refused<ArgumentOutOfRangeException>([Plain], [1], options with { Confidence = 95 }), StringComparison.Ordinal);
        Assert.Contains("'plain' with seed 4 is NaN", Assert.Throws<ArgumentException>(
            () => Ran([Plain], [4], (_, _, _) => new AblationOutcome(double.NaN, 1, 1), options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Lower_can_be_better()
    {
        AblationReport report = Ran(
            [Plain, Se], [1, 2, 3], (variant, seed, _) => Outcome(variant, seed), new AblationOptions { Folder = _folder.Root, HigherIsBetter = false });
        Assert.Contains("  worse  ", report.ToTable(), StringComparison.Ordinal);
        Assert.Equal([true, false], report.Rows.Select(row => row.IsOnFront));
    }

    [Fact]
    public void Insertions_are_plans_like_others()
    {
        CbamOptions cbam = new() { Reduction = 4 };
        AblationVariant inserted = new("inserted", InsertionPlan.After("layer*.conv2", cbam));
        Assert.Equal(AttentionPlan.None, inserted.Plan);
        List<InsertionPlan?> seen = [];
        AblationOptions options = new() { Folder = _folder.Root };
        Ran([Plain, inserted], [1, 2], Train, options);
        Assert.Equal([null, inserted.Insertion, null, inserted.Insertion], seen);
        Ran([Plain, inserted], [1, 2], Train, options);
        Assert.Equal(4, seen.Count);

        // Another plan under the same name is another network.
        foreach (InsertionPlan other in (InsertionPlan[])[
            InsertionPlan.After("layer*.conv2", cbam with { Reduction = 8 }), InsertionPlan.Before("layer*.conv2", cbam), InsertionPlan.After("layer*.conv1", cbam),
            new([new InsertionRule(cbam) { Name = "layer*.conv2", IdentityStart = false }]), InsertionPlan.After<Modules.Conv2d>(cbam), InsertionPlan.After((_, _) => true, cbam)])
        {
            Assert.Contains("inserted after layer*.conv2 {", Assert.Throws<InvalidOperationException>(
                () => Ran([Plain, new AblationVariant("inserted", other)], [1, 2], Train, options)).Message, StringComparison.Ordinal);
        }

        AblationOutcome Train(AblationVariant variant, int seed, CancellationToken stop)
        {
            seen.Add(variant.Insertion);
            return Outcome(variant, seed);
        }
    }

    [Fact]
    public void Files_and_the_picture_are_whole()
    {
        AblationVariant odd = new("<a & b>", AttentionPlan.None);
        AblationReport report = Ran([Plain, Se, Eca, odd], [1, 2], (variant, seed, _) => Outcome(variant, seed), new AblationOptions { Folder = _folder.Root });
        report.Save(_folder.Root);
        Assert.Equal(["front.svg", "runs.csv", "summary.csv", "summary.txt"], Directory.GetFiles(_folder.Root).Select(Path.GetFileName).Order());
        XNamespace ns = "http://www.w3.org/2000/svg";
        XElement svg = XDocument.Load(_folder.PathOf("front.svg")).Root!;
        // The least cost at the start; 2 and 4 percent more between 1 and 10 percent; of equal costs one beside the other.
        double From(double share) => 174 + ((Math.Log10(share) + 2) * 422);
        Assert.Equal(
            [104, From(0.02), From(0.04) - 4, From(0.04) + 4],
            svg.Elements(ns + "circle").Select(circle => (double)circle.Attribute("cx")!).Order(), (expected, found) => Math.Abs(expected - found) < 0.06);
        Assert.Equal(["0", "+1 %", "+10 %"], svg.Elements(ns + "text").Where(text => (string?)text.Attribute("y") == "470").Select(text => text.Value));
        Assert.Contains(svg.Elements(ns + "text"), text => text.Value == "<a & b>");
        double[] labels = [.. svg.Elements(ns + "text").Where(text => (string?)text.Attribute("x") == "660").Select(text => (double)text.Attribute("y")!).Take(4)];
        Assert.All(labels.Zip(labels.Skip(1)), pair => Assert.True(pair.Second - pair.First >= 17));
    }

    private static AblationReport Ran(
        AblationVariant[] variants, int[] seeds, Func<AblationVariant, int, CancellationToken, AblationOutcome> train, AblationOptions options, CancellationTokenSource? stop = null)
        => Ablation.Run(variants, seeds, train, options, stop?.Token ?? TestContext.Current.CancellationToken);

    private static string Refused<T>(AblationVariant[] variants, int[] seeds, AblationOptions options)
        where T : Exception
        => Assert.Throws<T>(() => Ran(variants, seeds, (variant, seed, _) => Outcome(variant, seed), options)).Message;

    /// <summary>plain: 0.81, 0.82, 0.83; se: 0.05 to 0.07 more; others: −0.01, 0, 0.01 more.</summary>
    private static AblationOutcome Outcome(AblationVariant variant, int seed)
    {
        double plain = 0.80 + (seed / 100.0);
        return variant.Name switch
        {
            "plain" => new AblationOutcome(plain, 1000, 50_000),
            "se" => new AblationOutcome(plain + 0.04 + (seed / 100.0), 1100, 51_000),
            _ => new AblationOutcome(plain + ((seed - 2) / 100.0), 1010, 52_000),
        };
    }
}
