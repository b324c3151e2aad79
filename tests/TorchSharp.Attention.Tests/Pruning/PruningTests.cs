using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Rankings, plans, and what a smaller network can do.</summary>
public sealed class PruningTests
{
    private static readonly AttentionPlan Se = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.AfterDepthwise);

    [Fact]
    public void Scores_are_the_mean_gates_of_a_slow_computation()
    {
        AttentionPlan plan = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }).Add(new CbamOptions { Reduction = 4, KernelSize = 3 }, AttentionPosition.After);
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Basic with { Attention = plan }));
        network.train();
        using Tensor first = PruningCases.Images(3), second = PruningCases.Images(2, size: 9);
        ChannelRanking ranking = GatePruning.Rank(network, [first, second]);
        Assert.True(network.training);
        Assert.All(network.modules(), module => Assert.True(module.training));
        Assert.Equal(5, ranking.Samples);
        Assert.Equal([1, 3, 12, 12], ranking.InputShape);

        // Image by image: every gate of the group by its own module, on the map that it was given.
        network.eval();
        string[] gates = ["layer1.0.attn", "layer1.0.attn_after", "layer1.1.attn", "layer1.1.attn_after"];
        double[] sums = new double[12];
        foreach (Tensor image in first.split(1).Concat(second.split(1)))
        {
            using DisposeScope scope = NewDisposeScope();
            foreach (string name in gates)
            {
                GateModule module = (GateModule)network.named_modules().Single(entry => entry.name == name).module;
                Tensor? seen = null;
                var hook = module.register_forward_hook((_, input, output) =>
                {
                    seen = input.detach().clone().DetachFromDisposeScope();
                    return output;
                });
                network.call(image);
                hook.remove();
                using Tensor map = seen!;
                Tensor gate = module is Cbam cbam ? cbam.ChannelHalf.Gate(map) : module.Gate(map);
                double[] values = gate.Doubles();
                for (int i = 0; i < 12; i++) sums[i] += values[i] / gates.Length / 5;
            }
        }

        ChannelGroup group = ranking["layer1"];
        Assert.Equal(gates, group.Gates.Order());
        Assert.Equal(ChannelCriterion.Gate, group.Criterion);
        Assert.Equal(["conv1", "layer1.0.conv2", "layer1.1.conv2"], group.Convolutions);
        Near.Equal(sums, [.. group.Scores], 1e-10, "mean gates");

        // No gate sees the inside of the blocks.
        ChannelGroup inside = ranking["layer1.0.conv1"];
        Assert.Equal(ChannelCriterion.WeightNorm, inside.Criterion);
        double[] weights = network.state_dict()["layer1.0.conv1.weight"].Doubles();
        double[] norms = [.. weights.Chunk(12 * 9).Select(filter => filter.Sum(Math.Abs))];
        Near.Equal([.. norms.Select(norm => norm / norms.Average())], [.. inside.Scores], 1e-12, "norms");
    }

    [Fact]
    public void The_lowest_scores_go_across_groups()
    {
        using MobileNetV2 network = PruningCases.Random(new MobileNetV2(PruningCases.Mobile with { Attention = Se }));
        using Tensor x = PruningCases.Images(2, size: 8);
        ChannelRanking ranking = GatePruning.Rank(network, [x]);
        PruningPlan plan = ranking.PlanRemoval(0.4, new PruningOptions { MinimumChannels = 2 });
        (double Score, bool Removed)[] all =
        [
            .. plan.Groups.Where(group => group.KeptReason is null && group.Kept.Count > 2).SelectMany(group =>
                ranking[group.Name].Scores.Select((score, i) => (score / ranking[group.Name].Scores.Average(), group.Removed.Contains(i)))),
        ];
        Assert.True(all.Where(entry => entry.Removed).Max(entry => entry.Score) <= all.Where(entry => !entry.Removed).Min(entry => entry.Score));
        int candidates = plan.Groups.Where(group => group.KeptReason is null).Sum(group => group.Channels);
        Assert.Equal((int)((0.4 * candidates) + 1e-9), plan.RemovedChannels);
        Assert.Equal("no gate sees it", plan.Groups.Single(group => group.Name == "features.18").KeptReason);
    }

    [Fact]
    public void Each_group_can_lose_its_own_share_in_multiples_with_exceptions()
    {
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Bottleneck));
        ChannelRanking ranking = GatePruning.RankByNorm(network, 2, 3, 12, 12);
        PruningPlan plan = ranking.PlanRemoval(0.5, new PruningOptions { Scope = PruningScope.Group, MinimumChannels = 1, RoundTo = 4, Exclude = "layer2.*, stem" });
        Dictionary<string, PrunedGroup> groups = plan.Groups.ToDictionary(group => group.Name);
        Assert.Equal((4, 4, 16), (groups["layer1.0.conv1"].Kept.Count, groups["layer1.1.conv2"].Kept.Count, groups["layer1"].Kept.Count));
        Assert.Equal((12, 48, 10), (groups["layer2.0.conv1"].Kept.Count, groups["layer2"].Kept.Count, groups["stem"].Kept.Count));
        Assert.Equal("left out", groups["layer2"].KeptReason);
        double[] scores = [.. ranking["layer1.0.conv1"].Scores];
        Assert.Equal(Enumerable.Range(0, 8).OrderBy(i => scores[i]).Take(4).Order(), groups["layer1.0.conv1"].Removed);

        // Ten channels: half of them and a multiple of four is eight; nine tenths and at least six, of the inside alone, is six.
        PruningPlan other = ranking.PlanRemoval(0.9, new PruningOptions { Scope = PruningScope.Group, MinimumChannels = 6, Groups = "layer1.0.conv1" });
        Assert.Equal(6, other.Groups.Single(group => group.Name == "layer1.0.conv1").Kept.Count);
        Assert.Equal(2, other.RemovedChannels);
        Assert.Equal(0, ranking.PlanRemoval(0).RemovedChannels);
        Assert.Equal(network.Options, ranking.PlanRemoval(0).Result);
    }

    [Fact]
    public void A_plan_prints_what_goes_and_what_it_saves_and_changes_nothing()
    {
        using MobileNetV2 network = PruningCases.Random(new MobileNetV2(PruningCases.Mobile with { Attention = Se }));
        using DisposeScope scope = NewDisposeScope();
        Dictionary<string, Tensor> before = network.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
        Tensor x = PruningCases.Images(2, size: 8);
        manual_seed(9);
        Tensor expected = rand(2);
        manual_seed(9);
        PruningPlan plan = GatePruning.Rank(network, [x]).PlanRemoval(0.5);
        string text = plan.ToString();
        using MobileNetV2 smaller = network.Prune(plan);
        Near.Identical(expected, rand(2));
        foreach ((string key, Tensor value) in network.state_dict()) Near.Identical(before[key], value);
        Assert.Contains("features.2 ", text, StringComparison.Ordinal);
        Assert.Contains("whole, no gate sees it: stage", text, StringComparison.Ordinal);
        Assert.Contains(FormattableString.Invariant($"parameters: {ModelCost.Measure(network, 1, 3, 8, 8).Parameters:N0} to {ModelCost.Measure(smaller, 1, 3, 8, 8).Parameters:N0} (-"), text, StringComparison.Ordinal);
        Assert.Contains(FormattableString.Invariant($"to {ModelCost.Measure(smaller, 1, 3, 8, 8).MultiplyAccumulates:N0} (-"), text, StringComparison.Ordinal);
        Assert.Equal(smaller.Options, plan.Result);
    }

    [Fact]
    public void Inner_widths_of_attentions_stay_as_they_were_trained()
    {
        using MobileNetV2 network = new(PruningCases.Mobile with { Attention = Se.Where(site => site.Stage != 3).Add(new EfficientChannelAttentionOptions()).InBlocks(0) });
        ChannelRanking ranking = GatePruning.RankByNorm(network, 1, 3, 12, 12);
        using MobileNetV2 smaller = network.Prune(ranking.PlanRemoval(0.6, new PruningOptions { Groups = "features.*", Scope = PruningScope.Group, MinimumChannels = 1 }));
        SqueezeExcitation Of(MobileNetV2 from) => (SqueezeExcitation)from.named_modules().Single(entry => entry.name == "features.5.attn_depthwise" || entry.name == "features.7.attn_depthwise").module;
        Assert.Equal(Of(network).ReducedChannels, Of(smaller).ReducedChannels);
        Assert.True(Of(smaller).Channels < Of(network).Channels);
        Assert.All(smaller.Options.Attention.Rules, rule => Assert.Null(rule.Predicate));
        Assert.Equal(network.named_modules().Select(entry => entry.name), smaller.named_modules().Select(entry => entry.name));

        // Once more from the smaller one.
        using MobileNetV2 smallest = smaller.Prune(GatePruning.RankByNorm(smaller, 1, 3, 12, 12).PlanRemoval(0.5, new PruningOptions { MinimumChannels = 2 }));
        Assert.Equal(Of(network).ReducedChannels, Of(smallest).ReducedChannels);
        using Tensor x = randn(2, 3, 16, 16), y = smallest.call(x);
        Assert.Equal([2, 3], y.shape);
    }

    [Fact]
    public void Numbers_that_happen_to_meet_make_no_shortcut_and_take_no_projection_away()
    {
        // After the removal the first stage of bottlenecks has as many channels as the stem, and the fourth as many as the fifth.
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Bottleneck));
        int[] most = [.. Enumerable.Range(0, 22)];
        using ResNet equal = network.Prune(GatePruning.PlanRemoval(network, new Dictionary<string, IReadOnlyList<int>> { ["layer1"] = most }, 1, 3, 12, 12));
        Assert.Equal(equal.Options.Widths!.Stem, equal.Options.Widths.Stages[0]);
        Assert.Contains("layer1.0.downsample.0.weight", equal.state_dict().Keys);
        using MobileNetV2 mobile = new(new MobileNetV2Options { WidthMultiplier = 0.35, Classes = 3, SmallImages = true });
        ChannelRanking ranking = GatePruning.RankByNorm(mobile, 1, 3, 12, 12);
        int fewer = ranking["stage5"].Channels - ranking["stage4"].Channels;
        using MobileNetV2 same = mobile.Prune(GatePruning.PlanRemoval(mobile, new Dictionary<string, IReadOnlyList<int>> { ["stage5"] = [.. Enumerable.Range(0, fewer)] }, 1, 3, 12, 12));
        Assert.Equal(same.Options.Widths!.Stages[3], same.Options.Widths.Stages[4]);
        using Tensor x = randn(1, 3, 12, 12), before = same.call(x);
        Assert.Equal(mobile.named_modules().Count(), same.named_modules().Count());
    }

    [Fact]
    public void It_trains_saves_loads_and_fuses()
    {
        manual_seed(7);
        using MobileNetV2 network = new(PruningCases.Mobile with { Attention = Se });
        network.named_parameters().Single(entry => entry.name == "features.0.0.weight").parameter.requires_grad = false;
        using Tensor images = randn(4, 3, 12, 12), labels = tensor(new long[] { 0, 1, 2, 0 });
        network.train();
        ChannelRanking ranking = GatePruning.Rank(network, [images]);
        using MobileNetV2 smaller = network.Prune(ranking.PlanRemoval(0.5, new PruningOptions { IncludeUngated = true }));
        Assert.True(smaller.training);
        Assert.False(smaller.named_parameters().Single(entry => entry.name == "features.0.0.weight").parameter.requires_grad);

        using (optim.Optimizer optimizer = optim.SGD(smaller.parameters(), 0.05))
        {
            double first = Step(), last = 0;
            Assert.All(smaller.named_parameters().Where(entry => entry.parameter.requires_grad), entry => Assert.NotNull(entry.parameter.grad));
            for (int i = 0; i < 15; i++) last = Step();
            Assert.True(last < 0.9 * first, $"{first} to {last}");

            double Step()
            {
                using DisposeScope scope = NewDisposeScope();
                optimizer.zero_grad();
                Tensor loss = nn.functional.cross_entropy(smaller.call(images), labels);
                loss.backward();
                optimizer.step();
                return loss.item<float>();
            }
        }

        using WeightsFolder folder = new();
        string path = folder.PathOf("smaller.safetensors");
        smaller.SaveWeights(path, new Dictionary<string, string> { ["format"] = "pt", ["network"] = smaller.Options.ToJson() });
        using WeightsFile file = WeightsFile.Open(path);
        BackboneOptions options = BackboneOptions.FromJson(((SafetensorsFile)file).Metadata["network"]);
        Assert.Equal(smaller.Options, options);
        using FeatureNetwork loaded = options.Create();
        file.LoadInto(loaded);
        smaller.eval();
        loaded.eval();
        using MobileNetV2 fused = smaller.FuseForInference();
        using Tensor expected = smaller.call(images), actual = loaded.call(images), folded = fused.call(images);
        Near.Identical(expected, actual);
        Near.Equal(expected.Doubles(), folded.Doubles(), 1e-4, "fused", ofLargest: 1);
        Assert.Equal(smaller.FeatureChannels, loaded.FeatureChannels);
    }

    [Fact]
    public void A_pruned_encoder_serves_a_unet()
    {
        using ResNet network = new(PruningCases.Basic with { Stem = ResNetStem.Standard });
        PruningPlan plan = GatePruning.RankByNorm(network, 1, 3, 32, 32).PlanRemoval(0.3, new PruningOptions { MinimumChannels = 1 });
        using UNet unet = new(new UNetOptions { Encoder = plan.Result, Classes = 2, Widths = [4, 4, 4] });
        using Tensor x = randn(1, 3, 32, 32), y = unet.call(x);
        Assert.Equal([1, 2, 32, 32], y.shape);
    }

    [Fact]
    public void An_attention_of_ones_own_says_where_its_channels_are()
    {
        using ResNet network = PruningCases.Random(new ResNet(PruningCases.Basic with { Attention = AttentionPlan.Of(new ScaleOptions()) }));
        ChannelRanking ranking = GatePruning.RankByNorm(network, 1, 3, 12, 12);
        PruningPlan plan = PruningCases.Take(network, ranking, group => group.Name is "layer1" or "layer2");
        using ResNet smaller = network.Prune(plan);
        PruningCases.Silence(network, ranking, plan);
        using Tensor x = PruningCases.Images(), expected = network.call(x), actual = smaller.call(x);
        Near.Equal(expected, actual, 1e-10, "logits");
    }

    [Fact]
    public void No_tensor_stays_alive()
    {
        using MobileNetV2 network = new(PruningCases.Mobile with { Attention = Se });
        using Tensor x = randn(2, 3, 8, 8);
        for (int i = 0; i < 2; i++) Once();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 5; i++) Once();
        Assert.Equal(0, LiveTensors.OfThread - before);

        MobileNetV2 outlives;
        using (NewDisposeScope()) outlives = network.Prune(GatePruning.Rank(network, [x]).PlanRemoval(0.5));
        Assert.All(outlives.state_dict(), entry => Assert.False(entry.Value.IsInvalid, entry.Key));
        outlives.Dispose();

        void Once()
        {
            PruningPlan plan = GatePruning.Rank(network, [x]).PlanRemoval(0.5);
            _ = plan.ToString();
            network.Prune(plan).Dispose();
        }
    }

    /// <summary>y = x · s, one number per channel.</summary>
    [AttentionKind("pruning-test-scale")]
    private sealed record ScaleOptions : AttentionOptions
    {
        public override AttentionModule Create(int channels) => new Scale(channels, this);
    }

    private sealed class Scale : GateModule
    {
        [Utils.ComponentName(Name = "scale")]
        private readonly Parameter _scale;

        public Scale(int channels, ScaleOptions options)
            : base(channels, options)
        {
            _scale = new Parameter(rand(1, channels, 1, 1));
            Complete();
        }

        public override ChannelLayout? ChannelLayout => ChannelLayout.Of(("scale", 1));

        protected override Tensor ComputeGate(Tensor input) => _scale.alias();
    }
}
