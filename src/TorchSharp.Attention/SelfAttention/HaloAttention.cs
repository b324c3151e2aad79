// Halo attention. Vaswani, Ramachandran, Srinivas, Parmar, Hechtman, Shlens: "Scaling Local Self-Attention for Parameter
// Efficient Visual Backbones", 2021, arXiv:2103.12731. As in timm, zeros beyond the map's border take part as keys. Maps that the
// block does not divide are padded to it with the same zeros. timm's strided queries are left to a pooling behind the module.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Settings of <see cref="HaloAttention"/>. The defaults are those of timm, and the blocks of 8 with a halo of 3 of the paper.
/// </summary>
[AttentionKind("halo")]
public sealed record HaloAttentionOptions : AttentionOptions
{
    /// <summary>Number of heads; must divide the channels. Default 8.</summary>
    public int Heads { get; init; } = 8;

    /// <summary>
    /// Channels d of each head's queries and keys; values always have C / heads. Default null: C / heads. (timm's
    /// <c>dim_head</c>; timm without it rounds C to a multiple of 8 first.)
    /// </summary>
    public int? KeyWidth { get; init; }

    /// <summary>Divides the logits of positions by √d as well (timm's <c>scale_pos_embed</c>). Default false.</summary>
    public bool ScalePositions { get; init; }

    /// <summary>Height and width of a block of queries in positions. Default 8.</summary>
    public int BlockSize { get; init; } = 8;

    /// <summary>How many positions beyond its block a query sees on every side. Default 3.</summary>
    public int HaloSize { get; init; } = 3;

    /// <summary>Whether queries, keys and values have biases. Default false.</summary>
    public bool Bias { get; init; }

    /// <summary>
    /// True: y = x + context; false: y = context, as in the paper, where it replaces a convolution. Default false.
    /// </summary>
    public bool Residual { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Heads(Heads, channels);
        if (KeyWidth is int width) Check.Positive(width, nameof(KeyWidth));
        Check.Positive(BlockSize);
        Check.NotNegative(HaloSize);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new HaloAttention(channels, this);
}

/// <summary>
/// Multi-head attention of the b × b queries of a block to the (b + 2h) × (b + 2h) keys around it, with learnt 2-D relative
/// positions: c = softmax(q kᵀ / √d + q · r) v, or q · r / √d, r by the offset from the query's place in its block to the key's
/// place in the window; y = c, or y = x + c. Keys and values beyond the map are zeros that take part. Weights (N, heads, L, L),
/// zero beyond a block's window; rows of border blocks sum to less than 1, the rest being on those zeros. Keys as timm: <c>q</c>,
/// <c>kv</c>, <c>pos_embed.height_rel</c>, <c>pos_embed.width_rel</c>.
/// </summary>
/// <remarks>
/// Vaswani et al.: "Scaling Local Self-Attention for Parameter Efficient Visual Backbones", 2021, arXiv:2103.12731. Embeddings
/// start normal with σ = 1 / √d. <see cref="AttentionInitialization.Paper"/>: normal projections with σ = 1 / √C.
/// </remarks>
public sealed class HaloAttention : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "q")]
    private readonly Conv2d _query;

    [ComponentName(Name = "kv")]
    private readonly Conv2d _keyValue;

    [ComponentName(Name = "pos_embed")]
    private readonly RelativeLogits _positions;

    private readonly int _heads, _keyWidth, _block, _halo, _window;
    private readonly double? _positionScale;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public HaloAttention(int channels, HaloAttentionOptions? options = null)
        : base(channels, options ??= new HaloAttentionOptions(), options.Residual)
    {
        (_heads, _block, _halo) = (options.Heads, options.BlockSize, options.HaloSize);
        _window = _block + (2 * _halo);
        _keyWidth = options.KeyWidth ?? channels / _heads;
        if (options.ScalePositions) _positionScale = 1 / Math.Sqrt(_keyWidth);
        _query = nn.Conv2d(channels, _heads * _keyWidth, 1, bias: options.Bias);
        _keyValue = nn.Conv2d(channels, (_heads * _keyWidth) + channels, 1, bias: options.Bias);
        _positions = new RelativeLogits(_window, _window, _keyWidth);
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        (long down, long across) = Blocks(input);
        long samples = input.size(0), blocks = samples * down * across, valueWidth = Channels / _heads, keys = _heads * _keyWidth;
        bool apart = new[] { samples, down, across }.Count(size => size > 1) > 1;
        CountCut(_query, 0);
        CountCut(_keyValue, _halo);
        long slots = _block * _block, rows = blocks * _heads;
        long bias = _positions.CountFor(count, rows * slots, _window, _window, _positionScale is not null);
        long values = DotProduct.CountContext(count, rows, slots, _window * _window, _keyWidth, valueWidth, bias: bias);
        if (across > 1 || _heads > 1) count.Copy(values);
        return input.numel();

        void CountCut(Conv2d layer, long around)
        {
            long size = _block + (2 * around), channels = layer.out_channels;
            count.Pad(
                count.Values(layer), samples * channels * ((down * _block) + (2 * around)) * ((across * _block) + (2 * around)));
            if (apart) count.Copy(blocks * channels * size * size);
        }
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        (Tensor query, Tensor key, Tensor value, Tensor bias) = Project(input);
        (long down, long across) = Blocks(input);
        return DotProduct.Context(query, key, value, bias)
            .view(input.size(0), down, across, _heads, _block, _block, Channels / _heads).permute(0, 3, 6, 1, 4, 2, 5)
            .reshape(input.size(0), Channels, down * _block, across * _block)
            .narrow(2, 0, input.size(2)).narrow(3, 0, input.size(3));
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        (Tensor query, Tensor key, _, Tensor bias) = Project(input);
        (Tensor queries, Tensor keys) = Places(input.size(2), input.size(3));
        return BlockWeights.Dense(DotProduct.Weights(query, key, bias), queries, keys, input.size(2) * input.size(3));
    }

    /// <summary>The row-major positions of a map that each block's queries are, and its keys; −1 beyond the map.</summary>
    internal (Tensor Queries, Tensor Keys) Places(long height, long width)
    {
        Tensor places = TensorCalls.Range(height * width, ScalarType.Int64, _query.weight!.device).view(1, 1, height, width);
        return (Cut(places, 0, -1).reshape(-1, _block * _block), Cut(places, _halo, -1).reshape(-1, _window * _window));
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        foreach (Conv2d layer in new[] { _query, _keyValue })
        {
            nn.init.normal_(layer.weight!, 0, 1 / Math.Sqrt(Channels));
            AttentionWeightsInitializer.Zero(layer.bias);
        }
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        _positions.Reset();
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        (long down, long across) = Blocks(input);
        long queries = input.size(0) * down * across * _block * _block, keys = _heads * _keyWidth;
        return queries * ((_window * _window * (keys + Channels)) + (keys * 2 * ((2 * _window) - 1)));
    }

    private (long Down, long Across) Blocks(Tensor input)
        => ((input.size(2) + _block - 1) / _block, (input.size(3) + _block - 1) / _block);

    /// <summary>
    /// (N, C, H, W) to (N · B, C, n, n): every block with so many positions around it; beyond the map stands the padding.
    /// </summary>
    private Tensor Cut(Tensor map, int around, double padding = 0)
    {
        (long down, long across) = Blocks(map);
        long size = _block + (2 * around);
        Tensor padded = nn.functional.pad(
            map, [around, (across * _block) - map.size(3) + around, around, (down * _block) - map.size(2) + around],
            value: padding);
        return padded.unfold(2, size, _block).unfold(3, size, _block).permute(0, 2, 3, 1, 4, 5)
            .reshape(map.size(0) * down * across, map.size(1), size, size);
    }

    /// <summary>
    /// Queries (N · B, heads, b², d), keys (…, window², d), values (…, window², C / heads), and the logits of the offsets.
    /// </summary>
    private (Tensor Query, Tensor Key, Tensor Value, Tensor Bias) Project(Tensor input)
    {
        long width = Channels / _heads;
        Tensor query = Cut(_query.call(input), 0);
        query = query.reshape(query.size(0), _heads, _keyWidth, _block, _block).permute(0, 1, 3, 4, 2);
        Tensor around = Cut(_keyValue.call(input), _halo);
        around = around.reshape(around.size(0), _heads, _keyWidth + width, _window * _window).transpose(2, 3);
        Tensor bias = _positions.For(query, _window, _window, _positionScale);
        return (
            query.reshape(query.size(0), _heads, _block * _block, _keyWidth), around.narrow(3, 0, _keyWidth),
            around.narrow(3, _keyWidth, width), bias);
    }
}
