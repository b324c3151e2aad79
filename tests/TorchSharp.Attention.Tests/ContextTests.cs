namespace TorchSharp.Attention.Tests;

/// <summary>What contexts promise beyond their formula: their cost, and how the papers start them.</summary>
public class ContextTests
{
    /// <summary>Convolutions, and the products that are not modules, written out for a map of 12 channels, 4 × 5, batch 2.</summary>
    private static readonly (AttentionOptions Options, long Expected)[] Costs =
    [
        (new GlobalContextOptions { Reduction = 3 }, 2 * ((20 * 12) + (20 * 12) + (2 * 12 * 4))),
        (new GlobalContextOptions { Reduction = 3, AttentionPooling = false }, 2 * 2 * 12 * 4),
        (new NonLocalOptions(), 2 * ((4 * 20 * 12 * 6) + (2 * 20 * 20 * 6))),
        (new NonLocalOptions { Pairwise = NonLocalPairwise.DotProduct }, 2 * ((4 * 20 * 12 * 6) + (2 * 20 * 6 * 6))),
        (new PositionAttentionOptions { Reduction = 4 }, 2 * ((20 * 12 * (3 + 3 + 12)) + (20 * 20 * (3 + 12)))),
        (new ChannelSelfAttentionOptions(), 2 * 2 * 12 * 12 * 20),
        (new CrissCrossAttentionOptions { Reduction = 4 }, 2 * ((20 * 12 * (3 + 3 + 12)) + (20 * (4 + 5) * (3 + 12)))),
        (CrissCrossAttentionOptions.Paper with { Reduction = 4 }, 2 * 2 * ((20 * 12 * (3 + 3 + 12)) + (20 * (4 + 5) * (3 + 12)))),

        // Four padded windows of 9 slots; products of the layers count every slot.
        (new WindowAttentionOptions { WindowSize = 3 }, 2 * ((36 * 12 * 48) + (2 * 36 * 9 * 12))),
        (new BottleneckAttentionOptions { FeatureHeight = 4, FeatureWidth = 3 }, 2 * ((20 * 12 * 36) + (2 * 20 * 20 * 12) + (20 * 12 * (7 + 9)))),

        // Six padded blocks of 4 queries and 16 keys.
        (new HaloAttentionOptions { Heads = 3, BlockSize = 2, HaloSize = 1 }, 2 * ((20 * 12 * 36) + (2 * 24 * 16 * 12) + (24 * 12 * (7 + 7)))),

        // Values of 3 channels: the content lambda, the position lambda's convolution, and both applied to 4 heads' queries.
        (new LambdaLayerOptions { KeyWidth = 4, KernelSize = 3 }, 2 * 20 * ((12 * (16 + 4 + 3)) + (4 * 3) + (4 * 3 * 9) + (2 * 4 * 4 * 3))),

        // 8 reduced channels, 2 groups, padded to 4 × 6: four 1×1 layers, two layers to 8 values, two products over blocks of 2.
        (new BatAttentionOptions { BlockSize = 2 }, 2 * ((20 * ((12 * 8) + (8 * 2) + (8 * 8) + (8 * 12))) + (2 * 8 * 4) + (2 * 2 * 8 * 24))),

        // Blocks of 5: a query has 5 + 4 keys.
        (new SparseAttentionOptions(), 2 * ((20 * 12 * 48) + (2 * 20 * 9 * 12))),
        (new SparseAttentionOptions { Pattern = SparsePattern.TopK }, 2 * ((20 * 12 * 48) + (2 * 20 * 20 * 12))),

        // Four heads of 3 channels: Σ φ(k) vᵀ, its product with φ(q), and the denominator.
        (new LinearAttentionOptions(), 2 * ((20 * 12 * 48) + (20 * 4 * ((2 * 3 * 3) + 3)))),
    ];

    public static TheoryData<int> CostRows => [.. Enumerable.Range(0, Costs.Length)];

    [Theory]
    [MemberData(nameof(CostRows))]
    public void Cost_counts_every_product(int row)
    {
        (AttentionOptions options, long expected) = Costs[row];
        using AttentionModule module = options.Create(12);
        Assert.Equal(expected, ModelCost.Measure(module, 2, 12, 4, 5).MultiplyAccumulates);
    }

    public static TheoryData<string> IdentityAtFirst => ["gc", "nl", "pam", "cam", "criss-cross"];

    [Theory]
    [MemberData(nameof(IdentityAtFirst))]
    public void The_papers_start_is_the_identity(string name)
    {
        Row row = Row.Named(name).As(AttentionInitialization.Paper);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(row);
        Tensor x = MapShape.Several[0].Input(row, 1).Tensor();
        Near.Identical(x, subject.Mode(true).Forward(x, null));
    }

    [Fact]
    public void Linear_attention_stays_exact_where_elu_plus_one_rounds_to_zero()
    {
        using DisposeScope scope = NewDisposeScope();
        using LinearAttention module = new(4, new() { Heads = 1 });
        using (no_grad())
        {
            module.state_dict()["qkv.weight"].zero_();
            module.state_dict()["qkv.bias"].copy_(tensor([-30.0, -30, -30, -30, -25, -25, -25, -25, 1, 1, 1, 1]));
        }

        module.to(ScalarType.BFloat16);
        Tensor x = randn(1, 4, 2, 3).to_type(ScalarType.BFloat16).requires_grad_(true);
        Assert.All(module.Weights(x).Doubles(), weight => Assert.Equal(1.0 / 6, weight, 1e-3));
        Tensor y = module.call(x);
        y.sum().backward();
        Assert.All(y.Doubles().Concat(x.grad!.Doubles()), value => Assert.True(double.IsFinite(value)));
    }
}
