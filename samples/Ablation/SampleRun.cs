using Samples;
using Samples.Data;
using TorchSharp;
using TorchSharp.Attention;
using TorchSharp.Attention.Training;
using TorchSharp.Attention.Visualization;

namespace AblationSample;

/// <summary>What the command line asks for.</summary>
internal sealed record SampleOptions
{
    public int Epochs { get; init; } = 2;

    public int Seeds { get; init; } = 3;

    /// <summary>Training images; the test images are the shipped ones.</summary>
    public int Images { get; init; } = 4_000;

    public string Out { get; init; } = "ablation-out";

    /// <summary>Few variants, seeds and images: shows that everything works, says nothing about attention.</summary>
    public bool Quick { get; init; }
}

/// <summary>Which attention, at which position, with which reduction: three questions, one plain network to compare with.</summary>
internal static class SampleRun
{
    private const int QuickImages = 640, QuickTest = 250;

    /// <summary>Plans in their short form. SE stands for every other gate where the question is the place or the width.</summary>
    private static readonly (string Question, string[] Plans)[] Questions =
    [
        ("which attention", ["se:reduction=4", "eca", "cbam:reduction=4,kernel=3", "bam:reduction=4@stage-end:1,2,3", "coord:reduction=4", "simam"]),
        ("which position", ["se:reduction=4@before", "se:reduction=4@shortcut", "se:reduction=4@after"]),
        ("which reduction", ["se:reduction=2", "se:reduction=8", "se:reduction=16"]),
    ];

    private static readonly string[] QuickPlans = ["se:reduction=4", "se:reduction=4@after", "se:reduction=8"];

    public static AblationReport Execute(SampleOptions options, TextWriter output, CancellationToken stop)
    {
        // One thread: the runs are small, and the same numbers come out on any number of cores.
        torch.set_num_threads(1);
        DataSet data = DataSet.LoadShipped();
        int images = options.Quick ? Math.Min(options.Images, QuickImages) : options.Images, epochs = options.Quick ? 1 : options.Epochs;
        data = data with { Train = data.Train.Take(images), Test = data.Test.Take(options.Quick ? QuickTest : data.Test.Count) };
        Normalisation normalisation = Normalisation.Of(data.Train);

        string[] plans = options.Quick ? QuickPlans : [.. Questions.SelectMany(question => question.Plans)];
        AblationVariant[] variants = [new("plain", AttentionPlan.None), .. plans.Select(plan => new AblationVariant(plan, AttentionPlan.Parse(plan)))];
        int[] seeds = [.. Enumerable.Range(1, options.Quick ? Math.Min(options.Seeds, 2) : options.Seeds)];
        output.WriteLine($"{variants.Length} variants with {seeds.Length} seeds, epochs: {epochs}, images: {data.Train.Count} to train, {data.Test.Count} to test");

        AblationReport report = Ablation.Run(
            variants,
            seeds,
            (variant, seed, token) =>
            {
                torch.manual_seed(seed);
                using ResNet network = new(SmallNetworks.ResNet(data, variant.Plan));
                double accuracy = new Trainer(data, normalisation, seed).Train(network, epochs, _ => { }, (_, _) => { }, token)[^1].TestAccuracy;
                (int channels, int height, int width) = data.Train.Shape;
                return AblationOutcome.Of(accuracy, ModelCost.Measure(network, 1, channels, height, width));
            },
            new AblationOptions
            {
                Folder = options.Out,
                Setup = $"{data.Name}, {data.Train.Count} to train, {data.Test.Count} to test, epochs: {epochs}",
                Log = output.WriteLine,
            },
            stop);

        output.WriteLine();
        output.WriteLine(report.ToTable());
        report.Save(options.Out);
        using (Picture front = AblationPicture.Draw(report)) front.SavePng(Path.Combine(options.Out, "front.png"));
        if (!options.Quick) Answer(report, output);
        output.WriteLine();
        output.WriteLine($"Table, runs and plot: {Path.Combine(options.Out, "summary.csv")}, runs.csv, front.svg, front.png");
        return report;
    }

    /// <summary>For each question the best by its mean, and whether the test tells it from the plain network.</summary>
    private static void Answer(AblationReport report, TextWriter output)
    {
        output.WriteLine();
        foreach ((string question, string[] plans) in Questions)
        {
            string[] asked = question == "which attention" ? plans : [.. plans, "se:reduction=4"];
            AblationRow best = report.Rows.Where(row => asked.Contains(row.Variant)).MaxBy(row => row.Score.Mean)!;
            string sure = best.AdjustedPValue < 1 - report.Confidence ? "and differs from the plain network" : "but does not differ from the plain network by more than noise";
            output.WriteLine(FormattableString.Invariant($"{question}? Highest mean: {best.Variant}, {best.Score.Mean:F4}, {sure}."));
        }
    }
}
