using Samples;
using Samples.Data;
using TorchSharp.Attention;

namespace QuickStart;

/// <summary>An attention plan of the command line is wrong.</summary>
internal sealed class PlanException(string text, ArgumentException inner)
    : Exception($"--attention {text}: {inner.Message}", inner);

/// <summary>One network of the comparison.</summary>
internal sealed record Variant(string Name, AttentionPlan Plan)
{
    public static Variant Plain { get; } = new("plain", AttentionPlan.None);

    /// <summary>
    /// Every attention at the end of the residual branches. Reductions suit narrow stages; self-attention compares every position
    /// with every other, so it stands where the map is small.
    /// </summary>
    private static readonly Variant[] Defaults =
    [
        new("se", AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 })),
        new("eca", AttentionPlan.Of(new EfficientChannelAttentionOptions())),
        new("cbam", AttentionPlan.Of(new CbamOptions { Reduction = 4, KernelSize = 3 })),
        new("self", AttentionPlan.Of(new SelfAttention2dOptions { Heads = 4 }).InStages(3, 4)),
    ];

    /// <summary>The plain network first, then the plans of the command line or the default ones.</summary>
    /// <exception cref="PlanException">A plan cannot be read, or does not fit the network.</exception>
    public static IReadOnlyList<Variant> From(IReadOnlyList<string> plans, DataSet data) =>
        [Plain, .. plans.Count == 0 ? Defaults : plans.Distinct().Select(text => Parse(text, data))];

    private static Variant Parse(string text, DataSet data)
    {
        try
        {
            AttentionPlan plan = AttentionPlan.Parse(text);
            plan.Resolve(nameof(ResNet), [.. SmallNetworks.ResNet(data, plan).Sites()]);
            return new Variant(text, plan);
        }
        catch (ArgumentException e)
        {
            throw new PlanException(text, e);
        }
    }
}
