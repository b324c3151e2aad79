namespace TorchSharp.Attention.Tests;

/// <summary>What pruning refuses, and that the message says what to do.</summary>
public sealed class PruningErrorTests
{
    private static readonly long[] Shape = [1, 3, 12, 12];

    [Theory]
    [InlineData(-0.1)]
    [InlineData(1)]
    [InlineData(double.NaN)]
    public void Fractions_out_of_range(double fraction)
    {
        using ResNet network = new(PruningCases.Basic);
        ChannelRanking ranking = GatePruning.RankByNorm(network, Shape);
        Assert.Contains("[0, 1)", Assert.Throws<ArgumentOutOfRangeException>(() => ranking.PlanRemoval(fraction)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Settings()
    {
        using ResNet network = new(PruningCases.Basic);
        ChannelRanking ranking = GatePruning.RankByNorm(network, Shape);
        Refused("Exclude is 'layer9.*', of which 'layer9.*' matches no group", () => ranking.PlanRemoval(0.5, new PruningOptions { Exclude = "layer9.*" }));
        Refused("of which 'conv9' matches no group. There are: layer1, layer1.0.conv1", () => ranking.PlanRemoval(0.5, new PruningOptions { Groups = "layer1, conv9" }));
        Refused("MinimumChannels is 0", () => ranking.PlanRemoval(0.5, new PruningOptions { MinimumChannels = 0 }));
        Refused("RoundTo is 0", () => ranking.PlanRemoval(0.5, new PruningOptions { RoundTo = 0 }));
        Refused("Scope is 7", () => ranking.PlanRemoval(0.5, new PruningOptions { Scope = (PruningScope)7 }));
        Refused("No channel may be removed", () => ranking.PlanRemoval(0.5, new PruningOptions { Exclude = "*" }));
        Refused("leave all groups out; '*' and '' leave none out", () => ranking.PlanRemoval(0.5, new PruningOptions { Groups = "" }));
        Refused("There is no group 'layer1.0'", () => _ = ranking["layer1.0"]);
        Refused("inputShape is [1, 4, 12, 12]", () => GatePruning.RankByNorm(network, 1, 4, 12, 12));
    }

    [Fact]
    public void Settings_that_hold_groups_back_are_named()
    {
        using ResNet network = new(PruningCases.Basic);
        ChannelRanking ranking = GatePruning.RankByNorm(network, Shape);
        PruningPlan few = ranking.PlanRemoval(0.5, new PruningOptions { MinimumChannels = 1000 }), coarse = ranking.PlanRemoval(0.5, new PruningOptions { MinimumChannels = 1, RoundTo = 1000 });
        Assert.Equal((0, 0), (few.RemovedChannels, coarse.RemovedChannels));
        Assert.All(few.Groups, group => Assert.Equal("MinimumChannels is 1000", group.KeptReason));
        Assert.Contains("whole, MinimumChannels is 1000: layer1, layer1.0.conv1", few.ToString(), StringComparison.Ordinal);
        Assert.Contains("whole, RoundTo is 1000: ", coarse.ToString(), StringComparison.Ordinal);
        Assert.All(ranking.PlanRemoval(0, new PruningOptions { MinimumChannels = 1000 }).Groups, group => Assert.Null(group.KeptReason));
        Assert.All(ranking.PlanRemoval(0.5, new PruningOptions { Scope = PruningScope.Group, MinimumChannels = 1 }).Groups, group => Assert.Null(group.KeptReason));
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void Weights_that_are_no_numbers_are_not_ranked(float wrong)
    {
        using ResNet network = new(PruningCases.Basic);
        using (no_grad())
        using (Tensor first = network.get_parameter("layer2.0.conv2.weight")!.view(-1)[0]) first.fill_(wrong.ToScalar());
        string message = Assert.Throws<InvalidOperationException>(() => GatePruning.RankByNorm(network, Shape)).Message;
        Assert.Contains("weight of layer2.0.conv2 has values that are not finite", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Channels_of_ones_own_choice()
    {
        using ResNet network = new(PruningCases.Basic with { Attention = AttentionPlan.Of(new TripletAttentionOptions()).InStages(2) });
        Refused("all 12 channels of 'layer1.0.conv1'; leave at least one", () => Remove("layer1.0.conv1", Enumerable.Range(0, 12)));
        Refused("channel 12 of 'layer1', which has 0 to 11", () => Remove("layer1", [3, 12]));
        Refused("channel -1 of", () => Remove("layer1", [3, -1]));
        Refused("'stem', which is no group of ResNet. There are: layer1", () => Remove("stem", [0]));
        Refused("'layer2', but layer2.0.attn (TripletAttention) cannot give channels away", () => Remove("layer2", [0]));

        PruningPlan Remove(string group, IEnumerable<int> channels) => GatePruning.PlanRemoval(network, new Dictionary<string, IReadOnlyList<int>> { [group] = [.. channels] }, Shape);
    }

    [Fact]
    public void Attentions_that_cannot_be_cut_keep_their_channels_and_are_named()
    {
        AttentionPlan plan = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.AfterConv1)
            .Add(new SelfAttention2dOptions { Heads = 4 }).InStages(2)
            .Add(new SelectiveKernelOptions(), AttentionPosition.ReplaceSpatialConv).InStages(2);
        using ResNet network = new(PruningCases.Basic with { Attention = plan });
        using Tensor x = randn(2, 3, 12, 12);
        PruningPlan pruned = GatePruning.Rank(network, [x]).PlanRemoval(0.5);
        string text = pruned.ToString();
        Assert.Contains("layer2.0.attn (SelfAttention2d) cannot give channels away: layer2", text, StringComparison.Ordinal);
        Assert.Contains("layer2.0.conv1 (SelectiveKernel) cannot give channels away: layer1, layer2.0.conv1", text, StringComparison.Ordinal);
        Assert.All(pruned.Groups.Where(group => group.Removed.Count > 0), group => Assert.StartsWith("layer1.", group.Name, StringComparison.Ordinal));
        using ResNet smaller = network.Prune(pruned);
        using Tensor y = smaller.call(x);
        Assert.Equal([2, 3], y.shape);
    }

    [Fact]
    public void Networks_without_gates_are_told_what_to_do()
    {
        using ResNet plain = new(PruningCases.Basic), spatial = new(PruningCases.Basic with { Attention = AttentionPlan.Of(new SpatialAttentionOptions()) });
        using ResNet other = new(PruningCases.Basic with { Attention = AttentionPlan.Of(new TripletAttentionOptions()) });
        using Tensor x = randn(2, 3, 12, 12);
        foreach (ResNet network in new[] { plain, spatial, other })
        {
            string message = Assert.Throws<ArgumentException>(() => GatePruning.Rank(network, [x])).Message;
            Assert.Contains("has no channel gate", message, StringComparison.Ordinal);
            Assert.Contains("RankByNorm", message, StringComparison.Ordinal);
            Assert.True(network.training);
        }

        // A gate on channels that are left out is none.
        using ResNet gated = new(PruningCases.Basic with { Attention = AttentionPlan.Of(new EfficientChannelAttentionOptions()) });
        ChannelRanking ranking = GatePruning.Rank(gated, [x]);
        Refused("No channel may be removed", () => ranking.PlanRemoval(0.5, new PruningOptions { Groups = "layer1.0.conv1" }));
        Assert.True(ranking.PlanRemoval(0.5, new PruningOptions { Groups = "layer1.0.conv1", IncludeUngated = true }).RemovedChannels > 0);
    }

    [Fact]
    public void Networks_that_cannot_be_pruned()
    {
        using UNet unet = new(new UNetOptions { Widths = [4, 8] });
        using ResNet network = new(PruningCases.Basic), wider = new(PruningCases.Basic with { StemWidth = 16 });
        using ResNet fused = network.FuseForInference();
        PruningPlan plan = GatePruning.RankByNorm(network, Shape).PlanRemoval(0.3);
        Refused("UNet cannot be pruned; EfficientNet, MobileNetV2 and ResNet can", () => GatePruning.RankByNorm(unet, Shape));
        Refused("The plan is for another network", () => wider.Prune(plan));
        Assert.Contains("fused for inference", Assert.Throws<InvalidOperationException>(() => GatePruning.RankByNorm(fused, Shape)).Message, StringComparison.Ordinal);
        using InsertionHandle handle = network.InsertAttention(InsertionPlan.After("layer1.0.conv2", new SqueezeExcitationOptions { Reduction = 4 }), randn(1, 3, 12, 12));
        Assert.Contains("not what its options build", Assert.Throws<InvalidOperationException>(() => network.Prune(plan)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Data_sets_without_images_and_gates_that_are_not_finite()
    {
        using ResNet network = new(PruningCases.Basic with { Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }) });
        Refused("batches holds no image", () => GatePruning.Rank(network, []));
        using Tensor x = full([1, 3, 12, 12], float.NaN);
        Assert.Contains("not finite", Assert.Throws<InvalidOperationException>(() => GatePruning.Rank(network, [x])).Message, StringComparison.Ordinal);
        Assert.True(network.training);
        Assert.Contains("attn", Assert.Throws<InvalidOperationException>(() => GatePruning.Rank(network, [x])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Widths_that_do_not_fit()
    {
        ResNetWidths widths = new() { Stem = 12, Stages = [12, 16], Conv1 = [4, 4, 4] };
        Refused("Stages is [12] for 2 stages", () => new ResNet(PruningCases.Basic with { Widths = widths with { Stages = [12] } }));
        Refused("Conv1 is [4, 4] for 3 blocks", () => new ResNet(PruningCases.Basic with { Widths = widths with { Conv1 = [4, 4] } }));
        Refused("basic blocks have no inner second convolution", () => new ResNet(PruningCases.Basic with { Widths = widths with { Conv2 = [4, 4, 4] } }));
        Refused("Conv2 is null for 3 blocks", () => new ResNet(PruningCases.Bottleneck with { Widths = widths }));
        Refused("Stages[0] is 8 and Stem is 12", () => new ResNet(PruningCases.Basic with { Widths = widths with { Stages = [8, 16] } }));
        MobileNetV2Widths mobile = new() { Stem = 8, Expanded = [8, .. Enumerable.Repeat(5, 16)], Stages = [8, 8, 8, 8, 8, 16, 32], Last = 10 };
        Refused("Expanded is [5] for 17 blocks", () => new MobileNetV2(PruningCases.Mobile with { Widths = mobile with { Expanded = [5] } }));
        Refused("Expanded[0] is 5 and the block's input has 8", () => new MobileNetV2(PruningCases.Mobile with { Widths = mobile with { Expanded = [.. Enumerable.Repeat(5, 17)] } }));
        Refused("Stages[0] is 4 and the block's input has 8 channels, but it adds the two", () => new MobileNetV2(PruningCases.Mobile with { Widths = mobile with { Stages = [4, 8, 8, 8, 16, 16, 32] } }));
        Refused("Last is 0", () => new MobileNetV2(PruningCases.Mobile with { Widths = mobile with { Last = 0 } }));
    }

    [Fact]
    public void Options_as_json()
    {
        BackboneOptions options = PruningCases.Bottleneck with
        {
            Attention = AttentionPlan.Of(new CbamOptions { Reduction = 4 }).InStages(2),
            Widths = new ResNetWidths { Stem = 5, Stages = [6, 7], Conv1 = [1, 2, 3], Conv2 = [4, 5, 6] },
        };
        Assert.Equal(options, BackboneOptions.FromJson(options.ToJson(indented: true)));
        Assert.StartsWith("{\"network\":\"resNet\",\"block\":\"bottleneck\"", options.ToJson(), StringComparison.Ordinal);
        Assert.Equal(new MobileNetV2Options(), BackboneOptions.FromJson("{\"network\":\"mobileNetV2\"}"));
        Refused("There is no network 'vgg'. Known networks: convNeXt, efficientNet, mobileNetV2, resNet", () => BackboneOptions.FromJson("{\"network\":\"vgg\"}"));
        Refused("no object with a 'network'", () => BackboneOptions.FromJson("[]"));
        Refused("cannot be read", () => BackboneOptions.FromJson("{\"network\":\"resNet\",\"depth\":3}"));
        Refused("cannot be read", () => BackboneOptions.FromJson("{\"network\":\"resNet\",\"layers\":\"two\"}"));
        Assert.Throws<InvalidOperationException>(() => (PruningCases.Basic with { Attention = AttentionPlan.Of(new SimAmOptions()).Where(_ => true) }).ToJson());
    }

    private static void Refused(string words, Func<object> call) => Assert.Contains(words, Assert.ThrowsAny<ArgumentException>(call).Message, StringComparison.Ordinal);

    private static void Refused(string words, Action call) => Assert.Contains(words, Assert.ThrowsAny<ArgumentException>(call).Message, StringComparison.Ordinal);
}
