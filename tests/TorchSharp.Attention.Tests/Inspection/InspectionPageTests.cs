namespace TorchSharp.Attention.Tests;

/// <summary>The C# of docs/inspection.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class InspectionPageTests
{
    [Fact]
    public void The_page_shows_what_runs_here()
        => ReadmeTests.Shows(Path.Combine("docs", "inspection.md"), Path.Combine("Inspection", "InspectionPageTests.cs"), ["record", "statistics"]);

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
        double shut = statistics.LowShare, open = statistics.HighShare, varies = statistics.VarianceOverSamples;
        IReadOnlyList<int> dead = statistics.Dead;
        // end statistics
        Assert.True(shut + open <= 1 && varies >= 0 && dead.Count <= 256);
    }
}
