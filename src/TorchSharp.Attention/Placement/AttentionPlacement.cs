using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A plan applied to the sites of one network. The plan is checked as a whole before anything is built. To build your own
/// network, list its sites, resolve the plan with them, and call <see cref="Create"/> for each site.
/// </summary>
public sealed class AttentionPlacement
{
    private readonly Dictionary<
        (AttentionPosition Position, int Stage, int Block), (AttentionSite Site, List<AttentionOptions> Attentions)> _placed = [];

    internal AttentionPlacement(AttentionPlan plan, string network, IReadOnlyCollection<AttentionSite> sites)
    {
        ArgumentException.ThrowIfNullOrEmpty(network);
        ArgumentNullException.ThrowIfNull(sites);
        for (int i = 0; i < plan.Rules.Count; i++)
        {
            AttentionRule rule = plan.Rules[i];
            bool matched = false;
            foreach (AttentionSite site in sites.Where(rule.Matches))
            {
                matched = true;
                CheckFits(rule.Attention, site, network);
                if (!_placed.TryGetValue(Key(site), out (AttentionSite Site, List<AttentionOptions> Attentions) entry))
                {
                    _placed[Key(site)] = entry = (site, []);
                }

                if (site.OutputChannels is not null && entry.Attentions.Count > 0)
                {
                    throw new ArgumentException(
                        $"Rule {i + 1} of the plan ({rule}) replaces a convolution of {network} at {site} that " +
                        $"'{entry.Attentions[0].Kind()}' replaces " +
                        "already; restrict one of the rules with InStages, InBlocks or Where.", nameof(plan));
                }

                entry.Attentions.Add(rule.Attention);
            }

            if (!matched) throw new ArgumentException(NothingMatched(i, rule, network, sites), nameof(plan));
            CheckEveryNumberExists(i, rule, network, sites);
        }
    }

    /// <summary>Every site that gets attention, with its attentions, in the order of the first rule that matches it.</summary>
    public IEnumerable<(AttentionSite Site, IReadOnlyList<AttentionOptions> Attentions)> Placed =>
        _placed.Values.Select(entry => (entry.Site, (IReadOnlyList<AttentionOptions>)entry.Attentions));

    /// <summary>
    /// Creates the attention of a site. The result is null if the plan has none for it, one module if the plan has one, and a
    /// <see cref="Modules.Sequential"/> in the order of the rules if it has several.
    /// </summary>
    /// <param name="position">The kind of place.</param>
    /// <param name="stage">Stage or level, from 1.</param>
    /// <param name="block">Block within the stage, from 0.</param>
    public nn.Module<Tensor, Tensor>? Create(AttentionPosition position, int stage, int block = 0)
    {
        if (!_placed.TryGetValue((position, stage, block), out (AttentionSite Site, List<AttentionOptions> Attentions) entry))
        {
            return null;
        }

        if (entry.Attentions.FirstOrDefault(attention => attention is GuidedAttentionOptions) is { } guided)
        {
            throw new InvalidOperationException(
                $"'{guided.Kind()}' at {entry.Site} is steered by a second map; call CreateGuided there.");
        }

        if (entry.Attentions.Exists(attention => attention is BranchAttentionOptions))
        {
            throw new InvalidOperationException(
                $"'{entry.Attentions[0].Kind()}' at {entry.Site} replaces a convolution; call {nameof(CreateBranch)} there.");
        }

        AttentionModule[] modules = [.. entry.Attentions.Select(attention => attention.Create(entry.Site.Channels))];
        return modules.Length == 1 ? modules[0] : nn.Sequential(modules);
    }

    /// <summary>
    /// Creates the attention of a site that offers a gating signal. Attentions with one input ignore the signal. Null if the plan
    /// has none for the site.
    /// </summary>
    /// <param name="position">The kind of place.</param>
    /// <param name="stage">Stage or level, from 1.</param>
    /// <param name="block">Block within the stage, from 0.</param>
    public nn.Module<Tensor, Tensor, Tensor>? CreateGuided(AttentionPosition position, int stage, int block = 0)
    {
        if (!_placed.TryGetValue((position, stage, block), out (AttentionSite Site, List<AttentionOptions> Attentions) entry))
        {
            return null;
        }

        nn.Module[] modules =
        [
            .. entry.Attentions.Select(nn.Module (attention) => attention is GuidedAttentionOptions guided
                ? guided.Create(entry.Site.Channels, entry.Site.GuideChannels!.Value)
                : attention.Create(entry.Site.Channels)),
        ];
        return modules is [nn.Module<Tensor, Tensor, Tensor> alone] ? alone : new GuidedSequence(modules);
    }

    /// <summary>
    /// Creates the module that replaces the spatial convolution of a block, its norm and its activation. Null if the plan keeps
    /// them.
    /// </summary>
    /// <param name="stage">Stage, from 1.</param>
    /// <param name="block">Block within the stage, from 0.</param>
    public BranchModule? CreateBranch(int stage, int block) =>
        _placed.TryGetValue(
            (AttentionPosition.ReplaceSpatialConv, stage, block),
            out (AttentionSite Site, List<AttentionOptions> Attentions) entry)
            ? ((BranchAttentionOptions)entry.Attentions[0]).Create(entry.Site.Convolution!)
            : null;

    private static void CheckFits(AttentionOptions attention, AttentionSite site, string network)
    {
        try
        {
            if (attention is BranchAttentionOptions branch)
            {
                branch.Validate(site.Convolution ?? throw new ArgumentException(
                    "it replaces a convolution, which this place does not; " +
                    $"place it at {nameof(AttentionPosition.ReplaceSpatialConv)} of a " +
                    $"{BackboneCatalog.With(AttentionPosition.ReplaceSpatialConv)}."));
            }
            else if (site.OutputChannels is not null)
            {
                throw new ArgumentException(
                    $"this place replaces a convolution; only branch kinds such as selective-kernel and split-attention can. " +
                    $"Place it at {nameof(AttentionPosition.AfterConv1)} or {nameof(AttentionPosition.AfterConv2)} of a " +
                    $"{BackboneCatalog.With(AttentionPosition.AfterConv2)}, or {nameof(AttentionPosition.AfterDepthwise)} of a " +
                    $"{BackboneCatalog.With(AttentionPosition.AfterDepthwise)}, to refine the convolution's output.");
            }
            else if (attention is not GuidedAttentionOptions guided)
            {
                attention.Validate(site.Channels);
            }
            else if (site.GuideChannels is int guideChannels)
            {
                guided.Validate(site.Channels, guideChannels);
            }
            else
            {
                throw new ArgumentException(
                    "it is steered by a second map, which this place does not offer; " +
                    $"place it at {nameof(AttentionPosition.Skip)} of a {nameof(UNet)}.");
            }
        }
        catch (ArgumentException e)
        {
            throw new ArgumentException(
                $"'{attention.Kind()}' does not fit {network} at {site}: {Check.Text(e)}", e.ParamName, e);
        }
    }

    private static string NothingMatched(int index, AttentionRule rule, string network, IReadOnlyCollection<AttentionSite> sites)
    {
        string there = $"Rule {index + 1} of the plan ({rule}) matches nothing in {network}.";
        List<AttentionSite> same = [.. sites.Where(site => site.Position == rule.Position)];
        if (same.Count == 0)
        {
            return $"{there} It has no position {rule.Position}; " +
                $"its positions are {string.Join(", ", sites.Select(site => site.Position).Distinct())}.";
        }

        return $"{there} {WhatExists(same)}";
    }

    /// <summary>A stage or block that the rule names but that is not there is a slip, even where the others match.</summary>
    private static void CheckEveryNumberExists(
        int index, AttentionRule rule, string network, IReadOnlyCollection<AttentionSite> sites)
    {
        List<AttentionSite> same = [.. sites.Where(site => site.Position == rule.Position)];
        foreach (int stage in rule.Stages ?? [])
        {
            if (!same.Exists(site => site.Stage == stage)) throw Missing($"stage {stage}");
        }

        foreach (int block in rule.Blocks ?? [])
        {
            bool exists = same.Exists(site => site.Block == block && (rule.Stages is null || rule.Stages.Contains(site.Stage)));
            if (!exists) throw Missing($"block {block}");
        }

        ArgumentException Missing(string what) => new(
            $"Rule {index + 1} of the plan ({rule}) names {what}, which {network} does not have there. {WhatExists(same)}",
            "plan");
    }

    private static string WhatExists(List<AttentionSite> same)
    {
        IEnumerable<string> stages = same.GroupBy(site => site.Stage)
            .Select(stage => $"{stage.Key} (blocks {string.Join(", ", stage.Select(site => site.Block))})");
        return $"{same[0].Position} exists in stages {string.Join("; ", stages)}.";
    }

    private static (AttentionPosition Position, int Stage, int Block) Key(AttentionSite site)
        => (site.Position, site.Stage, site.Block);
}
