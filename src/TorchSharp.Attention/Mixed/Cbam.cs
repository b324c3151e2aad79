// CBAM. Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
// Paper, released code and timm differ in biases, rounding, norm and the order of the two pooled maps: see the presets.
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Which half of CBAM acts first.</summary>
public enum CbamOrder
{
    /// <summary>Channel attention, then spatial attention of its result. The paper found this order best.</summary>
    ChannelFirst,

    /// <summary>Spatial attention, then channel attention of its result.</summary>
    SpatialFirst,

    /// <summary>Both gates are computed from the input and applied together.</summary>
    Parallel,
}

/// <summary>Settings of <see cref="Cbam"/>. Defaults: the paper's.</summary>
[AttentionKind("cbam")]
public sealed record CbamOptions : AttentionOptions
{
    /// <summary>The paper: ⌊C / 16⌋ without biases, 7×7 on [mean, max] without norm.</summary>
    public static CbamOptions Paper { get; } = new();

    /// <summary>The released code: ⌊C / 16⌋ with biases, 7×7 on [max, mean] with batch norm of momentum 0.01.</summary>
    public static CbamOptions Official { get; } =
        new() { Bias = true, SpatialNorm = true, SpatialNormMomentum = 0.01, MapOrder = SpatialMapOrder.MaxMean };

    /// <summary>timm's <c>cbam</c>: C / 16 rounded without biases, 7×7 on [mean, max] with batch norm of momentum 0.1.</summary>
    public static CbamOptions Timm { get; } = new() { RoundingDivisor = 1, SpatialNorm = true };

    /// <summary>Reduction r of the channel half: its bottleneck has C / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the channel half's bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Whether both layers of the channel half have a bias. Default false.</summary>
    public bool Bias { get; init; }

    /// <summary>Activation of the channel half's bottleneck. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>Kernel size of the spatial half, odd. Default 7.</summary>
    public int KernelSize { get; init; } = 7;

    /// <summary>Whether a batch norm follows the spatial convolution. Default false.</summary>
    public bool SpatialNorm { get; init; }

    /// <summary>Momentum of the running statistics of the spatial batch norm, in (0, 1]. Default 0.1.</summary>
    public double SpatialNormMomentum { get; init; } = 0.1;

    /// <summary>The pooled maps of the spatial half and their order. Default both, mean first.</summary>
    public SpatialMapOrder MapOrder { get; init; }

    /// <summary>Which half acts first. Default channel.</summary>
    public CbamOrder Order { get; init; }

    /// <summary>Function of both gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>The settings of the channel half.</summary>
    public ChannelAttentionOptions ToChannel() => new()
    {
        Initialization = Initialization,
        Reduction = Reduction,
        ReducedChannels = ReducedChannels,
        RoundingDivisor = RoundingDivisor,
        Bias = Bias,
        Activation = Activation,
        Gate = Gate,
    };

    /// <summary>The settings of the spatial half.</summary>
    public SpatialAttentionOptions ToSpatial() => new()
    {
        Initialization = Initialization,
        KernelSize = KernelSize,
        Norm = SpatialNorm,
        NormMomentum = SpatialNormMomentum,
        MapOrder = MapOrder,
        Gate = Gate,
    };

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ToChannel().Validate(channels);
        ToSpatial().Validate(channels);
        NormCalls.CheckMomentum(SpatialNormMomentum);
        Check.Defined(Order);
    }

    /// <inheritdoc/>
    public override AttentionOptions WithWidthsOf(int channels)
        => this with { ReducedChannels = ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor) };

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new Cbam(channels, this);
}

/// <summary>
/// CBAM: x′ = x · c(x), y = x′ · s(x′), c a <see cref="ChannelAttention"/>, s a <see cref="SpatialAttention"/>; or spatial first;
/// or y = x · c(x) · s(x). Gate (N, C, H, W) as the product of (N, C, 1, 1) and (N, 1, H, W), which the normal path never builds.
/// Keys <c>channel.*</c>, <c>spatial.*</c>, as timm.
/// </summary>
/// <remarks>
/// Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
/// <see cref="AttentionInitialization.Paper"/>: as the released code, see both halves.
/// <see cref="AttentionInitialization.Identity"/>: both halves start at one, <c>channel.alpha</c> and <c>spatial.alpha</c>.
/// </remarks>
public sealed class Cbam : GateModule, IGatePair, ICombinedGate
{
    [ComponentName(Name = "channel")]
    private readonly ChannelAttention _channel;

    [ComponentName(Name = "spatial")]
    private readonly SpatialAttention _spatial;

    private static readonly GateCombination _parallel = new(
        CombinationKind.Product, ChannelStatistics.Mean | ChannelStatistics.Maximum, Positions: true);

    private readonly CbamOrder _order;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be below 1.</exception>
    public Cbam(int channels, CbamOptions? options = null)
        : base(channels, options ??= CbamOptions.Paper, ownsIdentityScale: false)
    {
        _order = options.Order;
        _channel = new ChannelAttention(channels, options.ToChannel());
        _spatial = new SpatialAttention(channels, options.ToSpatial());
        Complete();
    }

    /// <summary>The channel half.</summary>
    public ChannelAttention ChannelHalf => _channel;

    /// <summary>The spatial half.</summary>
    public SpatialAttention SpatialHalf => _spatial;

    /// <inheritdoc/>
    private protected override Tensor AttendComposed(Tensor input) => _order switch
    {
        CbamOrder.ChannelFirst => _spatial.call(_channel.call(input)),
        CbamOrder.SpatialFirst => _channel.call(_spatial.call(input)),
        _ => input.mul(_channel.EffectiveGate(input)).mul(_spatial.EffectiveGate(input)),
    };

    bool IGatePair.IsPair => _order == CbamOrder.ChannelFirst;

    IChannelGate IGatePair.Channel => _channel;

    ISpatialGate IGatePair.Spatial => _spatial;

    bool ICombinedGate.IsCombined => _order == CbamOrder.Parallel;

    GateCombination ICombinedGate.Combination => _parallel;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
        => new(GateParts.Excite(_channel, pooled.Channels), GateParts.Excite(_spatial, pooled.Positions));

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        // One after the other, the halves are called, and count themselves.
        if (_order != CbamOrder.Parallel) return;
        long values = input.numel();
        count.Combine(values, values, _channel.CountEffectiveGate(count, input));
        count.Combine(values, values, _spatial.CountEffectiveGate(count, input));
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => _spatial.ChannelLayout is { } spatial
        ? _channel.ChannelLayout!.Within("channel").And(spatial.Within("spatial"))
        : null;

    /// <inheritdoc/>
    protected internal override void OnChannelsRemoved(int channelsBefore) => _spatial.OnChannelsRemoved(channelsBefore);

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        (GateModule first, GateModule second) = _order == CbamOrder.SpatialFirst
            ? ((GateModule)_spatial, (GateModule)_channel)
            : (_channel, _spatial);
        Tensor gate = first.EffectiveGate(input);
        return gate.mul(second.EffectiveGate(_order == CbamOrder.Parallel ? input : input.mul(gate)));
    }
}
