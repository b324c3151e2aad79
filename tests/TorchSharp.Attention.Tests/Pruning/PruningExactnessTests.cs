namespace TorchSharp.Attention.Tests;

/// <summary>The smaller network computes what the larger one does with the removed channels at zero, in float64.</summary>
public sealed class PruningExactnessTests
{
    private const double Tolerance = 1e-10;

    public static TheoryData<string> Kinds => [.. PruningCases.Exact.Keys];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Inside_basic_blocks(string kind)
        => Same(PruningCases.Basic, AttentionPlan.Of(PruningCases.Exact[kind], AttentionPosition.AfterConv1), group => group.Name.Contains('.', StringComparison.Ordinal));

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Inside_bottlenecks(string kind) => Same(
        PruningCases.Bottleneck,
        AttentionPlan.Of(PruningCases.Exact[kind], AttentionPosition.AfterConv1).Add(PruningCases.Exact[kind], AttentionPosition.AfterConv2),
        group => group.Name.Contains('.', StringComparison.Ordinal));

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Inside_inverted_residuals(string kind) => Same(
        PruningCases.Mobile,
        AttentionPlan.Of(PruningCases.Exact[kind], AttentionPosition.AfterDepthwise).Add(PruningCases.Exact[kind], AttentionPosition.AfterExpand),
        group => group.Name.StartsWith("features", StringComparison.Ordinal) || group.Convolutions.Contains("features.0.0"));

    /// <summary>Maps that blocks add to: stem, projections, blocks and shortcuts lose the same channels.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Pruning_along_the_residual_stream_computes_the_smaller_formula(string kind)
    {
        AttentionOptions options = PruningCases.Exact[kind];
        AttentionPlan after = AttentionPlan.Of(options, AttentionPosition.After).Add(options, AttentionPosition.StageEnd).Add(options, AttentionPosition.Before);
        AttentionPlan plan = PruningCases.AnySign(kind) ? after.Add(options).Add(options, AttentionPosition.Shortcut) : after;
        Same(PruningCases.Basic, plan, group => !group.Name.Contains('.', StringComparison.Ordinal));
        Same(PruningCases.Bottleneck, plan, group => !group.Name.Contains('.', StringComparison.Ordinal));

        // A projection ends without an activation, so spatial halves meet negative values there.
        if (PruningCases.AnySign(kind)) Same(PruningCases.Mobile, plan, group => !group.Name.Contains('.', StringComparison.Ordinal));
    }

    /// <summary>Everything at once, and nothing at all.</summary>
    [Fact]
    public void In_all_groups_and_without_attention()
    {
        AttentionPlan plan = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }).Add(new SqueezeExcitationOptions { Reduction = 2 }).InStages(2);
        foreach (BackboneOptions options in new BackboneOptions[] { PruningCases.Basic, PruningCases.Bottleneck, PruningCases.Mobile, PruningCases.Efficient })
        {
            Same(options, plan, _ => true);
            Same(options, AttentionPlan.None, _ => true);
            Same(options, plan, _ => false);
        }
    }

    /// <summary>In training too: norms of the kept channels see the same batch.</summary>
    [Fact]
    public void In_training_mode()
    {
        manual_seed(4);
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Bottleneck with { Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }) }));
        network.train();
        ChannelRanking ranking = GatePruning.RankByNorm(network, 1, 3, 12, 12);
        PruningPlan plan = PruningCases.Take(network, ranking, _ => true);
        using ResNet smaller = network.Prune(plan);
        PruningCases.Silence(network, ranking, plan);
        Assert.True(smaller.training);
        using Tensor x = PruningCases.Images(3), expected = network.call(x), actual = smaller.call(x);
        Near.Equal(expected, actual, Tolerance, "logits");
    }

    /// <summary>An ECA pads its line of channels with zeros: channels that go at the end leave their neighbours what they had.</summary>
    [Fact]
    public void Eca_is_exact_at_the_ends_and_shifts_neighbours_elsewhere()
    {
        manual_seed(5);
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Basic with
        {
            Attention = AttentionPlan.Of(new EfficientChannelAttentionOptions(), AttentionPosition.AfterConv1),
        }));
        Assert.True(Error([10, 11]) < Tolerance);
        Assert.True(Error([0, 1, 11]) < Tolerance);
        Assert.True(Error([5]) > 1e-6);

        double Error(int[] channels)
        {
            using ResNet larger = network.Prune(GatePruning.PlanRemoval(network, new Dictionary<string, IReadOnlyList<int>>(), 1, 3, 12, 12));
            ChannelRanking ranking = GatePruning.RankByNorm(larger, 1, 3, 12, 12);
            PruningPlan plan = GatePruning.PlanRemoval(larger, new Dictionary<string, IReadOnlyList<int>> { ["layer1.0.conv1"] = channels }, 1, 3, 12, 12);
            Assert.Contains("side by side", plan.ToString(), StringComparison.Ordinal);
            using ResNet smaller = larger.Prune(plan);
            PruningCases.Silence(larger, ranking, plan);
            using Tensor x = PruningCases.Images(), expected = larger.call(x), actual = smaller.call(x);
            return Near.Error(expected.Doubles(), actual.Doubles());
        }
    }

    /// <summary>The gates of a shortened ECA are those of its kernel over the channels that stay.</summary>
    [Fact]
    public void Eca_runs_over_the_channels_that_stay()
    {
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Basic with
        {
            Attention = AttentionPlan.Of(new EfficientChannelAttentionOptions(), AttentionPosition.AfterConv1),
        }));
        using ResNet smaller = network.Prune(GatePruning.PlanRemoval(network, new Dictionary<string, IReadOnlyList<int>> { ["layer1.0.conv1"] = [1, 2, 7] }, 1, 3, 12, 12));
        EfficientChannelAttention eca = (EfficientChannelAttention)smaller.named_modules().Single(entry => entry.name == "layer1.0.attn_conv1").module;
        double[] kernel = network.state_dict()["layer1.0.attn_conv1.conv.weight"].Doubles();
        using Tensor x = rand(1, 9, 2, 2, dtype: ScalarType.Float64), means = x.mean([2, 3]), gate = eca.Gate(x);
        double[] line = [0, .. means.Doubles(), 0];
        double[] expected = [.. Enumerable.Range(0, 9).Select(i => 1 / (1 + Math.Exp(-((kernel[0] * line[i]) + (kernel[1] * line[i + 1]) + (kernel[2] * line[i + 2])))))];
        Near.Equal(expected, gate.Doubles(), 1e-12, "gate");
    }

    /// <summary>With l2 norms GCT keeps epsilon for a channel at zero; where that channel's embedding is zero too, nothing is left of it.</summary>
    [Fact]
    public void Gct_with_l2_norms_differs_by_epsilon_alone()
    {
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Basic with
        {
            Attention = AttentionPlan.Of(new GatedChannelTransformationOptions(), AttentionPosition.AfterConv1),
        }));
        ChannelRanking ranking = GatePruning.RankByNorm(network, 1, 3, 12, 12);
        PruningPlan plan = PruningCases.Take(network, ranking, group => group.Name == "layer1.0.conv1");
        using ResNet smaller = network.Prune(plan);
        PruningCases.Silence(network, ranking, plan);
        using Tensor x = PruningCases.Images(), actual = smaller.call(x), near = network.call(x);
        Assert.InRange(Near.Error(near.Doubles(), actual.Doubles(), ofLargest: 1), 1e-12, 1e-4);
        using (no_grad())
        {
            Tensor embedding = network.named_parameters().Single(entry => entry.name == "layer1.0.attn_conv1.embedding").parameter;
            foreach (int channel in plan.Groups.Single(group => group.Removed.Count > 0).Removed) embedding[0, channel] = 0;
        }

        using Tensor expected = network.call(x);
        Near.Equal(expected, actual, Tolerance, "logits");
    }

    private static void Same(BackboneOptions options, AttentionPlan attention, Func<ChannelGroup, bool> groups)
    {
        manual_seed(3);
        using FeatureNetwork network = PruningCases.Random((options with { Attention = attention }).Create());
        ChannelRanking ranking = GatePruning.RankByNorm(network, 1, 3, 12, 12);
        PruningPlan plan = PruningCases.Take(network, ranking, groups);
        using FeatureNetwork smaller = network.Prune(plan);
        Assert.Equal(network.GetType(), smaller.GetType());
        Assert.False(smaller.training);
        Assert.Equal(network.state_dict().Keys, smaller.state_dict().Keys);
        int removed = ranking.Groups.Where(groups).Sum(group => 4);
        Assert.Equal(removed, plan.RemovedChannels);
        Assert.Equal(smaller.parameters().Sum(parameter => parameter.numel()), plan.After.Parameters);
        if (removed > 0) Assert.True(plan.After.MultiplyAccumulates < plan.Before.MultiplyAccumulates);

        using Tensor x = PruningCases.Images();
        using (Tensor before = network.call(x))
        {
            PruningCases.Silence(network, ranking, plan);
            using Tensor expected = network.call(x), actual = smaller.call(x);
            Near.Equal(expected, actual, Tolerance, "logits");
            if (removed > 0) Assert.True(Near.Error(before.Doubles(), actual.Doubles(), ofLargest: 1) > 1e-6, "the removed channels meant nothing");
        }

        // Channels that are zero anyway change nothing when they go.
        using FeatureNetwork again = network.Prune(plan);
        using Tensor same = network.call(x), without = again.call(x);
        Near.Equal(same, without, Tolerance, "logits without zeros");

        using FeatureNetwork fused = smaller.FuseForInference();
        using Tensor folded = fused.call(x);
        Near.Equal(same.Doubles(), folded.Doubles(), 1e-9, "logits of the fused copy", ofLargest: 1);
    }
}
