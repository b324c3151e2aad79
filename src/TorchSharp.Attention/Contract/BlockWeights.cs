using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Weights within blocks or windows of a map, as one matrix over all its positions.</summary>
internal static class BlockWeights
{
    /// <summary>(N, heads, L, L), zero where a query does not look. Every position is a query exactly once.</summary>
    /// <param name="weights">(N · B, heads, Q, K) for B blocks, samples first.</param>
    /// <param name="queries">(B, Q): which position a query is; −1 beyond the map.</param>
    /// <param name="keys">(B, K): which position a key is; −1 beyond the map.</param>
    /// <param name="positions">L = H · W.</param>
    public static Tensor Dense(Tensor weights, Tensor queries, Tensor keys, long positions)
    {
        long blocks = queries.size(0), places = queries.numel(), heads = weights.size(1), samples = weights.size(0) / blocks;
        (Tensor known, Tensor order) = Places(queries, keys, positions, weights.dtype);
        Tensor rows = weights.view(
            samples, blocks, heads, weights.size(2), weights.size(3)).matmul(known.view(1, blocks, 1, keys.size(1), positions));
        return rows.transpose(1, 2).reshape(samples, heads, places, positions).index_select(2, order);
    }

    /// <summary>
    /// One where a block's key is a position, (blocks, keys, L), and for each position the place of its query, block after block,
    /// (L).
    /// </summary>
    public static (Tensor Known, Tensor Order) Places(Tensor queries, Tensor keys, long positions, ScalarType type)
    {
        Tensor known = keys.unsqueeze(-1).eq(TensorCalls.Range(positions, ScalarType.Int64, keys.device)).to_type(type);
        // What lies beyond the map sorts first.
        return (known, queries.reshape(-1).argsort().narrow(0, queries.numel() - positions, positions));
    }
}
