namespace TorchSharp.Attention.Tests;

/// <summary>What every kind of backbone must have. Each test fails for a new kind that lacks the thing; docs/extending.md has the same list.</summary>
public sealed class BackboneChecklistTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public static TheoryData<string> Kinds => [.. BackboneCatalog.Kinds];

    public void Dispose() => _scope.Dispose();

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_kind_is_read_from_its_json_with_every_property(string kind)
    {
        BackboneOptions options = Tiny(kind) with { Classes = 7, Attention = AttentionPlan.Of(new SqueezeExcitationOptions { ReducedChannels = 2 }) };
        string json = options.ToJson();
        Assert.StartsWith($"{{\"network\":\"{kind}\"", json, StringComparison.Ordinal);
        Assert.Equal(options, BackboneOptions.FromJson(json));
        Assert.Equal(Default(kind), BackboneOptions.FromJson($"{{\"network\":\"{kind}\"}}"));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_contract_tests_run_over_the_kind_with_and_without_attention(string kind)
    {
        Type network = Tiny(kind).Create().GetType();
        Assert.Contains(Cases.Networks.Values, create => Has(create, network, attended: false));
        Assert.Contains(Cases.Networks.Values, create => Has(create, network, attended: true));

        static bool Has(Func<FeatureNetwork> create, Type type, bool attended)
        {
            using FeatureNetwork network = create();
            return network.GetType() == type && network.Plan.Rules.Count > 0 == attended;
        }
    }

    /// <summary>An attention at each site that the options list is built there, called, and trained.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Every_site_takes_an_attention_that_gets_gradients(string kind)
    {
        BackboneOptions tiny = Tiny(kind);
        AttentionPosition[] positions = [.. tiny.Sites().Select(site => site.Position).Distinct()];
        Assert.Contains(AttentionPosition.BeforeAdd, positions);
        foreach (AttentionPosition position in positions)
        {
            using DisposeScope scope = NewDisposeScope();
            AttentionOptions attention = position == AttentionPosition.ReplaceSpatialConv ? new SelectiveKernelOptions() : new EffectiveSqueezeExcitationOptions { Gate = GateFunction.Sigmoid };
            using Backbone network = (tiny with { Attention = AttentionPlan.Of(attention, position) }).Create();
            IAttentionModule[] placed = [.. network.modules().OfType<IAttentionModule>().Where(module => module is EffectiveSqueezeExcitation or BranchModule)];
            Assert.Equal(tiny.Sites().Count(site => site.Position == position), placed.Length);
            network.call(randn(2, 3, 32, 32)).square().sum().backward();
            Assert.All(placed, module => Assert.All(((nn.Module)module).parameters(), parameter => Assert.True(parameter.grad?.abs().sum().ToDouble() > 0, $"{kind}, {position}")));
        }
    }

    /// <summary>TorchSharp registers every field that is a module, so that a layer kept in a field and in a group has two keys.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Every_parameter_has_one_key(string kind)
    {
        using Backbone network = Tiny(kind).Create();
        IEnumerable<IntPtr> handles = network.state_dict().Values.Select(value => value.Handle);
        Assert.Equal(handles.Distinct().Count(), network.state_dict().Count);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_kind_can_be_pruned_or_says_why_not(string kind)
    {
        BackboneOptions options = Tiny(kind);
        using Backbone network = options.Create();
        if (options.PruningObstacle is { } obstacle)
        {
            Assert.Null(network.ToChannelMap());
            string message = Assert.Throws<ArgumentException>(() => GatePruning.RankByNorm(network, 1, 3, 32, 32)).Message;
            Assert.Contains(obstacle, message, StringComparison.Ordinal);
            return;
        }

        // Every parameter but the classifier's bias runs along a group of channels, or along the channels of the image.
        ChannelMap map = network.ToChannelMap()!;
        HashSet<string> known = [.. map.Axes.SelectMany(axis => axis.Dimensions).Select(dimension => dimension.Name)];
        Assert.DoesNotContain(network.named_parameters().Select(entry => entry.name), name => !known.Contains(name)
            && !name.StartsWith("fc.", StringComparison.Ordinal) && !name.StartsWith("classifier.", StringComparison.Ordinal)
            && !name.EndsWith("fc1.bias", StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_kind_is_the_encoder_of_a_unet(string kind)
    {
        using UNet unet = new(new UNetOptions { Encoder = Tiny(kind), Classes = 2 });
        unet.eval();
        unet.to(ScalarType.Float64);
        using UNet fused = unet.FuseForInference();
        using Tensor image = randn(1, 3, 37, 33, ScalarType.Float64), logits = unet.call(image), same = fused.call(image);
        Assert.Equal([1, 2, 37, 33], logits.shape);
        Near.Equal(logits, same, 1e-9, "fused");
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Torchvisions_weights_of_the_kind_are_among_the_files_that_PyTorch_writes(string kind)
        => Assert.Contains(InteropTests.Networks, row => row.Data.Replace("_", "", StringComparison.Ordinal).StartsWith($"torchvision{kind}", StringComparison.OrdinalIgnoreCase));

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Published_counts_of_the_kind_are_held(string kind)
        => Assert.Contains(PublishedCountTests.ParameterAnchors, row => row.Data.Item1.StartsWith(kind, StringComparison.OrdinalIgnoreCase));

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_readme_and_the_pages_name_the_network(string kind)
    {
        string name = Tiny(kind).Create().GetName(), root = Repository.Root;
        Assert.Contains($"| `{name}` | ", File.ReadAllText(Path.Combine(root, "README.md")), StringComparison.Ordinal);
        foreach (string page in new[] { "architecture.md", "pruning.md", "weights.md", "modules.md" })
        {
            Assert.True(File.ReadAllText(Path.Combine(root, "docs", page)).Contains(name, StringComparison.Ordinal), $"docs/{page} does not name {name}.");
        }
    }

    private static BackboneOptions Default(string kind) => BackboneCatalog.Defaults.Single(options => BackboneCatalog.KindOf(options) == kind);

    /// <summary>Small options of a kind. A new kind has a property in <see cref="Cases"/>.</summary>
    private static BackboneOptions Tiny(string kind) => Cases.TinyBackbones.Single(options => BackboneCatalog.KindOf(options) == kind);
}
