// Concurrent spatial and channel squeeze-and-excitation, scSE. Abhijit Guha Roy, Nassir Navab, Christian Wachinger: "Concurrent
// Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks", 2018, arXiv:1803.02579. The paper adds the two; the
// released code takes the larger element (the choice of the follow-up, arXiv:1808.08127); segmentation_models.pytorch adds, with
// r = 16.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How the two refined maps of <see cref="ConcurrentSqueezeExcitation"/> become one.</summary>
public enum ScseMerge
{
    /// <summary>x · c + x · s.</summary>
    Add,

    /// <summary>max(x · c, x · s), element by element.</summary>
    Maximum,
}

/// <summary>Which parts of <see cref="ConcurrentSqueezeExcitation"/> there are.</summary>
public enum ScseParts
{
    /// <summary>Both: scSE.</summary>
    Both,

    /// <summary>The channel part alone: cSE.</summary>
    Channel,

    /// <summary>The spatial part alone: sSE.</summary>
    Spatial,
}

/// <summary>Settings of <see cref="ConcurrentSqueezeExcitation"/>. Defaults: the paper's.</summary>
[AttentionKind("scse")]
public sealed record ConcurrentSqueezeExcitationOptions : AttentionOptions
{
    /// <summary>The paper: r = 2, added.</summary>
    public static ConcurrentSqueezeExcitationOptions Paper { get; } = new();

    /// <summary>The released code: r = 2, the larger element.</summary>
    public static ConcurrentSqueezeExcitationOptions Official { get; } = new() { Merge = ScseMerge.Maximum };

    /// <summary>segmentation_models.pytorch: r = 16, added.</summary>
    public static ConcurrentSqueezeExcitationOptions SegmentationModels { get; } = new() { Reduction = 16 };

    /// <summary>Reduction r of the channel part: its bottleneck has C / r channels. Default 2.</summary>
    public int Reduction { get; init; } = 2;

    /// <summary>Width of the bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Whether all layers have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Activation of the bottleneck. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>How the two refined maps become one. Default added.</summary>
    public ScseMerge Merge { get; init; }

    /// <summary>Which parts there are. Default both.</summary>
    public ScseParts Parts { get; init; }

    /// <summary>Function of both gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>The settings of the channel part. The identity start is left out, because the whole module has it.</summary>
    public SqueezeExcitationOptions ToChannel() => new()
    {
        Initialization = Initialization is AttentionInitialization.Kaiming or AttentionInitialization.Xavier
            ? Initialization
            : AttentionInitialization.Default,
        Reduction = Reduction,
        ReducedChannels = ReducedChannels,
        RoundingDivisor = RoundingDivisor,
        Bias = Bias,
        Activation = Activation,
        Gate = Gate,
    };

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Defined(Merge);
        Check.Defined(Parts);
        Check.Defined(Activation);
        Check.Defined(Gate);
        if (Parts != ScseParts.Spatial) ToChannel().Validate(channels);
    }

    /// <inheritdoc/>
    public override AttentionOptions WithWidthsOf(int channels)
        => Parts == ScseParts.Spatial
            ? this
            : this with { ReducedChannels = ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor) };

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new ConcurrentSqueezeExcitation(channels, this);
}

/// <summary>
/// scSE: y = x · c + x · s, or max(x · c, x · s), with c = σ(W₂ δ(W₁ z)), z mean of x over positions, and s = σ(w · x), a 1×1
/// convolution to one map; or one of the two alone. As a gate: c + s, or the larger of the two where x ≥ 0 and the smaller where
/// x is negative. Gate (N, C, H, W), in (0, 2) when added; (N, C, 1, 1) or (N, 1, H, W) for one part. Keys <c>cSE.fc1</c>,
/// <c>cSE.fc2</c>, <c>sSE.conv</c>, as the released code.
/// </summary>
/// <remarks>
/// Roy, Navab, Wachinger: "Concurrent Spatial and Channel Squeeze &amp; Excitation in Fully Convolutional Networks", 2018,
/// arXiv:1803.02579; "Recalibrating Fully Convolutional Networks with Spatial and Channel 'Squeeze &amp; Excitation' Blocks",
/// 2018, arXiv:1808.08127. <see cref="AttentionInitialization.Paper"/>: as the released code, PyTorch's own start.
/// </remarks>
public sealed class ConcurrentSqueezeExcitation : GateModule, IChannelGate, ICombinedGate
{
    [ComponentName(Name = "cSE")]
    private readonly SqueezeExcitation? _channel;

    [ComponentName(Name = "sSE")]
    private readonly SpatialPart? _spatial;

    private static readonly GateCombination _sum = new(CombinationKind.Sum, ChannelStatistics.Mean);
    private static readonly GateCombination _larger = new(CombinationKind.Larger, ChannelStatistics.Mean);

    private readonly ConcurrentSqueezeExcitationOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be below 1.</exception>
    public ConcurrentSqueezeExcitation(int channels, ConcurrentSqueezeExcitationOptions? options = null)
        : base(channels, options ??= ConcurrentSqueezeExcitationOptions.Paper)
    {
        _options = options;
        if (options.Parts != ScseParts.Spatial) _channel = new SqueezeExcitation(channels, options.ToChannel());
        if (options.Parts != ScseParts.Channel) _spatial = new SpatialPart(channels, options.Bias);
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel();
        long channel = _channel?.CountEffectiveGate(count, input) ?? 0, spatial = _spatial is null ? 0 : count.Values(_spatial);
        if (_spatial is not null) count.Map(spatial);
        if (_channel is null) return spatial;
        if (_spatial is null) return channel;
        count.Combine(values, channel, spatial);
        if (_options.Merge != ScseMerge.Maximum) return values;
        count.Combine(values, channel, spatial);
        count.Combine(values, values, values, values);
        return values;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => (_channel?.ChannelLayout!.Within("cSE") ?? ChannelLayout.Of())
        .And(_spatial is null ? ChannelLayout.Of() : ChannelLayout.Of(("sSE.conv.weight", 1)));

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => _options.Parts switch
    {
        ScseParts.Channel => ChannelSummary.Excite(this, input),
        ScseParts.Spatial => ExcitePositionsOf(input),
        _ => GateCombination.Compose(this, input),
    };

    /// <summary>The channel half, where the settings have one.</summary>
    private IChannelGate ChannelHalf => _channel!;

    bool IChannelGate.IsChannelGate => _options.Parts == ScseParts.Channel;

    ChannelStatistics IChannelGate.Statistics => ChannelHalf.Statistics;

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled) => ChannelHalf.ExciteChannels(pooled);

    bool ICombinedGate.IsCombined => _options.Parts == ScseParts.Both;

    GateCombination ICombinedGate.Combination => _options.Merge == ScseMerge.Maximum ? _larger : _sum;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
        => new(ChannelHalf.ExciteChannels(pooled.Channels), ExcitePositionsOf(pooled.Map));

    private Tensor ExcitePositionsOf(Tensor input) => _options.Gate.Apply(_spatial!.call(input));

    private sealed class SpatialPart : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "conv")]
        private readonly Conv2d _conv;

        public SpatialPart(int channels, bool bias)
            : base(nameof(SpatialPart))
        {
            _conv = nn.Conv2d(channels, 1, 1, bias: bias);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input) => _conv.call(input);
    }
}
