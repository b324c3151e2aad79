using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The kept and removed channels of one group in a plan.</summary>
/// <param name="Name">The group.</param>
/// <param name="Channels">How many channels it has.</param>
/// <param name="Kept">Those that stay, ascending, from 0.</param>
/// <param name="KeptReason">
/// Why all stay: left out, no gate, an attention that cannot give channels away, or a setting that holds them back; null where
/// some go, or where none is among the lowest.
/// </param>
public sealed record PrunedGroup(string Name, int Channels, ValueList<int> Kept, string? KeptReason)
{
    /// <summary>Indices of the removed channels, ascending, counted from 0.</summary>
    public ValueList<int> Removed => ValueList.Create<int>([.. Enumerable.Range(0, Channels).Except(Kept)]);
}

/// <summary>
/// Which channels of a network are removed, which are kept, and how much that saves. A plan changes nothing.
/// <see cref="GatePruning.Prune"/> creates the smaller network.
/// </summary>
public sealed class PruningPlan
{
    private readonly Lazy<ModelCost> _before, _after;

    internal PruningPlan(ChannelMap map, IReadOnlyList<(int[] Removed, string? Whole)> chosen, ValueList<long> inputShape)
    {
        Map = map;
        Groups =
        [
            .. map.Axes.Select((axis, i) => new PrunedGroup(
                axis.Name, axis.Width, ValueList.Create<int>([.. Enumerable.Range(0, axis.Width).Except(chosen[i].Removed)]),
                chosen[i].Whole)),
        ];
        Dictionary<ChannelAxis, int> kept = map.Axes.Select((axis, i) => (axis, Groups[i].Kept.Count)).ToDictionary();
        Original = map.Options;
        Result = map.With(axis => kept[axis]);
        _before = new Lazy<ModelCost>(() => Cost(Original, inputShape));
        _after = new Lazy<ModelCost>(() => Cost(Result, inputShape));
    }

    /// <summary>Every group, in the network's order.</summary>
    public IReadOnlyList<PrunedGroup> Groups { get; }

    /// <summary>Options of the network that the plan is for.</summary>
    public BackboneOptions Original { get; }

    /// <summary>Options of the smaller network. Together with saved weights they are enough to rebuild it.</summary>
    public BackboneOptions Result { get; }

    /// <summary>Number of removed channels.</summary>
    public int RemovedChannels => Groups.Sum(group => group.Channels - group.Kept.Count);

    /// <summary>Cost of the network before pruning. It is measured once, on a network built from the same options.</summary>
    public ModelCost Before => _before.Value;

    /// <summary>Cost of the smaller network. It is measured once, on a network built from its options.</summary>
    public ModelCost After => _after.Value;

    internal ChannelMap Map { get; }

    /// <summary>
    /// Formats an aligned table with one line per group that loses channels. It also lists the groups that keep all channels and
    /// why, what the removal changes beyond the removed channels, and the parameters and multiply-accumulates before and after.
    /// </summary>
    public override string ToString()
    {
        List<string[]> rows = [["group", "channels", "left", "removed"]];
        foreach (PrunedGroup group in Groups.Where(group => group.Kept.Count < group.Channels))
        {
            rows.Add([group.Name, $"{group.Channels}", $"{group.Kept.Count}", Listed(group.Removed)]);
        }

        rows.Add(
            ["all", $"{Groups.Sum(group => group.Channels)}", $"{Groups.Sum(group => group.Kept.Count)}",
                $"{RemovedChannels} channels"]);
        List<string> lines = [ChannelRanking.Aligned(rows)];
        foreach (IGrouping<string, PrunedGroup> whole in Groups.Where(group => group.KeptReason is not null).GroupBy(
            group => group.KeptReason!))
        {
            lines.Add($"whole, {whole.Key}: {string.Join(", ", whole.Select(group => group.Name))}");
        }

        lines.AddRange(
            Map.Axes.Where((_, i) => Groups[i].Kept.Count < Groups[i].Channels).SelectMany(axis => axis.Caveats).Select(
                caveat => $"note, {caveat}"));
        lines.Add(Change("parameters", Before.Parameters, After.Parameters));
        lines.Add(Change("multiply-accumulates", Before.MultiplyAccumulates, After.MultiplyAccumulates));
        return string.Join('\n', lines);
    }

    private static ModelCost Cost(BackboneOptions options, ValueList<long> inputShape)
    {
        // A convolution with a bias leaves a tensor behind in its constructor.
        using DisposeScope scope = NewDisposeScope();
        using FeatureNetwork network = NetworkCopy.Build(options.Create);
        return ModelCost.Measure(network, [.. inputShape]);
    }

    private static string Change(string what, long before, long after)
        => string.Create(
            CultureInfo.InvariantCulture,
            $"{what}: {before:N0} to {after:N0} ({(after - before) / (double)before:+0.0%;-0.0%;0.0%})");

    private static string Listed(ValueList<int> channels)
        => channels.Count <= 12 ? string.Join(", ", channels) : $"{string.Join(", ", channels.Take(10))}, … ({channels.Count})";
}
