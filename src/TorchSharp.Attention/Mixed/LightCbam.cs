// A lighter CBAM: each half pools mean and maximum into one before its layers. An experiment of timm (lcbam), without a paper;
// after Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="LightCbam"/>. Defaults: timm's.</summary>
[AttentionKind("lcbam")]
public sealed record LightCbamOptions : AttentionOptions
{
    /// <summary>timm's <c>lcbam</c>: C / 16 rounded without biases, 7×7 with batch norm.</summary>
    public static LightCbamOptions Timm { get; } = new();

    /// <summary>Reduction r of the channel half: its bottleneck has C / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the channel half's bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this; null for ⌊C / r⌋. Default 1.</summary>
    public int? RoundingDivisor { get; init; } = 1;

    /// <summary>Whether both layers of the channel half have a bias. Default false.</summary>
    public bool Bias { get; init; }

    /// <summary>Activation of the channel half's bottleneck. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>Kernel size of the spatial half, odd. Default 7.</summary>
    public int KernelSize { get; init; } = 7;

    /// <summary>Whether a batch norm follows the spatial convolution. Default true.</summary>
    public bool SpatialNorm { get; init; } = true;

    /// <summary>Momentum of the running statistics of the spatial batch norm, in (0, 1]. Default 0.1.</summary>
    public double SpatialNormMomentum { get; init; } = 0.1;

    /// <summary>Function of both gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>The settings of the channel half.</summary>
    public SqueezeExcitationOptions ToChannel() => new()
    {
        Initialization = Initialization,
        Reduction = Reduction,
        ReducedChannels = ReducedChannels,
        RoundingDivisor = RoundingDivisor,
        Bias = Bias,
        Activation = Activation,
        Gate = Gate,
        MaxPool = true,
    };

    /// <summary>The settings of the spatial half.</summary>
    public SpatialAttentionOptions ToSpatial() => new()
    {
        Initialization = Initialization,
        KernelSize = KernelSize,
        Norm = SpatialNorm,
        NormMomentum = SpatialNormMomentum,
        MapOrder = SpatialMapOrder.Average,
        Gate = Gate,
    };

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ToChannel().Validate(channels);
        NormCalls.CheckMomentum(SpatialNormMomentum);
        ToSpatial().Validate(channels);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new LightCbam(channels, this);
}

/// <summary>
/// Light CBAM: x′ = x · σ(W₂ δ(W₁ z)), z = ½ mean x + ½ max x over positions; y = x′ · σ(f(m)), m = ½ mean x′ + ½ max x′ over
/// channels, f a k×k convolution of one map with batch norm. One pass through the bottleneck instead of two, half the spatial
/// weights. Gate (N, C, H, W), the product. Keys <c>channel.fc1</c>, <c>channel.fc2</c>, <c>spatial.conv.conv</c>,
/// <c>spatial.conv.bn</c>, as timm.
/// </summary>
/// <remarks>
/// timm's <c>lcbam</c>, no paper of its own; after Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018,
/// arXiv:1807.06521.
/// <see cref="AttentionInitialization.Paper"/>: as in <see cref="SqueezeExcitation"/> and <see cref="SpatialAttention"/>.
/// <see cref="AttentionInitialization.Identity"/>: both halves start at one, <c>channel.alpha</c> and <c>spatial.alpha</c>.
/// </remarks>
public sealed class LightCbam : GateModule, IGatePair
{
    [ComponentName(Name = "channel")]
    private readonly SqueezeExcitation _channel;

    [ComponentName(Name = "spatial")]
    private readonly SpatialAttention _spatial;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be below 1.</exception>
    public LightCbam(int channels, LightCbamOptions? options = null)
        : base(channels, options ??= LightCbamOptions.Timm, ownsIdentityScale: false)
    {
        _channel = new SqueezeExcitation(channels, options.ToChannel());
        _spatial = new SpatialAttention(channels, options.ToSpatial());
        Complete();
    }

    /// <summary>The channel half.</summary>
    public SqueezeExcitation ChannelHalf => _channel;

    /// <summary>The spatial half.</summary>
    public SpatialAttention SpatialHalf => _spatial;

    /// <inheritdoc/>
    private protected override Tensor AttendComposed(Tensor input) => _spatial.call(_channel.call(input));

    IChannelGate IGatePair.Channel => _channel;

    ISpatialGate IGatePair.Spatial => _spatial;

    /// <summary>The halves are called, and count themselves.</summary>
    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        Tensor gate = _channel.EffectiveGate(input);
        return gate.mul(_spatial.EffectiveGate(input.mul(gate)));
    }
}
