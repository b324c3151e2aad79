namespace TorchSharp.Attention.Training.Tests;

/// <summary>The C# of docs/ablation.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class AblationPageTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("ablation-page").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void The_page_shows_what_runs_here() => DocSnippets.AreShown("docs/ablation.md", ["curve"]);

    [Fact]
    public void The_snippet_of_the_page_runs()
    {
#pragma warning disable xUnit1051 // The page shows the shortest call.
        // begin ablation
        AblationVariant[] variants =
        [
            new("plain", AttentionPlan.None),
            new("se", AttentionPlan.Parse("se:reduction=4")),
            new("cbam, last stages", AttentionPlan.Parse("cbam:reduction=4@before-add:3,4")),
        ];
        AblationReport report = Ablation.Run(variants, [1, 2, 3, 4, 5], (variant, seed, stop) =>
        {
            torch.manual_seed(seed);
            using ResNet network = ResNet.ResNet18(classes: 10, attention: variant.Plan);
            double accuracy = TrainAndEvaluate(network, seed, stop);
            return AblationOutcome.Of(accuracy, ModelCost.Measure(network, 1, 3, 32, 32));
        }, new AblationOptions { Folder = folder, Setup = "my data, 10 epochs" });
        Console.WriteLine(report.ToTable());
        report.Save(folder);                                     // summary.csv, runs.csv, summary.txt, front.svg
        // end ablation
#pragma warning restore xUnit1051
        Assert.Equal(15, report.Runs.Count);
        Assert.True(report.Rows[1].Parameters > report.Rows[0].Parameters);
        Assert.Equal("within noise", report.ToCsv().Split('\n')[2].Split(',').Single(cell => cell is "better" or "worse" or "within noise"));
    }

    /// <summary>No training: a score that depends on the seed alone.</summary>
    private static double TrainAndEvaluate(ResNet network, int seed, CancellationToken stop)
    {
        stop.ThrowIfCancellationRequested();
        return network.training ? 0.5 + (seed / 100.0) : 0;
    }
}
