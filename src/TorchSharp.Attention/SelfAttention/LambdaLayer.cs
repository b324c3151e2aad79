// Lambda layer. Bello: "LambdaNetworks: Modeling Long-Range Interactions Without Attention", 2021, arXiv:2102.08602, with local
// position lambdas as a convolution (as timm; the paper's r is 23, timm's default 9). timm's other form, an embedding of every
// offset on a map of one size (its r = None), is not here: the local form takes any size.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="LambdaLayer"/>. Defaults: the paper's.</summary>
[AttentionKind("lambda")]
public sealed record LambdaLayerOptions : AttentionOptions
{
    /// <summary>The paper: four heads, keys of 16 channels, positions up to 11 away.</summary>
    public static LambdaLayerOptions Paper { get; } = new();

    /// <summary>timm's defaults: as the paper, positions up to 4 away.</summary>
    public static LambdaLayerOptions Timm { get; } = new() { KernelSize = 9 };

    /// <summary>Number of heads; must divide the channels. Default 4.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>Channels of queries (each head) and keys. Default 16.</summary>
    public int KeyWidth { get; init; } = 16;

    /// <summary>Height and width r of the position lambda's neighbourhood, odd. Default 23.</summary>
    public int KernelSize { get; init; } = 23;

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
        Check.Positive(KeyWidth);
        Check.OddKernel(KernelSize);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new LambdaLayer(channels, this);
}

/// <summary>
/// Lambda layer: the keys' softmax over positions and the values make a linear map that is applied to each query, c_n = q_nᵀ (Σ_m
/// σ(k)_m v_mᵀ + Σ_m E_{m−n} v_mᵀ + b), with batch norm on q and v and E a learnt r × r neighbourhood; y = c, or y = x + c.
/// Weights (N, heads, L, L) are the effective factors of v, q_nᵀ (σ(k)_m + E_{m−n}): of either sign, and no row sums to 1. Keys
/// as timm: <c>qkv</c>, <c>norm_q</c>, <c>norm_v</c>, <c>conv_lambda</c>.
/// </summary>
/// <remarks>
/// Bello: "LambdaNetworks: Modeling Long-Range Interactions Without Attention", 2021, arXiv:2102.08602. Single-value batches are
/// normalised with the running statistics. <see cref="AttentionInitialization.Paper"/>: normal projections with σ = 1 / √C, of
/// the queries 1 / √(K C), and unit normal E with b = 0.
/// </remarks>
public sealed class LambdaLayer : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "qkv")]
    private readonly Conv2d _qkv;

    [ComponentName(Name = "norm_q")]
    private readonly BatchNorm2d _queryNorm;

    [ComponentName(Name = "norm_v")]
    private readonly BatchNorm2d _valueNorm;

    [ComponentName(Name = "conv_lambda")]
    private readonly Conv3d _local;

    private readonly LambdaLayerOptions _options;
    private readonly int _heads, _keyWidth, _valueWidth;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public LambdaLayer(int channels, LambdaLayerOptions? options = null)
        : base(channels, options ??= new LambdaLayerOptions(), options.Residual)
    {
        _options = options;
        (_heads, _keyWidth, _valueWidth) = (options.Heads, options.KeyWidth, channels / options.Heads);
        int size = options.KernelSize;
        _qkv = nn.Conv2d(channels, (_heads * _keyWidth) + _keyWidth + _valueWidth, 1, bias: options.Bias);
        _queryNorm = nn.BatchNorm2d(_heads * _keyWidth);
        _valueNorm = nn.BatchNorm2d(_valueWidth);
        _local = nn.Conv3d(1, _keyWidth, (size, size, 1), padding: (size / 2, size / 2, 0));
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long samples = input.size(0), positions = input.size(2) * input.size(3), values = input.numel();
        long keys = samples * _keyWidth * positions, queries = keys * _heads, projected = samples * _valueWidth * positions,
            state = samples * _keyWidth * _valueWidth;
        count.Softmax(keys);
        count.Product(state, keys, projected);
        count.Product(values, queries, state);
        count.Affine(keys * _valueWidth, projected, _local.weight!.numel(), _keyWidth);
        count.Product(values, queries, keys * _valueWidth);
        count.Combine(values, values, values);
        count.Copy(values);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        long n = input.size(0), height = input.size(2), width = input.size(3), positions = height * width;
        (Tensor query, Tensor key, Tensor map) = Project(input);
        Tensor value = map.view(n, _valueWidth, positions).transpose(1, 2);
        Tensor content = query.matmul(key.matmul(value).unsqueeze(1));

        // The 3-D convolution is one of each value channel apart. As a 2-D convolution of a batch of channels, (N · V, K, H, W),
        // it is faster, and free of the wrong gradients that libtorch 2.10's conv3d gave for a batch of one. Then (N, L, K, V):
        // each position's own map from queries to outputs, which all its heads share.
        Tensor local = nn.functional.conv2d(
                map.view(n * _valueWidth, 1, height, width), _local.weight!.squeeze(-1), _local.bias,
                padding: [_options.KernelSize / 2, _options.KernelSize / 2])
            .view(n, _valueWidth, _keyWidth, positions).permute(0, 3, 2, 1);
        Tensor position = query.transpose(1, 2).matmul(local).transpose(1, 2);
        return content.Plus(position).transpose(2, 3).reshape(input.shape);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        (Tensor query, Tensor key, _) = Project(input);
        Tensor embeddings = Embeddings(input.size(2), input.size(3));
        return query.matmul(key.unsqueeze(1)).Plus(query.unsqueeze(3).matmul(embeddings).squeeze(3));
    }

    /// <summary>For each position the embeddings of all others, zero beyond the kernel: (L, K, L).</summary>
    internal Tensor Embeddings(long height, long width)
    {
        long positions = height * width, size = _options.KernelSize;
        long[] offsets = new long[positions * positions];
        for (long i = 0; i < offsets.Length; i++)
        {
            (long from, long to) = Math.DivRem(i, positions);
            long down = (to / width) - (from / width) + (size / 2), across = (to % width) - (from % width) + (size / 2);
            bool near = down >= 0 && down < size && across >= 0 && across < size;
            offsets[i] = near ? (down * size) + across : size * size;
        }

        Tensor table = nn.functional.pad(_local.weight!.view(_keyWidth, size * size), [0, 1]);
        return table.index_select(1, tensor(offsets, device: table.device)).view(_keyWidth, positions, positions).transpose(0, 1);
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        nn.init.normal_(_qkv.weight!, 0, 1 / Math.Sqrt(Channels));
        using Tensor queries = _qkv.weight!.narrow(0, 0, _heads * _keyWidth);
        nn.init.normal_(queries, 0, 1 / Math.Sqrt(_keyWidth * Channels));
        AttentionWeightsInitializer.Zero(_qkv.bias);
        nn.init.normal_(_local.weight!, 0, 1);
        AttentionWeightsInitializer.Zero(_local.bias);
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        long positions = input.size(0) * input.size(2) * input.size(3);
        return positions * _keyWidth * _valueWidth * (1 + (_options.KernelSize * _options.KernelSize) + (2 * _heads));
    }

    /// <summary>Queries (N, heads, L, K), softmax of the keys (N, K, L), and the map of values (N, V, H, W).</summary>
    private (Tensor Query, Tensor Key, Tensor Value) Project(Tensor input)
    {
        long n = input.size(0), positions = input.size(2) * input.size(3), queries = _heads * _keyWidth;
        Tensor projected = _qkv.call(input);
        Tensor query = _queryNorm.CallAnyBatch(
            projected.narrow(1, 0, queries)).reshape(n, _heads, _keyWidth, positions).transpose(2, 3);
        Tensor key = projected.narrow(1, queries, _keyWidth).reshape(n, _keyWidth, positions).softmax(-1);
        Tensor value = _valueNorm.CallAnyBatch(projected.narrow(1, queries + _keyWidth, _valueWidth)).contiguous();
        return (query, key, value);
    }
}
