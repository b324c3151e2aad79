using System.Globalization;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>What a channel's score is.</summary>
public enum ChannelCriterion
{
    /// <summary>The mean of its gate over a data set, and over the gates of its group.</summary>
    Gate,

    /// <summary>
    /// The sum of the absolute weights of its filter, over that of the convolution's mean filter, mean over the convolutions of
    /// its group. (Li, Kadav, Durdanovic, Samet, Graf: "Pruning Filters for Efficient ConvNets", 2016, arXiv:1608.08710.)
    /// </summary>
    WeightNorm,
}

/// <summary>Channels that stand or fall together: those of one map, and of every map that is added to it.</summary>
/// <param name="Name">
/// Its name: <c>stem</c>, <c>layer2</c> or <c>stage3</c> for maps that blocks add to, otherwise the block or layer.
/// </param>
/// <param name="Channels">How many there are.</param>
/// <param name="Convolutions">The convolutions whose output they are.</param>
/// <param name="Gates">The attentions on them that have a channel gate.</param>
/// <param name="Criterion">What the scores are.</param>
/// <param name="Scores">One for each channel; channels of low scores go first. Empty where the group is an obstacle's.</param>
/// <param name="Obstacle">Why none can be removed; null where they can.</param>
public sealed record ChannelGroup(
    string Name, int Channels, ValueList<string> Convolutions, ValueList<string> Gates, ChannelCriterion Criterion,
    ValueList<double> Scores, string? Obstacle);

/// <summary>How a network's channels compare. It holds no tensor, and stays as it is when the network changes.</summary>
public sealed class ChannelRanking
{
    private readonly ChannelMap _map;
    private readonly ChannelCriterion _criterion;

    internal ChannelRanking(
        ChannelMap map, ChannelCriterion criterion, IReadOnlyList<ChannelGroup> groups, long samples, ValueList<long> inputShape)
    {
        _map = map;
        _criterion = criterion;
        Groups = groups;
        Samples = samples;
        InputShape = inputShape;
    }

    /// <summary>All groups, in the network's order.</summary>
    public IReadOnlyList<ChannelGroup> Groups { get; }

    /// <summary>Samples that the gates were averaged over; 0 where none were.</summary>
    public long Samples { get; }

    /// <summary>Shape of one input, for the cost of plans: (1, channels, H, W).</summary>
    public ValueList<long> InputShape { get; }

    /// <summary>A group.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="ArgumentException">There is no such group; the message lists them.</exception>
    public ChannelGroup this[string name] => Groups.FirstOrDefault(group => group.Name == name) ?? throw new ArgumentException(
        $"There is no group '{name}'. There are: {string.Join(", ", Groups.Select(group => group.Name))}.", nameof(name));

    /// <summary>
    /// Plans to remove the channels of the lowest scores: at most a share of the channels of the groups concerned, less where
    /// <see cref="PruningOptions.MinimumChannels"/> or <see cref="PruningOptions.RoundTo"/> forbid it. Nothing changes yet.
    /// </summary>
    /// <param name="fraction">The share, in [0, 1).</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">
    /// A setting is out of range, a pattern matches nothing, or there is no channel that may go; the message says why.
    /// </exception>
    public PruningPlan PlanRemoval(double fraction, PruningOptions? options = null)
    {
        if (!(fraction is >= 0 and < 1))
        {
            throw new ArgumentOutOfRangeException(
                nameof(fraction), fraction,
                $"fraction is {fraction}; it is the share of channels to remove and must lie in [0, 1).");
        }

        options ??= new PruningOptions();
        options.Validate();
        return new PruningPlan(_map, ChannelSelection.Choose(Groups, _criterion, fraction, options), InputShape);
    }

    /// <summary>
    /// Aligned lines, one per group: channels, criterion, lowest, mean and highest score, gates or what forbids a removal.
    /// </summary>
    public override string ToString()
    {
        List<string[]> rows = [["group", "channels", "criterion", "lowest", "mean", "highest", ""]];
        foreach (ChannelGroup group in Groups)
        {
            rows.Add(group.Obstacle is not null
                ? [group.Name, $"{group.Channels}", "", "", "", "", group.Obstacle]
                :
                [
                    group.Name, $"{group.Channels}", group.Criterion == ChannelCriterion.Gate ? "gate" : "weights",
                    Number(group.Scores.Min()), Number(group.Scores.Average()),
                    Number(group.Scores.Max()), string.Join(", ", group.Gates),
                ]);
        }

        return Aligned(rows);

        static string Number(double value) => value.ToString("F4", CultureInfo.InvariantCulture);
    }

    /// <summary>Cells in columns: the first and the last to the left, numbers to the right.</summary>
    internal static string Aligned(List<string[]> rows)
    {
        int[] widths = [.. rows[0].Select((_, column) => rows.Max(row => row[column].Length))];
        StringBuilder text = new();
        foreach (string[] row in rows)
        {
            IEnumerable<string> cells = row.Select(
                (cell, i) => i == 0 || i == row.Length - 1 ? cell.PadRight(widths[i]) : cell.PadLeft(widths[i]));
            text.Append(string.Join("  ", cells).TrimEnd()).Append('\n');
        }

        return text.ToString().TrimEnd('\n');
    }
}
