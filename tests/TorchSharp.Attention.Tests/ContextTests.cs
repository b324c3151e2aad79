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
}
