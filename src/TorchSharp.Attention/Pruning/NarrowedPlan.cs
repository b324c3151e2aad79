namespace TorchSharp.Attention;

/// <summary>
/// A plan for a network with fewer channels: where a place lost channels, settings that followed from their number are written
/// out, so that inner widths and kernels stay as they were trained.
/// </summary>
internal static class NarrowedPlan
{
    /// <summary>Rewrites a plan.</summary>
    /// <param name="plan">The plan of the larger network.</param>
    /// <param name="before">Its places.</param>
    /// <param name="after">The same places of the smaller network, in the same order.</param>
    public static AttentionPlan Of(AttentionPlan plan, IReadOnlyList<AttentionSite> before, IReadOnlyList<AttentionSite> after)
        => new(plan.Rules.SelectMany(rule => Rules(rule, before, after)));

    private static IEnumerable<AttentionRule> Rules(
        AttentionRule rule, IReadOnlyList<AttentionSite> before, IReadOnlyList<AttentionSite> after)
    {
        List<(AttentionSite Site, AttentionOptions Attention)> places =
        [
            .. Enumerable.Range(0, before.Count).Where(i => rule.Matches(before[i]))
                .Select(
                    i => (before[i], before[i].Channels == after[i].Channels
                        ? rule.Attention
                        : rule.Attention.WithWidthsOf(before[i].Channels))),
        ];
        if (rule.Predicate is null && places.TrueForAll(place => place.Attention.Equals(rule.Attention))) return [rule];

        // One rule for all stages where the same settings stand in the same blocks.
        return places
            .GroupBy(place => (place.Site.Stage, place.Attention))
            .Select(group => (group.Key.Stage, group.Key.Attention, Blocks: Blocks(group.Select(place => place.Site))))
            .GroupBy(part => (part.Attention, part.Blocks))
            .Select(group => new AttentionRule(group.Key.Attention)
            {
                Position = rule.Position,
                Stages = ValueList.Create<int>([.. group.Select(part => part.Stage)]),
                Blocks = group.Key.Blocks,
            });

        ValueList<int>? Blocks(IEnumerable<AttentionSite> sites)
        {
            AttentionSite[] own = [.. sites];
            int all = before.Count(site => site.Position == rule.Position && site.Stage == own[0].Stage);
            return own.Length == all ? null : ValueList.Create<int>([.. own.Select(site => site.Block)]);
        }
    }
}
