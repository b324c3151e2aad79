// Sparse attention. Strided: Child, Gray, Radford, Sutskever: "Generating Long Sequences with Sparse Transformers", 2019,
// arXiv:1904.10509, without the causal mask, the two patterns merged in every head. Top-k: Zhao, Lin, Zhang, Ren, Su, Sun:
// "Explicit Sparse Transformer: Concentrated Attention Through Explicit Selection", 2019, arXiv:1912.11637. Neither holds the L ×
// L matrix: the strided pattern multiplies blocks with blocks, and top-k looks for its keys some queries at a time.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Which positions a query of <see cref="SparseAttention"/> sees.</summary>
public enum SparsePattern
{
    /// <summary>
    /// The block of l row-major positions that contains the query, and every l-th position from the query, in both directions.
    /// </summary>
    Strided,

    /// <summary>The k positions with the largest logits, for each head and query.</summary>
    TopK,
}

/// <summary>Settings of <see cref="SparseAttention"/>.</summary>
[AttentionKind("sparse")]
public sealed record SparseAttentionOptions : AttentionOptions
{
    private const int DefaultTopKeys = 8;

    /// <summary>Which positions a query sees. Default <see cref="SparsePattern.Strided"/>.</summary>
    public SparsePattern Pattern { get; init; }

    /// <summary>Number of heads; must divide the channels. Default 4.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>
    /// Length l of a block and stride of <see cref="SparsePattern.Strided"/>. Default null: ⌈√(H · W)⌉, as the paper advises.
    /// </summary>
    public int? BlockLength { get; init; }

    /// <summary>
    /// Keys k that a query keeps in <see cref="SparsePattern.TopK"/>; a map of fewer positions keeps all. Default 8.
    /// </summary>
    public int TopKeys { get; init; } = DefaultTopKeys;

    /// <summary>Whether the projections have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>True: y = x + context; false: y = context. Default true.</summary>
    public bool Residual { get; init; } = true;

    /// <summary>Probability, in [0, 1), of dropping an attention weight in training. Default 0.</summary>
    public double AttentionDropout { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Defined(Pattern);
        Check.Heads(Heads, channels);
        if (BlockLength is int length) Check.Positive(length, nameof(BlockLength));
        Check.Positive(TopKeys);
        Check.Probability(AttentionDropout, oneAllowed: false);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new SparseAttention(channels, this);
}

/// <summary>
/// Multi-head attention where a query sees a part of the L = H · W positions: c_i = W_o · concat over heads of softmax over j in
/// S_i of (q_i · k_j / √d) v_j; y = x + c or y = c. Strided: S_i = {j : ⌊j / l⌋ = ⌊i / l⌋ or l divides i − j}, positions row by
/// row, in time and memory of L · (l + L / l). Top-k: S_i holds the k keys with the largest logits, in time of L² and memory of L
/// · k. Weights (N, heads, L, L), exactly zero outside S_i. Keys <c>qkv</c>, <c>proj</c>.
/// </summary>
/// <remarks>
/// Child et al.: "Generating Long Sequences with Sparse Transformers", 2019, arXiv:1904.10509, without its causal mask;
/// Zhao et al.: "Explicit Sparse Transformer: Concentrated Attention Through Explicit Selection", 2019, arXiv:1912.11637.
/// Of keys with equal logits at the edge of the k largest, some are kept. <see cref="AttentionInitialization.Paper"/>:
/// Xavier uniform weights, zero biases.
/// </remarks>
public sealed class SparseAttention : ContextModule, IFunctionalCost
{
    /// <summary>Logits that top-k looks at in one go: 16 MB of float32.</summary>
    private const long LogitsAtOnce = 1 << 22;

    private static readonly Scalar Masked = double.NegativeInfinity.ToScalar();

    [ComponentName(Name = "qkv")]
    private readonly Conv2d _qkv;

    [ComponentName(Name = "proj")]
    private readonly Conv2d _proj;

    private readonly SparseAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public SparseAttention(int channels, SparseAttentionOptions? options = null)
        : base(channels, options ??= new SparseAttentionOptions(), options.Residual)
    {
        _options = options;
        _qkv = nn.Conv2d(channels, 3 * channels, 1, bias: options.Bias);
        _proj = nn.Conv2d(channels, channels, 1, bias: options.Bias);
        Complete();
    }

    private int HeadWidth => Channels / _options.Heads;

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long values = input.numel(), samples = input.size(0), rows = samples * _options.Heads, width = HeadWidth;
        count.Map(values);
        if (_options.Pattern == SparsePattern.TopK)
        {
            long length = input.size(2) * input.size(3), top = rows * length * Math.Min(_options.TopKeys, length);
            long atOnce = Math.Clamp(LogitsAtOnce / Math.Max(1, rows * length), 1, length);
            count.Copy(values);
            count.Product(rows * length * length, values, values);
            count.Reduce(rows * length * length, top);
            count.Softmax(top);
            count.Copy(top * width);
            count.Product(values, top, top * width);
            if (atOnce < length) count.Copy(values);
        }
        else
        {
            (long blocks, long length, long positions) = Grid(input.size(2) * input.size(3));
            long all = rows * blocks * length, cut = all * width, near = all * length, far = all * blocks;
            if (blocks * length > positions)
            {
                for (int part = 0; part < 3; part++) count.Pad(values, cut);
            }

            count.Product(near, cut, cut);
            count.Product(far, cut, cut);
            count.Copy(near + far);
            count.Map(near + far);
            count.Softmax(near + far);
            count.Product(cut, near, cut);
            count.Product(cut, far, cut);
            count.Combine(cut, cut, cut);
        }

        DotProduct.CountMap(count, values, _options.Heads);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        (Tensor query, Tensor key, Tensor value) = Project(input);
        Tensor gathered = _options.Pattern == SparsePattern.TopK ? Top(query, key, value) : Strided(query, key, value);
        return _proj.call(DotProduct.Map(gathered, input.size(2), input.size(3)));
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        (Tensor query, Tensor key, _) = Project(input);
        if (_options.Pattern == SparsePattern.TopK) return TopWeights(query, key);
        (long blocks, long length, long positions) = Grid(query.size(2));
        Tensor weights = StridedWeights(Cut(query, blocks, length), Cut(key, blocks, length), positions).flatten(2, 3);
        Tensor places = Keys(blocks, length, input.device).view(1, 1, blocks * length, length + blocks).expand(weights.shape);
        Tensor dense = zeros(
            [weights.size(0), weights.size(1), blocks * length, blocks * length], dtype: input.dtype, device: input.device)
            .scatter_add(-1, places, weights);
        return dense.narrow(2, 0, positions).narrow(3, 0, positions);
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
        => AttentionWeightsInitializer.Reset(this, AttentionInitialization.Xavier, () => { });

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        (long blocks, long length, long positions) = Grid(input.size(2) * input.size(3));
        long products = _options.Pattern == SparsePattern.TopK ? positions * positions : blocks * length * (length + blocks);
        return 2 * input.size(0) * Channels * products;
    }

    /// <summary>Queries divided by √d, keys and values, each (N, heads, L, d).</summary>
    private (Tensor Query, Tensor Key, Tensor Value) Project(Tensor input)
    {
        using Scalar scale = (1 / Math.Sqrt(HeadWidth)).ToScalar();
        Tensor[] parts = DotProduct.Heads(DotProduct.Project(_qkv, input), 3, _options.Heads);
        return (parts[0].mul(scale), parts[1], parts[2]);
    }

    private Tensor Dropped(Tensor weights) => training && _options.AttentionDropout > 0
        ? nn.functional.dropout(weights, _options.AttentionDropout, training: true)
        : weights;

    private Tensor TopWeights(Tensor query, Tensor key)
    {
        (Tensor weights, Tensor places) = TopKeys(query, key.transpose(2, 3));
        return zeros([query.size(0), query.size(1), query.size(2), key.size(2)], dtype: query.dtype, device: query.device)
            .scatter(-1, places, weights);
    }

    /// <summary>The weights of each query's k keys and which they are, both (N, heads, queries, k).</summary>
    private (Tensor Weights, Tensor Places) TopKeys(Tensor query, Tensor transposedKey)
    {
        (Tensor values, Tensor places) = query.matmul(
            transposedKey).topk((int)Math.Min(_options.TopKeys, transposedKey.size(-1)), -1);
        return (values.softmax(-1), places);
    }

    /// <summary>(N, heads, L, d): k values of each query, summed; the logits of some queries at a time.</summary>
    private Tensor Top(Tensor query, Tensor key, Tensor value)
    {
        long n = query.size(0), heads = query.size(1), length = query.size(2), width = value.size(3), pairs = n * heads;
        long atOnce = Math.Clamp(LogitsAtOnce / Math.Max(1, pairs * length), 1, length);
        Tensor keys = key.transpose(2, 3), values = value.reshape(pairs * length, width);
        using Scalar stride = length.ToScalar();
        Tensor first = TensorCalls.Range(pairs, ScalarType.Int64, query.device).mul(stride).view(n, heads, 1, 1);
        List<Tensor> parts = [];
        for (long from = 0; from < length; from += atOnce)
        {
            using DisposeScope scope = NewDisposeScope();
            (Tensor weights, Tensor places) = TopKeys(query.narrow(2, from, Math.Min(atOnce, length - from)), keys);
            Tensor chosen = values.index_select(
                0, places.Plus(first).view(-1)).view(n, heads, places.size(2), places.size(3), width);
            parts.Add(Dropped(weights).unsqueeze(3).matmul(chosen).squeeze(3).MoveToOuterDisposeScope());
        }

        return parts.Count == 1 ? parts[0] : cat(parts, 2);
    }

    /// <summary>Positions in rows of l: a query sees its row and its column.</summary>
    internal (long Blocks, long Length, long Positions) Grid(long positions)
    {
        long length = Math.Min(positions, _options.BlockLength ?? (long)Math.Ceiling(Math.Sqrt(positions)));
        return ((positions + length - 1) / length, length, positions);
    }

    private Tensor Strided(Tensor query, Tensor key, Tensor value)
    {
        (long blocks, long length, long positions) = Grid(query.size(2));
        Tensor values = Cut(value, blocks, length);
        Tensor weights = Dropped(StridedWeights(Cut(query, blocks, length), Cut(key, blocks, length), positions));
        Tensor near = weights.narrow(-1, 0, length).matmul(values);
        Tensor far = weights.narrow(-1, length, blocks).transpose(2, 3).matmul(values.transpose(2, 3));
        return near.Plus(far.transpose(2, 3)).flatten(2, 3).narrow(2, 0, positions);
    }

    /// <summary>(N, heads, L, d) to (N, heads, B, l, d), zeros at the end.</summary>
    private static Tensor Cut(Tensor sequence, long blocks, long length)
    {
        long missing = (blocks * length) - sequence.size(2);
        if (missing > 0) sequence = nn.functional.pad(sequence, [0, 0, 0, missing]);
        return sequence.reshape(sequence.size(0), sequence.size(1), blocks, length, sequence.size(3));
    }

    /// <summary>
    /// (N, heads, B, l, l + B): of the query's block, then of the same place in every block, its own block apart.
    /// </summary>
    private static Tensor StridedWeights(Tensor query, Tensor key, long positions)
    {
        (long blocks, long length) = (query.size(2), query.size(3));
        Tensor near = query.matmul(key.transpose(3, 4));
        Tensor far = query.transpose(2, 3).matmul(key.transpose(2, 3).transpose(3, 4)).transpose(2, 3);

        // The last block has a position at least, so no query's row is empty, padded ones included.
        return cat([near, far], -1).masked_fill(Hidden(blocks, length, positions, query.device), Masked).softmax(-1);
    }

    /// <summary>
    /// The keys of <see cref="Keys"/> that lie beyond the map or come a second time, (blocks, length, length + blocks).
    /// </summary>
    internal static Tensor Hidden(long blocks, long length, long positions, Device device)
    {
        using Scalar end = positions.ToScalar();
        Tensor twice = cat(
            [
                zeros([blocks, 1, length], dtype: ScalarType.Bool, device: device),
                eye(blocks, dtype: ScalarType.Bool, device: device).unsqueeze(1),
            ], -1);
        return Keys(blocks, length, device).ge(end).logical_or(twice);
    }

    /// <summary>(B, l, l + B): which position a key is, L and more beyond the map.</summary>
    internal static Tensor Keys(long blocks, long length, Device device)
    {
        Tensor places = TensorCalls.Range(blocks * length, ScalarType.Int64, device).view(blocks, length);
        return cat([places.unsqueeze(1).expand(-1, length, -1), places.t().unsqueeze(0).expand(blocks, -1, -1)], -1);
    }
}
