namespace TorchSharp.Attention.Tests;

/// <summary>The C# of docs/pruning.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class PruningPageTests
{
    [Fact]
    public void The_page_shows_what_runs_here()
        => DocSnippets.AreShown("docs/pruning.md");

    [Fact]
    public void Its_snippets_run()
    {
        using WeightsFolder folder = new();
        string path = folder.PathOf("smaller.safetensors");
        using MobileNetV2 network = new(PruningCases.Mobile with
        {
            Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.AfterDepthwise),
        });
        using Tensor images = randn(2, 3, 16, 16);
        Tensor[] batches = [images];

        // begin prune
        ChannelRanking ranking = GatePruning.Rank(network, batches);                 // mean gate of every channel over a data set
        PruningPlan plan = ranking.PlanRemoval(0.5, new PruningOptions { RoundTo = 8 }); // at most half of the channels that a gate sees
        Console.WriteLine(plan);                                                     // what goes, what stays and why, cost before and after
        using MobileNetV2 smaller = network.Prune(plan);                             // a new network; the old one stays as it is
        TrainOn(smaller);                                                            // your loop, a few epochs; make the optimizer anew
        // end prune
        Assert.All(plan.Groups, group => Assert.True(group.Removed.Count == 0 || group.Kept.Count % 8 == 0));
        Assert.True(plan.After.MultiplyAccumulates < 0.9 * plan.Before.MultiplyAccumulates);

        // begin save
        smaller.SaveWeights(path, new Dictionary<string, string> { ["format"] = "pt", ["network"] = smaller.Options.ToJson() });

        using SafetensorsFile file = SafetensorsFile.Open(path);
        using FeatureNetwork loaded = BackboneOptions.FromJson(file.Metadata["network"]).Create();
        file.LoadInto(loaded);
        // end save
        smaller.eval();
        loaded.eval();
        using Tensor expected = smaller.call(images), actual = loaded.call(images);
        Near.Identical(expected, actual);

        // begin options
        PruningOptions inner = new()
        {
            Scope = PruningScope.Global,      // or Group: every group loses the same share
            MinimumChannels = 16,             // left of every group
            RoundTo = 8,                     // what is left is rounded up to a multiple
            Groups = "layer*.conv*",          // by the names of groups and of their convolutions
            Exclude = "layer4.*",
        };
        // end options
        using ResNet resnet = ResNet.ResNet18(classes: 3);
        PruningPlan some = GatePruning.RankByNorm(resnet, 1, 3, 64, 64).PlanRemoval(0.3, inner);
        Assert.All(some.Groups.Where(group => group.Removed.Count > 0), group => Assert.False(group.Name.StartsWith("layer4", StringComparison.Ordinal)));
    }

    /// <summary>One step stands for the loop.</summary>
    private static void TrainOn(MobileNetV2 smaller)
    {
        using DisposeScope scope = NewDisposeScope();
        smaller.train();
        smaller.call(randn(2, 3, 16, 16)).sum().backward();
    }
}
