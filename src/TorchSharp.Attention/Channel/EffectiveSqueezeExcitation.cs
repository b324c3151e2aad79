// Effective squeeze-and-excitation. Youngwan Lee, Jongyoul Park: "CenterMask: Real-Time Anchor-Free Instance
// Segmentation", 2019, arXiv:1911.06667. One layer of full width instead of a bottleneck. The paper writes a sigmoid; its
// released code and timm take the hard one.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="EffectiveSqueezeExcitation"/>. Defaults: the released code's, which are timm's.</summary>
[AttentionKind("ese")]
public sealed record EffectiveSqueezeExcitationOptions : AttentionOptions
{
    /// <summary>The paper's equation: one layer with bias, sigmoid.</summary>
    public static EffectiveSqueezeExcitationOptions Paper { get; } = new() { Gate = GateFunction.Sigmoid };

    /// <summary>The released code and timm's <c>ese</c>: one layer with bias, hard sigmoid.</summary>
    public static EffectiveSqueezeExcitationOptions Official { get; } = new();

    /// <summary>Function of the gate. Default hard sigmoid.</summary>
    public GateFunction Gate { get; init; } = GateFunction.HardSigmoid;

    /// <summary>Squeezes to the average of mean and maximum instead of the mean alone. Default false.</summary>
    public bool MaxPool { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new EffectiveSqueezeExcitation(channels, this);
}

/// <summary>
/// Effective squeeze-and-excitation: y = x · σ(W z + b), z = mean of x over positions, W of C × C: nothing is lost in a
/// bottleneck. Gate (N, C, 1, 1). Key <c>fc</c> (1×1 convolution), as timm.
/// </summary>
/// <remarks>
/// Lee, Park: "CenterMask: Real-Time Anchor-Free Instance Segmentation", 2019, arXiv:1911.06667.
/// <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a convolution.
/// </remarks>
public sealed class EffectiveSqueezeExcitation : GateModule, IChannelGate, IInferenceGate
{
    private static readonly Scalar Half = 0.5.ToScalar();

    [ComponentName(Name = "fc")]
    private readonly Conv2d _fc;

    private readonly EffectiveSqueezeExcitationOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public EffectiveSqueezeExcitation(int channels, EffectiveSqueezeExcitationOptions? options = null)
        : base(channels, options ??= EffectiveSqueezeExcitationOptions.Official)
    {
        _options = options;
        _fc = nn.Conv2d(channels, channels, 1);
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long channels = ChannelSummary.Count(this, count, input);
        if (_options.MaxPool)
        {
            count.Combine(channels, channels, channels);
            count.Map(channels);
        }

        count.Map(channels);
        return channels;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Of(("fc.weight", 0), ("fc.weight", 1), ("fc.bias", 0));

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => ChannelSummary.Excite(this, input);

    ChannelStatistics IChannelGate.Statistics
        => _options.MaxPool ? ChannelStatistics.Mean | ChannelStatistics.Maximum : ChannelStatistics.Mean;

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled)
    {
        Tensor squeezed = _options.MaxPool ? pooled.Mean.Plus(pooled.Maximum).mul(Half) : pooled.Mean;
        return _options.Gate.Apply(pooled.Layer(_fc, squeezed));
    }

    void IInferenceGate.Describe(IInferenceProgram program)
        => program.Average(_options.MaxPool).Dense(_fc, _options.Gate);
}
