// Polarized self-attention, PSA. Huajun Liu, Fuqiang Liu, Xinyi Fan, Dong Huang: "Polarized Self-Attention: Towards High-quality
// Pixel-wise Regression", 2021, arXiv:2107.00782. It gates, so it is no context: each branch collapses one of channels and
// positions and keeps the other. The released code has two classes that differ from the paper and from each other in two places,
// see the presets: what the spatial branch's softmax acts on, and what stands behind the channel branch's product.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How the two branches of <see cref="PolarizedSelfAttention"/> are combined.</summary>
public enum PolarizedLayout
{
    /// <summary>Both branches read the input, and the refined maps are added: x · c(x) + x · s(x).</summary>
    Parallel,

    /// <summary>The channel branch comes first, then the spatial branch: x′ = x · c(x), y = x′ · s(x′).</summary>
    Sequential,
}

/// <summary>What the softmax of the spatial branch of <see cref="PolarizedSelfAttention"/> acts on.</summary>
public enum PolarizedSoftmax
{
    /// <summary>The pooled query, over its channels, as the paper: a position's logit is a weighted mean of its values.</summary>
    Query,

    /// <summary>
    /// The product, over the positions, as the released parallel code. The shares of L positions add up to 1, so on a
    /// large map all gates are close to σ(0).
    /// </summary>
    Product,

    /// <summary>The values, over the positions, each channel for itself, as the released sequential code.</summary>
    Values,
}

/// <summary>
/// Which layers follow the product in the channel branch of <see cref="PolarizedSelfAttention"/>, before the gate.
/// </summary>
public enum PolarizedExcitation
{
    /// <summary>A 1×1 convolution and layer norm over the channels, as the paper's figure.</summary>
    Norm,

    /// <summary>A 1×1 convolution alone, as the released parallel code (and the paper's equation).</summary>
    Plain,

    /// <summary>
    /// 1×1 convolution to a quarter of the reduced width, layer norm, ReLU, 1×1 convolution, with
    /// biases, as the released sequential code.
    /// </summary>
    Bottleneck,
}

/// <summary>Settings of <see cref="PolarizedSelfAttention"/>. Defaults: the paper's, parallel.</summary>
[AttentionKind("psa")]
public sealed record PolarizedSelfAttentionOptions : AttentionOptions
{
    /// <summary>The paper, parallel: softmax of the pooled query, layer norm in the channel branch.</summary>
    public static PolarizedSelfAttentionOptions Paper { get; } = new();

    /// <summary>The paper, sequential.</summary>
    public static PolarizedSelfAttentionOptions PaperSequential { get; } = new() { Layout = PolarizedLayout.Sequential };

    /// <summary>The released parallel code: softmax of the product, no norm.</summary>
    public static PolarizedSelfAttentionOptions Official { get; } =
        new() { SpatialSoftmax = PolarizedSoftmax.Product, Excitation = PolarizedExcitation.Plain };

    /// <summary>
    /// The released sequential code: softmax of the values, a bottleneck with layer norm in the channel branch.
    /// </summary>
    public static PolarizedSelfAttentionOptions OfficialSequential { get; } = new()
    {
        Layout = PolarizedLayout.Sequential,
        SpatialSoftmax = PolarizedSoftmax.Values,
        Excitation = PolarizedExcitation.Bottleneck,
    };

    /// <summary>How the two branches are combined. Default parallel.</summary>
    public PolarizedLayout Layout { get; init; }

    /// <summary>What the spatial branch's softmax acts on. Default the pooled query.</summary>
    public PolarizedSoftmax SpatialSoftmax { get; init; }

    /// <summary>Which layers are between product and gate in the channel branch. Default a convolution and layer norm.</summary>
    public PolarizedExcitation Excitation { get; init; }

    /// <summary>Reduction r: values and the spatial query have C / r channels. Default 2.</summary>
    public int Reduction { get; init; } = 2;

    /// <summary>Width of values and spatial query in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Function of both gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Defined(Layout);
        Check.Defined(SpatialSoftmax);
        Check.Defined(Excitation);
        Check.Defined(Gate);
        int width = ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
        if (Excitation == PolarizedExcitation.Bottleneck && width < 2 * PolarizedSelfAttention.BottleneckReduction)
        {
            throw new ArgumentOutOfRangeException(
                nameof(ReducedChannels), width,
                $"ReducedChannels is {width}; a quarter of it is the bottleneck, whose layer norm needs at least 2 channels. " +
                "Use at least " +
                $"{2 * PolarizedSelfAttention.BottleneckReduction}, or another Excitation.");
        }
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new PolarizedSelfAttention(channels, this);
}

/// <summary>
/// Polarized self-attention: y = x · (c(x) + s(x)), or x′ = x · c(x) and y = x′ · s(x′); c(x) = σ(LN(W_z V softmax(q))), q = w_q
/// x one value per position, V = W_v x; s(x) = σ(softmax(W_q z) · W_v′ x), z = mean of x over positions. Gate (N, C, H, W), the
/// sum or the product of (N, C, 1, 1) and (N, 1, H, W). The cost grows with H · W, not with its square. Keys <c>conv_q_right</c>,
/// <c>conv_v_right</c>, <c>conv_up</c> (channel), <c>conv_q_left</c>, <c>conv_v_left</c> (spatial), as the released code; with a
/// norm <c>conv_up.0</c> and <c>conv_up.1</c>, as a bottleneck also <c>conv_up.3</c>.
/// </summary>
/// <remarks>
/// Liu, Liu, Fan, Huang: "Polarized Self-Attention: Towards High-quality Pixel-wise Regression", 2021, arXiv:2107.00782.
/// <see cref="AttentionInitialization.Paper"/>: as the released code, queries and values Kaiming normal of the fan-in, the rest
/// PyTorch's own start.
/// </remarks>
public sealed class PolarizedSelfAttention : GateModule, ICombinedGate, IFunctionalCost
{
    internal const int BottleneckReduction = 4;

    [ComponentName(Name = "conv_q_right")]
    private readonly Conv2d _channelQuery;

    [ComponentName(Name = "conv_v_right")]
    private readonly Conv2d _channelValue;

    [ComponentName(Name = "conv_up")]
    private readonly nn.Module<Tensor, Tensor> _excitation;

    [ComponentName(Name = "conv_q_left")]
    private readonly Conv2d _spatialQuery;

    [ComponentName(Name = "conv_v_left")]
    private readonly Conv2d _spatialValue;

    private static readonly GateCombination _sum = new(CombinationKind.Sum);
    private static readonly GateCombination _product = new(CombinationKind.Product);

    private readonly PolarizedSelfAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be too small.</exception>
    public PolarizedSelfAttention(int channels, PolarizedSelfAttentionOptions? options = null)
        : base(channels, options ??= PolarizedSelfAttentionOptions.Paper)
    {
        _options = options;
        ReducedChannels = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _channelQuery = nn.Conv2d(channels, 1, 1, bias: false);
        _channelValue = nn.Conv2d(channels, ReducedChannels, 1, bias: false);
        _excitation = Build(options.Excitation, ReducedChannels, channels);
        _spatialQuery = nn.Conv2d(channels, ReducedChannels, 1, bias: false);
        _spatialValue = nn.Conv2d(channels, ReducedChannels, 1, bias: false);
        Complete();
    }

    /// <summary>Width of values and spatial query in channels.</summary>
    public int ReducedChannels { get; }

    /// <inheritdoc/>
    public long MultiplyAccumulates(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        return 2 * ReducedChannels * input.size(0) * input.size(2) * input.size(3);
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), samples = input.size(0), channels = samples * Channels,
            positions = samples * input.size(2) * input.size(3);
        long reduced = samples * ReducedChannels, projected = positions * ReducedChannels;
        count.Softmax(positions);
        count.Product(reduced, projected, positions);
        count.Map(channels);
        if (_options.Layout == PolarizedLayout.Sequential) count.Combine(values, values, channels);
        count.Reduce(values, channels);
        if (_options.SpatialSoftmax == PolarizedSoftmax.Query) count.Softmax(reduced);
        if (_options.SpatialSoftmax == PolarizedSoftmax.Values) count.Softmax(projected);
        count.Product(positions, reduced, projected);
        if (_options.SpatialSoftmax == PolarizedSoftmax.Product) count.Softmax(positions);
        count.Map(positions);
        count.Combine(values, channels, positions);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => GateCombination.Compose(this, input);

    GateCombination ICombinedGate.Combination => _options.Layout == PolarizedLayout.Sequential ? _product : _sum;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
    {
        Tensor channel = ChannelGate(pooled.Map);
        return new(channel, SpatialGate(_options.Layout == PolarizedLayout.Sequential ? pooled.Map.mul(channel) : pooled.Map));
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        foreach (Conv2d conv in new[] { _channelQuery, _channelValue, _spatialQuery, _spatialValue })
        {
            nn.init.kaiming_normal_(conv.weight!, mode: nn.init.FanInOut.FanIn, nonlinearity: nn.init.NonlinearityType.ReLU);
        }
    }

    private static nn.Module<Tensor, Tensor> Build(PolarizedExcitation excitation, int width, int channels)
    {
        switch (excitation)
        {
            case PolarizedExcitation.Plain:
                return nn.Conv2d(width, channels, 1, bias: false);
            case PolarizedExcitation.Bottleneck:
                int narrow = width / BottleneckReduction;
                return nn.Sequential(
                    ("0", nn.Conv2d(width, narrow, 1)), ("1", nn.LayerNorm([narrow, 1, 1])), ("2", nn.ReLU()),
                    ("3", nn.Conv2d(narrow, channels, 1)));
            default:
                return nn.Sequential(("0", nn.Conv2d(width, channels, 1, bias: false)), ("1", nn.LayerNorm([channels, 1, 1])));
        }
    }

    /// <summary>(N, C, 1, 1): values gathered over all positions.</summary>
    private Tensor ChannelGate(Tensor input)
    {
        Tensor shares = _channelQuery.call(input).flatten(2).softmax(2);
        Tensor values = _channelValue.call(input).flatten(2);
        return _options.Gate.Apply(_excitation.call(values.bmm(shares.transpose(1, 2)).unsqueeze(3)));
    }

    /// <summary>(N, 1, H, W): values gathered over all channels.</summary>
    private Tensor SpatialGate(Tensor input)
    {
        // The papers pool after the convolution; it is linear, so that pooling first gives the same for H · W times less work.
        Tensor query = _spatialQuery.call(input.mean([2, 3], keepdim: true)).flatten(2).transpose(1, 2);
        Tensor values = _spatialValue.call(input).flatten(2);
        if (_options.SpatialSoftmax == PolarizedSoftmax.Query) query = query.softmax(2);
        if (_options.SpatialSoftmax == PolarizedSoftmax.Values) values = values.softmax(2);
        Tensor logits = query.bmm(values);
        if (_options.SpatialSoftmax == PolarizedSoftmax.Product) logits = logits.softmax(2);
        return _options.Gate.Apply(logits).view(-1, 1, input.size(2), input.size(3));
    }
}
