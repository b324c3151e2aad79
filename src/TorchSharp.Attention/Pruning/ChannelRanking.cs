using System.Globalization;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>How the score of a channel is computed.</summary>
public enum ChannelCriterion
{
    /// <summary>The mean of the channel's gate over a data set and over the gates of its group.</summary>
    Gate,

    /// <summary>
    /// The sum of the absolute weights of the channel's filter, divided by the mean of these sums over the filters of the
    /// convolution, and averaged over the convolutions of its group. (Li, Kadav, Durdanovic, Samet, Graf: "Pruning Filters for
    /// Efficient ConvNets", 2016, arXiv:1608.08710.)
    /// </summary>
    WeightNorm,
}

/// <summary>
/// Channels that can only be removed together with the same channels elsewhere: those of one map and of every map that is added
/// to it.
/// </summary>
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

/// <summary>
/// The channels of a network with their scores. It holds no tensor, and later changes of the network do not change it.
/// </summary>
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

    /// <summary>Number of samples that the gates were averaged over; 0 for a ranking without gates.</summary>
    public long Samples { get; }

    /// <summary>Shape of one input, (1, channels, H, W), with which the cost of plans is measured.</summary>
    public ValueList<long> InputShape { get; }

    /// <summary>The group with a given name.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="ArgumentException">There is no such group; the message lists them.</exception>
    public ChannelGroup this[string name] => Groups.FirstOrDefault(group => group.Name == name) ?? throw new ArgumentException(
        $"There is no group '{name}'. There are: {string.Join(", ", Groups.Select(group => group.Name))}.", nameof(name));

    /// <summary>
    /// Makes a plan to remove the channels with the lowest scores: at most a given share of the channels of the selected groups.
    /// Fewer are removed if <see cref="PruningOptions.MinimumChannels"/> or <see cref="PruningOptions.RoundTo"/> require it. The
    /// network is not changed yet.
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
    /// Formats an aligned table with one line per group: channels, criterion, lowest, mean and highest score, and the gates or
    /// the reason why no channel can be removed.
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
