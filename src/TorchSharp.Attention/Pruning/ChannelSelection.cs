namespace TorchSharp.Attention;

/// <summary>Which channels of which groups go.</summary>
internal static class ChannelSelection
{
    private const string LeftOut = "left out";

    /// <summary>For each group the indices that go, ascending, or why it stays whole.</summary>
    public static IReadOnlyList<(int[] Removed, string? Whole)> Choose(
        IReadOnlyList<ChannelGroup> groups, ChannelCriterion criterion, double fraction, PruningOptions options)
    {
        string?[] reasons = Reasons(groups, criterion, options);
        if (Array.TrueForAll(reasons, reason => reason is not null)) throw Nothing(groups, reasons, criterion, options);

        (int Group, int Channel)[] ascending =
        [
            .. Enumerable.Range(0, groups.Count).Where(g => reasons[g] is null)
                .SelectMany(
                    g => Relative(groups[g].Scores).Select((score, channel) => (Group: g, Channel: channel, Score: score)))
                .OrderBy(entry => entry.Score).ThenBy(entry => entry.Group).ThenBy(entry => entry.Channel)
                .Select(entry => (entry.Group, entry.Channel)),
        ];
        int[] most = [.. groups.Select(group => Math.Max(0, group.Channels - options.MinimumChannels))];
        int total = Whole(fraction * ascending.Length);
        List<int>[] removed = [.. groups.Select(_ => new List<int>())];
        foreach ((int group, int channel) in ascending)
        {
            int allowed = options.Scope == PruningScope.Group
                ? Math.Min(most[group], Whole(fraction * groups[group].Channels))
                : most[group];
            if (removed[group].Count == allowed || (options.Scope == PruningScope.Global && total == 0)) continue;
            removed[group].Add(channel);
            total--;
        }

        return
        [
            .. removed.Select((channels, g) =>
            {
                int[] rounded = Rounded(channels, groups[g].Channels, options.RoundTo);
                return (rounded, reasons[g] ?? (rounded.Length > 0 ? null : HeldBack(channels.Count, most[g], options)));
            }),
        ];

        string? HeldBack(int chosen, int spare, PruningOptions options)
            => fraction > 0 && spare == 0 ? $"{nameof(PruningOptions.MinimumChannels)} is {options.MinimumChannels}"
                : chosen > 0 ? $"{nameof(PruningOptions.RoundTo)} is {options.RoundTo}"
                : null;

        // 0.3 · 10 is a little less than 3.
        static int Whole(double channels) => (int)(channels + 1e-9);
    }

    private static string?[] Reasons(IReadOnlyList<ChannelGroup> groups, ChannelCriterion criterion, PruningOptions options)
    {
        NamePatterns meant = Patterns(options.Groups, nameof(PruningOptions.Groups)),
            spared = Patterns(options.Exclude, nameof(PruningOptions.Exclude));
        return
        [
            .. groups.Select(group => Any(group, spared) || !Any(group, meant) ? LeftOut
                : group.Obstacle ?? (group.Criterion != criterion && !options.IncludeUngated ? "no gate sees it" : null)),
        ];

        NamePatterns Patterns(string text, string name)
        {
            NamePatterns patterns = NamePatterns.Of(text);
            return patterns.Idle([.. groups.SelectMany(Names)]) is not { } idle ? patterns : throw new ArgumentException(
                $"{name} is '{text}', of which '{idle}' matches no group. There are: " +
                $"{string.Join(", ", groups.Select(group => group.Name))}.", name);
        }

        static bool Any(ChannelGroup group, NamePatterns patterns) => Names(group).Any(patterns.Match);

        static IEnumerable<string> Names(ChannelGroup group) => group.Convolutions.Prepend(group.Name);
    }

    private static IEnumerable<double> Relative(ValueList<double> scores)
    {
        double mean = Math.Abs(scores.Average());
        return scores.Select(score => mean > 0 ? score / mean : score);
    }

    /// <summary>
    /// So many of the lowest that a multiple is left; the channels were added in ascending order of their scores.
    /// </summary>
    private static int[] Rounded(List<int> removed, int channels, int multiple)
    {
        int left = channels - removed.Count, rounded = Math.Min(channels, (left + multiple - 1) / multiple * multiple);
        return [.. removed.Take(channels - rounded).Order()];
    }

    private static ArgumentException Nothing(
        IReadOnlyList<ChannelGroup> groups, string?[] reasons, ChannelCriterion criterion, PruningOptions options)
    {
        bool ungated = criterion == ChannelCriterion.Gate && !options.IncludeUngated
            && groups.All(group => group.Criterion != ChannelCriterion.Gate || group.Obstacle is not null);
        string remedy = ungated
            ? $" No channel gate stands on channels that can go: set {nameof(PruningOptions.IncludeUngated)} = true, or rank " +
                $"by weights with {nameof(GatePruning)}.{nameof(GatePruning.RankByNorm)}."
            : Array.TrueForAll(reasons, reason => reason == LeftOut)
                ? $" {nameof(PruningOptions.Groups)} '{options.Groups}' and {nameof(PruningOptions.Exclude)} " +
                    $"'{options.Exclude}' leave all groups out; '*' and '' leave none out."
            : "";
        return new ArgumentException(
            $"No channel may be removed.{remedy} " +
            $"{string.Join("; ", groups.Select((group, g) => $"{group.Name}: {reasons[g]}"))}.", nameof(options));
    }
}
