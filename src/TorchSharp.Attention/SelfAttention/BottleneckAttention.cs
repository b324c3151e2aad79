// Bottleneck attention. Srinivas, Lin, Parmar, Shlens, Abbeel, Vaswani: "Bottleneck Transformers for Visual
// Recognition", 2021, arXiv:2101.11605. The authors' code divides queries by √d before both products, timm only the
// products with keys. Published modules hold for one map size; here the tables of offsets are interpolated for others.
// timm's stride is left to a pooling behind the module.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Settings of <see cref="BottleneckAttention"/>. Defaults: timm's, which its published weights were trained with: four heads,
/// and ResNet's last stage at 224 × 224 without stride.
/// </summary>
[AttentionKind("bottleneck")]
public sealed record BottleneckAttentionOptions : AttentionOptions
{
    /// <summary>The authors' code: the defaults, but the logits of positions are divided by √d too.</summary>
    public static BottleneckAttentionOptions Official { get; } = new() { ScalePositions = true };

    /// <summary>timm's defaults, which are the defaults of these settings.</summary>
    public static BottleneckAttentionOptions Timm { get; } = new();

    /// <summary>Number of heads; must divide the channels. Default 4.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>
    /// Channels d of each head's queries and keys; values always have C / heads. Default null: C / heads. (timm's
    /// <c>dim_head</c>; timm without it rounds C to a multiple of 8 first.)
    /// </summary>
    public int? KeyWidth { get; init; }

    /// <summary>Divides the logits of positions by √d as well. Default false.</summary>
    public bool ScalePositions { get; init; }

    /// <summary>Height in positions of the maps that the embeddings are learnt on. Default 14.</summary>
    public int FeatureHeight { get; init; } = 14;

    /// <summary>Width in positions of the maps that the embeddings are learnt on. Default 14.</summary>
    public int FeatureWidth { get; init; } = 14;

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
        Check.Positive(FeatureHeight);
        Check.Positive(FeatureWidth);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new BottleneckAttention(channels, this);
}

/// <summary>
/// Multi-head self-attention with learnt 2-D relative positions: c = concat over heads of softmax(q kᵀ / √d + q · r) v, or q · r
/// / √d, r the sum of an embedding of the vertical and one of the horizontal offset; y = c, or y = x + c. At another size than
/// the one the embeddings are made for, they are interpolated linearly from outermost offset to outermost offset. Weights (N,
/// heads, L, L). Keys as timm: <c>qkv</c>, <c>pos_embed.height_rel</c>, <c>pos_embed.width_rel</c>.
/// </summary>
/// <remarks>
/// Srinivas et al.: "Bottleneck Transformers for Visual Recognition", 2021, arXiv:2101.11605. Memory grows with L². Embeddings
/// start normal with σ = 1 / √d. <see cref="AttentionInitialization.Paper"/>: normal projections with σ = 1 / √C.
/// </remarks>
public sealed class BottleneckAttention : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "qkv")]
    private readonly Conv2d _qkv;

    [ComponentName(Name = "pos_embed")]
    private readonly RelativeLogits _positions;

    private readonly int _heads, _keyWidth;
    private readonly double? _positionScale;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public BottleneckAttention(int channels, BottleneckAttentionOptions? options = null)
        : base(channels, options ??= new BottleneckAttentionOptions(), options.Residual)
    {
        (_heads, _keyWidth) = (options.Heads, options.KeyWidth ?? channels / options.Heads);
        if (options.ScalePositions) _positionScale = 1 / Math.Sqrt(_keyWidth);
        _qkv = nn.Conv2d(channels, (2 * _heads * _keyWidth) + channels, 1, bias: options.Bias);
        _positions = new RelativeLogits(options.FeatureHeight, options.FeatureWidth, _keyWidth);
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long height = input.size(2), width = input.size(3), rows = input.size(0) * _heads;
        long bias = _positions.CountFor(count, rows * height * width, height, width, _positionScale is not null);
        long valueWidth = Channels / _heads,
            values = DotProduct.CountContext(count, rows, height * width, height * width, _keyWidth, valueWidth, bias: bias);
        DotProduct.CountMap(count, values, _heads);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        (Tensor query, Tensor key, Tensor value, Tensor bias) = Project(input);
        return DotProduct.Map(DotProduct.Context(query, key, value, bias), input.size(2), input.size(3));
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        (Tensor query, Tensor key, _, Tensor bias) = Project(input);
        return DotProduct.Weights(query, key, bias);
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        nn.init.normal_(_qkv.weight!, 0, 1 / Math.Sqrt(Channels));
        AttentionWeightsInitializer.Zero(_qkv.bias);
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        _positions.Reset();
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        long height = input.size(2), width = input.size(3), positions = height * width;
        long queries = input.size(0) * positions, keys = _heads * _keyWidth;
        return queries * ((positions * (keys + Channels)) + (keys * ((2 * height) - 1 + (2 * width) - 1)));
    }

    /// <summary>Queries and keys (N, heads, L, d), values (N, heads, L, C / heads), and the logits of the offsets.</summary>
    private (Tensor Query, Tensor Key, Tensor Value, Tensor Bias) Project(Tensor input)
    {
        long height = input.size(2), width = input.size(3), keys = _heads * _keyWidth;
        Tensor projected = _qkv.call(input);
        Tensor query = Part(0, keys), key = Part(keys, keys), value = Part(2 * keys, Channels);
        Tensor bias = _positions.For(
            query.reshape(input.size(0), _heads, height, width, _keyWidth), height, width, _positionScale);
        return (query, key, value, bias);

        Tensor Part(long from, long count) => DotProduct.Heads(projected.narrow(1, from, count), heads: _heads)[0];
    }
}
