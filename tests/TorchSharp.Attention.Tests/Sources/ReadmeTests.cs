namespace TorchSharp.Attention.Tests;

/// <summary>The README's C# is compiled and run here, and the README must show exactly what is.</summary>
public sealed class ReadmeTests
{
    private static readonly Dictionary<string, Action> Snippets = new()
    {
        ["first"] = First,
        ["module"] = Module,
        ["plan"] = Plan,
        ["networks"] = Networks,
        ["weights"] = Weights,
    };

    public static TheoryData<string> Names => [.. Snippets.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_snippet_of_the_readme_runs(string name) => Snippets[name]();

    [Fact]
    public void The_readme_shows_what_runs_here() => DocSnippets.AreShown("README.md", ["network", "scenario", "ship"]);

    [Fact]
    public void The_generated_module_table_has_every_kind()
    {
        string table = Repository.Read("docs", "module-table.md");
        Assert.All(
            AttentionCatalog.Kinds.Where(kind => AttentionCatalog.Create(kind).GetType().Assembly == typeof(AttentionOptions).Assembly),
            kind => Assert.Contains($"\n| `{kind}` | **", table, StringComparison.Ordinal));
        Assert.DoesNotContain("FAIL", table, StringComparison.Ordinal);
        Assert.DoesNotContain("SKIP", table, StringComparison.Ordinal);
    }

    [Fact]
    public void The_readme_names_and_counts_every_kind()
    {
        string readme = Repository.Read("README.md");
        string[] kinds = [.. AttentionCatalog.Kinds.Where(kind => AttentionCatalog.Create(kind).GetType().Assembly == typeof(AttentionOptions).Assembly)];
        Assert.All(kinds, kind => Assert.Contains($"`{kind}`", readme, StringComparison.Ordinal));
        Assert.Contains($"has {kinds.Length} kinds of attention", readme, StringComparison.Ordinal);
    }

    private static void First()
    {
        IEnumerable<(Tensor, Tensor)> batches = [(randn(2, 3, 32, 32), tensor(new long[] { 1, 2 }))];

        // begin first
        AttentionPlan plan = AttentionPlan.Of(new CbamOptions { Reduction = 8 }).InStages(3, 4);
        using ResNet network = ResNet.ResNet18(classes: 10, attention: plan);
        using optim.Optimizer optimizer = optim.AdamW(network.parameters(), lr: 1e-3);
        foreach ((Tensor images, Tensor labels) in batches)
        {
            using DisposeScope scope = NewDisposeScope();
            optimizer.zero_grad();
            nn.functional.cross_entropy(network.call(images), labels).backward();
            optimizer.step();
        }
        // end first
    }

    private static void Module()
    {
        using Tensor features = randn(2, 256, 7, 7);

        // begin module
        using Cbam cbam = new(channels: 256, CbamOptions.Official with { KernelSize = 3 });
        using Tensor refined = cbam.call(features);
        using Tensor gate = cbam.Gate(features); // what it multiplied with, on demand
        // end module
        Assert.Equal([2, 256, 7, 7], refined.shape);
    }

    private static void Plan()
    {
        // begin plan
        AttentionPlan plan = AttentionPlan
            .Of(new EfficientChannelAttentionOptions())                                           // before the addition, everywhere
            .Add(new SelfAttention2dOptions { Heads = 4 }, AttentionPosition.StageEnd).InStages(4)
            .Add(new SpatialAttentionOptions(), AttentionPosition.AfterConv2).Where(site => site.IsLastBlock);
        AttentionPlan parsed = AttentionPlan.Parse("cbam:reduction=8,kernel=3@before-add:3,4");   // for command lines
        AttentionPlan read = AttentionPlan.FromJson(parsed.ToJson());
        // end plan
        Assert.Equal(parsed, read);
        Assert.Equal(8 + 1 + 4, plan.Resolve("ResNet", new ResNetOptions().Sites()).Placed.Sum(place => place.Attentions.Count));
    }

    private static void Networks()
    {
        using Tensor images = randn(1, 3, 65, 50);

        // begin networks
        using UNet unet = new(new UNetOptions
        {
            Classes = 2,
            Encoder = new ResNetOptions { Layers = [3, 4, 6, 3] },
            Attention = AttentionPlan.Of(new AttentionGateOptions(), AttentionPosition.Skip),
        });
        using Tensor logits = unet.call(images);                        // logits of the size of the images
        ModelCost cost = ModelCost.Measure(unet, 1, 3, 224, 224);       // parameters, multiply-accumulates
        IReadOnlyList<Tensor> pyramid = unet.Features(images);          // decoder maps, finest first
        using UNet deployed = unet.FuseForInference();                  // a copy: batch norms folded, faster layout
        // end networks
        Assert.Equal([1, 2, 65, 50], logits.shape);
        Assert.True(cost.MultiplyAccumulates > 1_000_000_000);
        Assert.Equal(6, pyramid.Count);
    }

    private static void Weights()
    {
        using WeightsFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        string path = folder.Torch("seresnet.pth", WeightsFolder.GoldenState("resnet_basic_se")), trained = folder.PathOf("trained.safetensors");
        using ResNet network = new(new ResNetOptions
        {
            Layers = [1, 1, 1, 1],
            StagePlanes = [8, 16, 24, 32],
            Classes = 10,
            Attention = AttentionPlan.Of(SqueezeExcitationOptions.Timm),
        });

        // begin weights
        WeightsReport report = network.LoadWeights(path, KeyMaps.TimmResNet);   // safetensors or .pth; all is checked before the first copy
        network.SaveWeights(trained);                                           // safetensors, for Python too
        // end weights
        Assert.True(report.IsComplete);
        Assert.True(network.LoadWeights(trained).IsComplete);
    }
}
