using System.Diagnostics;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Training.Tests;

/// <summary>Points of a curve, their file, and what is refused.</summary>
public sealed class PruningCurveTests : IDisposable
{
    private static readonly double[] Fractions = [0, 0.3, 0.6];

    private readonly string folder = Directory.CreateTempSubdirectory("pruning-curve").FullName;
    private readonly ResNet network = new(new ResNetOptions
    {
        Layers = [1, 1],
        StagePlanes = [12, 16],
        StemWidth = 12,
        Stem = ResNetStem.Small,
        Classes = 3,
        Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.AfterConv1),
    });

    public void Dispose()
    {
        network.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Each_fraction_is_a_point_and_the_file_holds_them()
    {
        string csv = Path.Combine(folder, "deeper", "curve.csv");
        List<string> log = [];
        List<int> linesBefore = [];
        PruningCurve curve = PruningCurve.Run(network, Ranking(), Fractions, (smaller, _) =>
        {
            linesBefore.Add(File.Exists(csv) ? File.ReadAllLines(csv).Length : 0);
            return smaller.parameters().Sum(parameter => parameter.numel());
        }, new PruningCurveOptions { CsvPath = csv, Pruning = new PruningOptions { MinimumChannels = 2, Scope = PruningScope.Group }, Log = log.Add }, TestContext.Current.CancellationToken);
        Assert.Equal([1, 2, 3], linesBefore);
        Assert.Equal([0, 7, 16], curve.Points.Select(point => point.RemovedChannels));
        Assert.All(curve.Points, point => Assert.Equal(point.Score, point.Parameters));
        Assert.Equal(network.parameters().Sum(parameter => parameter.numel()), curve.Points[0].Parameters);
        Assert.True(curve.Points[2].MultiplyAccumulates < curve.Points[1].MultiplyAccumulates);
        Assert.Equal(curve.ToCsv(), File.ReadAllText(csv));
        Assert.StartsWith("0.3,7,", curve.ToCsv().Split('\n')[2], StringComparison.Ordinal);
        Assert.Single(Directory.GetFiles(Path.GetDirectoryName(csv)!));
        Assert.StartsWith("2/3 fraction 0.3: ", log[1], StringComparison.Ordinal);
        Assert.Contains("100%", curve.ToString().Split('\n')[1], StringComparison.Ordinal);
    }

    [Fact]
    public void The_page_shows_what_runs_here() => DocSnippets.AreShown("docs/ablation.md", ["ablation"]);

    [Fact]
    public void The_snippet_of_the_page_runs()
    {
        ChannelRanking ranking = Ranking();
        string path = Path.Combine(folder, "curve.csv");
#pragma warning disable xUnit1051 // The page shows the shortest call.
        // begin curve
        PruningCurve curve = PruningCurve.Run(network, ranking, [0, 0.25, 0.5, 0.75], (smaller, stop) =>
        {
            TrainOn(smaller, stop);
            return Accuracy(smaller);
        }, new PruningCurveOptions { CsvPath = path, Pruning = new PruningOptions { RoundTo = 8 } });
        Console.WriteLine(curve);
        // end curve
#pragma warning restore xUnit1051
        Assert.Equal(5, File.ReadAllLines(path).Length);

        static void TrainOn(ResNet smaller, CancellationToken stop) => stop.ThrowIfCancellationRequested();

        static double Accuracy(ResNet smaller) => 1.0 / smaller.Options.Classes;
    }

    [Fact]
    public void Nothing_is_trained_for_plans_that_cannot_be_made_and_scores_are_finite()
    {
        int trained = 0;
        Assert.Throws<ArgumentOutOfRangeException>(() => Run([0, 1.5]));
        Assert.Contains("no fractions", Assert.Throws<ArgumentException>(() => Run([])).Message, StringComparison.Ordinal);
        Assert.Equal(0, trained);
        Assert.Contains("finite", Assert.Throws<ArgumentException>(() => Run([0.2])).Message, StringComparison.Ordinal);
        using CancellationTokenSource stopped = new();
        stopped.Cancel();
        Assert.Throws<OperationCanceledException>(() => PruningCurve.Run(network, Ranking(), Fractions, (_, _) => 1, null, stopped.Token));

        PruningCurve Run(double[] fractions) => PruningCurve.Run(network, Ranking(), fractions, (_, _) =>
        {
            trained++;
            return double.NaN;
        }, null, TestContext.Current.CancellationToken);
    }

    [Fact]
    public void A_file_that_cannot_be_written_shows_before_anything_is_trained()
    {
        int trained = 0;
        Assert.ThrowsAny<Exception>(() => PruningCurve.Run(network, Ranking(), Fractions, (_, _) => ++trained, new PruningCurveOptions { CsvPath = folder }, TestContext.Current.CancellationToken));
        Assert.Equal(0, trained);
    }

    [Fact]
    public void Seconds_are_those_of_fine_tuning_and_evaluating()
    {
        double slept = 0;
        ChannelRanking ranking = Ranking();
        long begun = Stopwatch.GetTimestamp();
        PruningCurve curve = PruningCurve.Run(network, ranking, [0.5], (_, _) =>
        {
            long start = Stopwatch.GetTimestamp();
            Thread.Sleep(50);
            return slept = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }, null, TestContext.Current.CancellationToken);
        Assert.InRange(curve.Points[0].Seconds, slept, Stopwatch.GetElapsedTime(begun).TotalSeconds);
    }

    private ChannelRanking Ranking()
    {
        using Tensor images = randn(2, 3, 8, 8);
        return GatePruning.Rank(network, [images]);
    }
}
