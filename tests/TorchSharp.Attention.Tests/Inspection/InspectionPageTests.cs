namespace TorchSharp.Attention.Tests;

/// <summary>The C# of docs/inspection.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class InspectionPageTests
{
    [Fact]
    public void The_page_shows_what_runs_here()
        => DocSnippets.AreShown("docs/inspection.md");

    [Fact]
    public void Its_snippets_run()
    {
        using ResNet network = ResNet.ResNet18(classes: 10, attention: AttentionPlan.Of(new CbamOptions()).InStages(3));
        using Tensor images = randn(2, 3, 32, 32), labels = tensor(new long[] { 1, 2 });

        // begin record
        using AttentionRecorder maps = AttentionRecorder.Attach(network);
        using Tensor logits = network.call(images);
        Tensor channels = maps["layer3.0.attn"].ChannelGate!;    // (N, C)
        Tensor positions = maps["layer3.0.attn"].SpatialGate!;   // (N, H, W)
        // end record
        Assert.Equal([2, 256], channels.shape);
        Assert.Equal([2, 2, 2], positions.shape);

        // begin statistics
        GateStatistics statistics = new(classes: 10);
        statistics.Add(maps["layer3.0.attn"].ChannelGate!, labels);   // batch by batch
        double shut = statistics.ClosedShare, open = statistics.OpenShare, varies = statistics.VarianceOverSamples;
        IReadOnlyList<int> dead = statistics.Dead;
        // end statistics
        Assert.True(shut + open <= 1 && varies >= 0 && dead.Count <= 256);
    }

    [Fact]
    public void A_training_is_watched()
    {
        string folder = Directory.CreateTempSubdirectory("watched").FullName;
        using ResNet network = new(new ResNetOptions { Layers = [1, 1], StagePlanes = [8, 16], Stem = ResNetStem.Small, Classes = 10, Attention = AttentionPlan.Of(new CbamOptions { Reduction = 4 }) });
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.01);
        IEnumerable<(Tensor, Tensor)> batches = Enumerable.Range(0, 50).Select(_ => (randn(2, 3, 8, 8), tensor(new long[] { 1, 2 })));

        // begin watch
        using GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions
        {
            Every = 50,                                                    // steps; those between cost nothing
            Log = Console.WriteLine,
            Csv = Path.Combine(folder, "gates.csv"),
            TensorBoard = utils.tensorboard.SummaryWriter(folder),
        });
        monitor.AlertRaised += (_, alert) => Console.Error.WriteLine(alert.Advice);
        foreach ((Tensor images, Tensor labels) in batches)
        {
            using DisposeScope scope = NewDisposeScope();
            optimizer.zero_grad();
            nn.functional.cross_entropy(network.call(images), labels).backward();
            optimizer.step();
            monitor.Step();                                                // at the end of each training step
        }
        // end watch
        Assert.Equal(4, monitor.Readings.Count);
        monitor.Dispose();
        Assert.Equal(2, Directory.GetFiles(folder).Length);
        Directory.Delete(folder, recursive: true);
    }
}
