namespace TorchSharp.Attention.Tests;

/// <summary>Every kind that the catalog knows goes into ResNet-50 and MobileNetV2 with its default settings and trains a step.</summary>
public sealed class EveryKindTrainsTests
{
    /// <summary>The library's own kinds; other tests register theirs.</summary>
    public static TheoryData<string> Kinds =>
        [.. AttentionCatalog.Kinds.Where(kind => AttentionCatalog.Create(kind).GetType().Assembly == typeof(AttentionOptions).Assembly)];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_resnet50_trains_a_step(string kind)
    {
        AttentionOptions options = AttentionCatalog.Create(kind);
        AttentionPlan plan = PlanOf(options);
        if (options is GuidedAttentionOptions)
        {
            // A residual block has no second map that could steer it.
            Assert.Contains("steered by a second map", Assert.ThrowsAny<ArgumentException>(() => ResNet.ResNet50(4, plan)).Message, StringComparison.Ordinal);
            return;
        }

        manual_seed(1);
        Step(ResNet.ResNet50(4, plan));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_mobilenet_trains_a_step(string kind)
    {
        // The narrowest map has 16 channels, and 8 divides all widths: some defaults ask for more.
        AttentionOptions options = AttentionCatalog.Create(kind) switch
        {
            EfficientLocalAttentionOptions local => local with { NormGroups = 8 },
            ShuffleAttentionOptions shuffle => shuffle with { Groups = 4 },
            AttentionOptions other => other,
        };
        MobileNetV2Options network = new() { Classes = 4, SmallImages = true, Attention = PlanOf(options) };
        if (options is GuidedAttentionOptions)
        {
            // An inverted residual block has no second map that could steer it.
            Assert.Contains("steered by a second map", Assert.ThrowsAny<ArgumentException>(() => new MobileNetV2(network)).Message, StringComparison.Ordinal);
            return;
        }

        manual_seed(1);
        Step(new MobileNetV2(network));
    }

    private static AttentionPlan PlanOf(AttentionOptions options)
        => AttentionPlan.Of(options, options is BranchAttentionOptions ? AttentionPosition.ReplaceSpatialConv : AttentionPosition.BeforeAdd);

    private static void Step(FeatureNetwork built)
    {
        using DisposeScope scope = NewDisposeScope();
        using FeatureNetwork network = built;
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.01);
        Tensor x = randn(2, 3, 32, 32);
        Tensor labels = tensor(new long[] { 1, 3 });
        string[] attentions = [.. network.named_modules().Where(m => m.module is IAttentionModule).Select(m => m.name + ".")];
        Dictionary<string, Tensor> before = network.named_parameters().Where(p => Inside(p.name)).ToDictionary(p => p.name, p => p.parameter.detach().clone());
        Assert.NotEmpty(attentions);
        Tensor loss = nn.functional.cross_entropy(network.call(x), labels);
        loss.backward();
        optimizer.step();
        Assert.True(double.IsFinite(loss.ToDouble()));
        Assert.All(network.named_parameters(), p => Assert.True(p.parameter.grad is { } g && g.isfinite().all().ToBoolean(), p.name));
        if (before.Count > 0) Assert.Contains(network.named_parameters(), p => Inside(p.name) && !p.parameter.equal(before[p.name]).all().ToBoolean());

        bool Inside(string name) => Array.Exists(attentions, attention => name.StartsWith(attention, StringComparison.Ordinal));
    }
}
