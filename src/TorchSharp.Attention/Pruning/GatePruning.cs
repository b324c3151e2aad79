using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Makes a <see cref="ResNet"/> or <see cref="MobileNetV2"/> smaller by removing the channels that its attention hardly opens:
/// <c>ChannelRanking ranking = GatePruning.Rank(network, batches); PruningPlan plan = ranking.PlanRemoval(0.3); using ResNet
/// smaller = network.Prune(plan);</c>. Then train the smaller network for a while.
/// </summary>
/// <remarks>
/// A channel goes with everything that belongs to it: the rows of the convolutions that make it, its norms with their statistics,
/// its depthwise kernels, its part of each attention, and the columns of what reads it. Maps that are added share their channels.
/// The smaller network computes what this one would with the removed channels at zero, on every map of their group (after norm
/// and activation); attentions that promise less are named in the plan.
/// </remarks>
public static class GatePruning
{
    /// <summary>
    /// Ranks channels by the mean of their gates over a data set, which is run in evaluation mode, batch by batch. Channels
    /// without a gate are ranked by the norms of their weights, for <see cref="PruningOptions.IncludeUngated"/>. The network's
    /// modes, statistics and weights are not changed.
    /// </summary>
    /// <param name="network">A network with attentions that have a channel gate.</param>
    /// <param name="batches">Images, (N, channels, H, W) each. They are read once and not disposed.</param>
    /// <exception cref="ArgumentException">
    /// The network is of a kind that is not pruned, has no channel gate, or there is no image; the message says what to do.
    /// </exception>
    /// <exception cref="InvalidOperationException">The network is fused, or a gate or a weight is not finite.</exception>
    public static ChannelRanking Rank(FeatureNetwork network, IEnumerable<Tensor> batches)
    {
        ChannelMap map = Pruner.MapOf(network);
        ArgumentNullException.ThrowIfNull(batches);
        (IReadOnlyDictionary<string, GateStatistics> gates, ValueList<long> shape) = GateMeans.Over(network, map, batches);
        return new ChannelRanking(map, ChannelCriterion.Gate, Groups(network, map, gates), gates.Values.First().Samples, shape);
    }

    /// <summary>
    /// Ranks all channels by the weights of their filters. Use it for networks without channel gates, and as the usual baseline
    /// for a ranking by gates.
    /// </summary>
    /// <param name="network">The network.</param>
    /// <param name="inputShape">Shape of an input, the batch included, for the cost of plans: <c>1, 3, 224, 224</c>.</param>
    /// <exception cref="ArgumentException">
    /// The network is of a kind that is not pruned, or the shape is none of its inputs.
    /// </exception>
    /// <exception cref="InvalidOperationException">The network is fused, or a weight is not finite.</exception>
    public static ChannelRanking RankByNorm(FeatureNetwork network, params long[] inputShape)
    {
        ChannelMap map = Pruner.MapOf(network);
        ValueList<long> shape = Shape(network, inputShape);
        return new ChannelRanking(
            map, ChannelCriterion.WeightNorm, Groups(network, map, new Dictionary<string, GateStatistics>()), 0, shape);
    }

    /// <summary>Makes a plan to remove channels of your choice.</summary>
    /// <param name="network">The network.</param>
    /// <param name="channels">Indices to remove, from 0, by the name of their group (<see cref="ChannelGroup.Name"/>).</param>
    /// <param name="inputShape">Shape of an input, the batch included, for the cost of the plan: <c>1, 3, 224, 224</c>.</param>
    /// <exception cref="ArgumentException">
    /// A group or channel does not exist, a group would lose its last channel, or an attention on it cannot give
    /// channels away; the message names it.
    /// </exception>
    /// <exception cref="InvalidOperationException">The network is fused.</exception>
    public static PruningPlan PlanRemoval(
        FeatureNetwork network, IReadOnlyDictionary<string, IReadOnlyList<int>> channels, params long[] inputShape)
    {
        ChannelMap map = Pruner.MapOf(network);
        ArgumentNullException.ThrowIfNull(channels);
        ValueList<long> shape = Shape(network, inputShape);
        if (channels.Keys.FirstOrDefault(name => map.Axes.All(axis => axis.Name != name)) is { } unknown)
        {
            throw new ArgumentException(
                $"channels names '{unknown}', which is no group of {network.GetName()}. There are: " +
                $"{string.Join(", ", map.Axes.Select(axis => axis.Name))}.", nameof(channels));
        }

        return new PruningPlan(
            map,
            [.. map.Axes.Select(
                axis => (channels.TryGetValue(axis.Name, out IReadOnlyList<int>? own) ? Checked(axis, own) : [], (string?)null))],
                shape);
    }

    /// <summary>
    /// Creates the smaller network. It has the same class, the weights of the kept channels, and this network's mode, type and
    /// device, and can be trained. This network is not changed, nor is the state of the random generators. Hooks are not copied.
    /// Create new optimizers for the smaller network.
    /// </summary>
    /// <typeparam name="TNetwork">The network's class.</typeparam>
    /// <param name="network">The network that the plan was made for, or another one of equal options.</param>
    /// <param name="plan">Which channels go.</param>
    /// <returns>A new network with tensors of its own, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The plan is for a network of other options.</exception>
    /// <exception cref="InvalidOperationException">
    /// The network is fused, has modules that its options do not tell of, or has values of several types or on several devices.
    /// </exception>
    public static TNetwork Prune<TNetwork>(this TNetwork network, PruningPlan plan)
        where TNetwork : FeatureNetwork
    {
        ChannelMap map = Pruner.MapOf(network);
        ArgumentNullException.ThrowIfNull(plan);
        return plan.Original.Equals(map.Options) ? Pruner.Copy(network, plan) : throw new ArgumentException(
            $"The plan is for another network: it was made for {plan.Original}, and this one is {map.Options}.", nameof(plan));
    }

    private static List<ChannelGroup> Groups(
        FeatureNetwork network, ChannelMap map, IReadOnlyDictionary<string, GateStatistics> gates)
    {
        Dictionary<string, Tensor> weights =
            network.named_parameters().ToDictionary(entry => entry.name, Tensor (entry) => entry.parameter);
        return [.. map.Axes.Select(Group)];

        ChannelGroup Group(ChannelAxis axis)
        {
            string[] seen = [.. axis.Attentions.Where(gates.ContainsKey)];
            double[] scores = axis.Obstacles.Count > 0 ? []
                : seen.Length > 0 ? Mean(seen.Select(name => gates[name].UnitMeans))
                : Mean(axis.Members.Select(name => FilterNorms.Of(weights[$"{name}.weight"], name)));
            return new ChannelGroup(
                axis.Name, axis.Width, ValueList.Create<string>([.. axis.Members]), ValueList.Create<string>(seen),
                seen.Length > 0 ? ChannelCriterion.Gate : ChannelCriterion.WeightNorm, ValueList.Create<double>(scores),
                axis.Obstacles.Count > 0 ? string.Join("; ", axis.Obstacles) : null);
        }

        static double[] Mean(IEnumerable<IReadOnlyList<double>> several)
        {
            IReadOnlyList<double>[] all = [.. several];
            return [.. Enumerable.Range(0, all[0].Count).Select(i => all.Average(one => one[i]))];
        }
    }

    private static int[] Checked(ChannelAxis axis, IReadOnlyList<int> channels)
    {
        int[] removed = [.. channels.Distinct().Order()];
        if (removed.Length == 0) return removed;
        if (axis.Obstacles.Count > 0)
        {
            throw new ArgumentException(
                $"channels names '{axis.Name}', but {string.Join("; ", axis.Obstacles)}.", nameof(channels));
        }

        if (removed[0] < 0 || removed[^1] >= axis.Width)
        {
            throw new ArgumentException(
                $"channels names channel {(removed[0] < 0 ? removed[0] : removed[^1])} of '{axis.Name}', which has 0 to " +
                $"{axis.Width - 1}.", nameof(channels));
        }

        return removed.Length < axis.Width ? removed : throw new ArgumentException(
            $"channels names all {axis.Width} channels of '{axis.Name}'; leave at least one.", nameof(channels));
    }

    private static ValueList<long> Shape(FeatureNetwork network, long[] inputShape)
    {
        ArgumentNullException.ThrowIfNull(inputShape);
        return inputShape.Length == 4 && inputShape[1] == network.InputChannels && inputShape.All(size => size > 0)
            ? ValueList.Create<long>([1, .. inputShape[1..]])
            : throw new ArgumentException(
                $"inputShape is [{string.Join(", ", inputShape)}]; give batch, channels, height and width of images with " +
                $"{network.InputChannels} channels, " +
                $"such as 1, {network.InputChannels}, 224, 224.", nameof(inputShape));
    }
}
