// Attention rollout. Abnar, Zuidema: "Quantifying Attention Flow in Transformers", 2020, arXiv:2005.00928.
using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>Converts pairwise attention weights to maps that can be drawn.</summary>
public static class PairwiseMaps
{
    /// <summary>The map of what one position attends to: its row of the attention weights.</summary>
    /// <param name="maps">Recorded maps with weights between positions.</param>
    /// <param name="sample">Which sample of the batch.</param>
    /// <param name="row">Row of the query's position.</param>
    /// <param name="column">Column of the query's position.</param>
    /// <param name="head">Which head; null for the mean over heads.</param>
    /// <returns>(h, w), each value the weight of a key, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// The maps have no weights between positions, or there is no such sample, position or head.
    /// </exception>
    public static Tensor From(AttentionMaps maps, int sample, int row, int column, int? head = null)
    {
        ArgumentNullException.ThrowIfNull(maps);
        if (maps.PairwiseWeights is not { } weights || maps.KeyGrid is not { } keys || maps.QueryGrid is not { } queries)
        {
            throw new ArgumentException(
                $"{maps.Module.GetName()} has no weights between positions of maps; it has {string.Join(", ", maps.Kinds)}.",
                nameof(maps));
        }

        Within(sample, weights.size(0), nameof(sample));
        Within(row, queries.Height, nameof(row));
        Within(column, queries.Width, nameof(column));
        if (head is int chosen) Within(chosen, weights.size(1), nameof(head));
        using DisposeScope scope = NewDisposeScope();
        Tensor looks = weights.select(0, sample).select(1, ((long)row * queries.Width) + column);
        Tensor one = head is int number ? looks.select(0, number) : looks.mean([0]);
        return one.reshape(keys.Height, keys.Width).clone().MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Attention rollout: how much each position of the last layer depends on each position of the first layer's input, Â_n · … ·
    /// Â_1 with Â = (1 − r) · A + r · I. A is a layer's weights, averaged over heads, with rows scaled to sum to 1.
    /// </summary>
    /// <param name="weights">
    /// (N, heads, L, L) of each layer, in the order in which the network runs them; L must be the same in all.
    /// </param>
    /// <param name="residual">
    /// Share r of the path that goes round the attention. Default 0.5, the paper's; 0 where the context replaces its input.
    /// </param>
    /// <returns>(N, L, L), rows sum to 1, owned by the caller.</returns>
    /// <exception cref="ArgumentException">There are no weights, shapes differ, or the share is not in [0, 1].</exception>
    public static Tensor Rollout(IReadOnlyList<Tensor> weights, double residual = 0.5)
    {
        ArgumentNullException.ThrowIfNull(weights);
        if (weights.Count == 0) throw new ArgumentException("weights holds no layer.", nameof(weights));
        if (!(residual is >= 0 and <= 1))
        {
            throw new ArgumentOutOfRangeException(nameof(residual), residual, $"residual is {residual}; it must lie in [0, 1].");
        }

        foreach (Tensor layer in weights)
        {
            if (layer.dim() == 4 && layer.size(2) == layer.size(3) && layer.size(0) == weights[0].size(0)
                && layer.size(2) == weights[0].size(2))
            {
                continue;
            }

            throw new ArgumentException(
                $"weights holds ({string.Join(", ", layer.shape)}) beside ({string.Join(", ", weights[0].shape)}); " +
                "rollout multiplies square weights (N, heads, L, L) " +
                "of one size: choose layers of one resolution.", nameof(weights));
        }

        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        using Scalar around = residual.ToScalar(), through = (1 - residual).ToScalar(), once = 1.0.ToScalar();
        Tensor? product = null;
        foreach (Tensor layer in weights)
        {
            Tensor same = eye(layer.size(2), dtype: layer.dtype, device: layer.device).mul(around);
            Tensor mixed = layer.detach().mean([1]).mul(through).add(same, once);
            mixed = mixed.div(mixed.sum(-1, keepdim: true));
            product = product is null ? mixed : mixed.bmm(product);
        }

        return product!.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Attention rollout over the maps in a recorder, in the order in which the network ran the layers. See
    /// <see cref="Rollout(IReadOnlyList{Tensor}, double)"/>.
    /// </summary>
    /// <param name="maps">A recorder after a forward pass.</param>
    /// <param name="names">Which modules, in any order; null for all that have weights between the positions of one map.</param>
    /// <param name="residual">Share of the path that goes round the attention. Default 0.5, the paper's.</param>
    /// <returns>(N, L, L), rows sum to 1, owned by the caller.</returns>
    /// <exception cref="KeyNotFoundException">A name is not recorded, or no call has reached it.</exception>
    /// <exception cref="ArgumentException">
    /// No layer has weights between the positions of one map, a named one has none, or sizes differ.
    /// </exception>
    public static Tensor RolloutOf(AttentionRecorder maps, IEnumerable<string>? names = null, double residual = 0.5)
    {
        ArgumentNullException.ThrowIfNull(maps);
        HashSet<string>? chosen = names is null ? null : [.. names];
        foreach (string name in chosen ?? [])
        {
            if (!IsSquare(maps[name]))
            {
                throw new ArgumentException(
                    $"'{name}' has no weights between the positions of one map; it has {string.Join(", ", maps[name].Kinds)}.",
                    nameof(names));
            }
        }

        string[] layers = [.. maps.CallOrder.Where(name => chosen?.Contains(name) ?? IsSquare(maps[name]))];
        if (layers.Length == 0)
        {
            throw new ArgumentException(
                "No recorded module that was called has weights between the positions of one map.", nameof(maps));
        }

        string sizes = string.Join(
            ", ", layers.Select(name => $"{name} {maps[name].KeyGrid!.Value.Height} × {maps[name].KeyGrid!.Value.Width}"));
        if (layers.Select(name => maps[name].KeyGrid).Distinct().Count() > 1)
        {
            throw new ArgumentException(
                $"Rollout multiplies weights over one map, and these differ: {sizes}. Name layers of one size.", nameof(names));
        }

        return Rollout([.. layers.Select(name => maps[name].PairwiseWeights!)], residual);
    }

    private static bool IsSquare(AttentionMaps maps)
        => maps is { PairwiseWeights: not null, QueryGrid: { } queries, KeyGrid: { } keys } && queries == keys;

    private static void Within(int value, long count, string name)
    {
        if (value < 0 || value >= count)
        {
            throw new ArgumentOutOfRangeException(name, value, $"{name} is {value}; it must be from 0 to {count - 1}.");
        }
    }
}
