namespace TorchSharp.Attention.Tests;

/// <summary>What is particular to polarized self-attention beside its formulas: released keys, cost, and what its softmax leaves.</summary>
public class PolarizedSelfAttentionTests
{
    private static readonly string[] Shared = ["conv_q_left.weight", "conv_q_right.weight", "conv_v_left.weight", "conv_v_right.weight"];

    public static TheoryData<PolarizedSelfAttentionOptions, string[]> Presets => new()
    {
        { PolarizedSelfAttentionOptions.Official, ["conv_up.weight"] },
        { PolarizedSelfAttentionOptions.OfficialSequential, ["conv_up.0.bias", "conv_up.0.weight", "conv_up.1.bias", "conv_up.1.weight", "conv_up.3.bias", "conv_up.3.weight"] },
        { PolarizedSelfAttentionOptions.Paper, ["conv_up.0.weight", "conv_up.1.bias", "conv_up.1.weight"] },
    };

    [Theory]
    [MemberData(nameof(Presets))]
    public void Keys_are_the_released_ones(PolarizedSelfAttentionOptions options, string[] up)
    {
        using PolarizedSelfAttention module = new(16, options);
        Dictionary<string, Tensor> state = module.state_dict();
        Assert.Equal([.. Shared.Concat(up).Order(StringComparer.Ordinal)], state.Keys.Order(StringComparer.Ordinal));
        Assert.Equal([1, 16, 1, 1], state["conv_q_right.weight"].shape);
        Assert.Equal([8, 16, 1, 1], state["conv_v_left.weight"].shape);
        if (options.Excitation == PolarizedExcitation.Bottleneck) Assert.Equal([2, 1, 1], state["conv_up.1.weight"].shape);
    }

    [Fact]
    public void Cost_counts_every_product()
    {
        using PolarizedSelfAttention module = new(12, PolarizedSelfAttentionOptions.Official);
        // A position: query, two values, two products. Once: the spatial query and the way up.
        const long Position = 12 + (2 * 12 * 6) + (2 * 6), Once = 2 * 6 * 12;
        Assert.Equal(2 * ((4 * 5 * Position) + Once), ModelCost.Measure(module, 2, 12, 4, 5).MultiplyAccumulates);
    }

    /// <summary>Shares of L positions average 1 / L, so the spatial gate averages at most σ(1 / L); the paper's does not shrink.</summary>
    [Fact]
    public void A_softmax_of_the_product_flattens_the_spatial_gate_of_a_large_map()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        Tensor x = randn(1, 16, 32, 32);
        Assert.InRange(Spread(PolarizedSelfAttentionOptions.Official), 1e-9, 0.01);
        Assert.InRange(Spread(PolarizedSelfAttentionOptions.Paper), 0.1, 1);

        double Spread(PolarizedSelfAttentionOptions options)
        {
            using AttentionModule module = (options with { Initialization = AttentionInitialization.Paper }).Create(16);
            using Tensor gate = ((GateModule)module).Gate(x);
            using Tensor one = gate.narrow(1, 0, 1);
            return (one.max() - one.min()).ToDouble();
        }
    }
}
