using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Statistics of attention weights, collected batch by batch: how evenly each head attends, how far, and how strongly to its
/// preferred key. Each row is read as shares |w| / Σ|w|, so that weights that do not sum to 1 (lambda layers) can be compared.
/// </summary>
public sealed class PairwiseStatistics
{
    private double[] _entropy = [], _distance = [], _peak = [];
    private long _rows, _placed;

    /// <summary>Number of samples so far.</summary>
    public long Samples { get; private set; }

    /// <summary>Number of heads.</summary>
    public int Heads => _entropy.Length;

    /// <summary>
    /// Entropy of the rows of each head, divided by log S and averaged over queries and samples. It is 1 if the head attends to
    /// all keys equally, and 0 if it attends to a single key.
    /// </summary>
    public IReadOnlyList<double> Entropy => Means(_entropy, _rows);

    /// <summary>For each head, the largest share in a row, averaged over queries and samples.</summary>
    public IReadOnlyList<double> Peak => Means(_peak, _rows);

    /// <summary>
    /// For each head, the distance from query to key in positions, weighted by the share and averaged over queries and samples.
    /// Null if the positions are not known.
    /// </summary>
    public IReadOnlyList<double>? Distance => _placed == 0 ? null : Means(_distance, _placed);

    /// <summary>Adds recorded maps.</summary>
    /// <param name="maps">Maps with weights of pairs.</param>
    /// <exception cref="ArgumentException">The maps have no weights of pairs, or another number of heads than before.</exception>
    public void Add(AttentionMaps maps)
    {
        ArgumentNullException.ThrowIfNull(maps);
        Add(
            maps.PairwiseWeights
                ?? throw new ArgumentException(
                    $"{maps.Module.GetName()} has no weights of pairs; it has {string.Join(", ", maps.Kinds)}.", nameof(maps)),
            maps.QueryGrid == maps.KeyGrid ? maps.KeyGrid : null);
    }

    /// <summary>Adds a batch.</summary>
    /// <param name="weights">(N, heads, L, S).</param>
    /// <param name="grid">
    /// Height and width of the map whose positions both queries and keys are; null where they are none.
    /// </param>
    /// <exception cref="ArgumentException">The shape does not fit.</exception>
    public void Add(Tensor weights, (int Height, int Width)? grid = null)
    {
        Check.Alive(weights, nameof(PairwiseStatistics));
        if (weights.dim() != 4)
        {
            throw new ArgumentException(
                $"weights has shape {Check.Shape(weights)}; it must be (N, heads, L, S).", nameof(weights));
        }

        if (Samples > 0 && weights.size(1) != Heads)
        {
            throw new ArgumentException(
                $"weights has {weights.size(1)} heads (shape {Check.Shape(weights)}); before it had {Heads}.", nameof(weights));
        }

        long positions = grid is { } size ? (long)size.Height * size.Width : 0;
        if (grid is not null && (weights.size(2) != positions || weights.size(3) != positions))
        {
            throw new ArgumentException(
                $"weights has shape {Check.Shape(weights)}; a map of {grid.Value.Height} × {grid.Value.Width} has {positions} " +
                "queries and keys.", nameof(weights));
        }

        if (weights.size(0) == 0) return;
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        using Scalar tiny = 1e-300.ToScalar(), least = Math.Max(Math.Log(weights.size(3)), 1e-12).ToScalar();
        Tensor wide = weights.detach().to_type(ScalarType.Float64).abs();
        Tensor shares = wide.div(wide.sum(-1, keepdim: true).clamp_min(tiny));
        if (Samples == 0)
        {
            (_entropy, _distance, _peak) =
                (new double[weights.size(1)], new double[weights.size(1)], new double[weights.size(1)]);
        }

        Sum(_entropy, shares.mul(shares.clamp_min(tiny).log()).sum(-1).neg().div(least));
        Sum(_peak, shares.amax([-1]));
        if (grid is { } map)
        {
            Sum(_distance, shares.mul(Distances(map.Height, map.Width, weights.device)).sum(-1));
            _placed += weights.size(0) * weights.size(2);
        }

        Samples += weights.size(0);
        _rows += weights.size(0) * weights.size(2);
    }

    private static void Sum(double[] sums, Tensor rows)
    {
        double[] heads = rows.sum([0, 2]).cpu().data<double>().ToArray();
        for (int i = 0; i < sums.Length; i++) sums[i] += heads[i];
    }

    private static double[] Means(double[] sums, long count) => [.. sums.Select(sum => count == 0 ? 0 : sum / count)];

    /// <summary>(L, L): distance between positions.</summary>
    private static Tensor Distances(int height, int width, Device device)
    {
        Tensor rows = TensorCalls.Range(height, ScalarType.Float64, device).repeat_interleave(width);
        Tensor columns = TensorCalls.Range(width, ScalarType.Float64, device).repeat(height);
        Tensor down = rows.unsqueeze(1).sub(rows.unsqueeze(0)), across = columns.unsqueeze(1).sub(columns.unsqueeze(0));
        return down.Squared().Plus(across.Squared()).sqrt();
    }
}
