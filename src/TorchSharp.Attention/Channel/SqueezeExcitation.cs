// Squeeze-and-excitation. Jie Hu, Li Shen, Gang Sun: "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507.
// The paper's reduced width is C / r; timm and the MobileNets round it to a multiple of 8. The released networks have biases.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="SqueezeExcitation"/>. Defaults: the paper's.</summary>
[AttentionKind("se")]
public sealed record SqueezeExcitationOptions : AttentionOptions
{
    /// <summary>The paper: reduced width ⌊C / 16⌋, no rounding, biases, sigmoid.</summary>
    public static SqueezeExcitationOptions Paper { get; } = new();

    /// <summary>timm's <c>se</c>: reduced width C / 16 rounded to a multiple of 8, at least 8.</summary>
    public static SqueezeExcitationOptions Timm { get; } = new() { RoundingDivisor = 8 };

    /// <summary>Reduction r: the bottleneck has C / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Whether both layers have a bias. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Activation of the bottleneck. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>Whether a batch norm follows the first layer, key <c>bn</c>; timm's <c>norm_layer</c>. Default false.</summary>
    public bool Norm { get; init; }

    /// <summary>Squeezes to the average of mean and maximum instead of the mean alone. Default false.</summary>
    public bool MaxPool { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
        Check.Defined(Activation);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionOptions WithWidthsOf(int channels)
        => this with { ReducedChannels = ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor) };

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new SqueezeExcitation(channels, this);
}

/// <summary>
/// Squeeze-and-excitation: y = x · σ(W₂ δ(W₁ z)), z = mean of x over positions (or the average of mean and maximum).
/// Gate (N, C, 1, 1). Keys <c>fc1</c>, <c>fc2</c> (1×1 convolutions) and, with a norm between them, <c>bn</c>, as timm.
/// </summary>
/// <remarks>
/// Hu, Shen, Sun: "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507.
/// <see cref="AttentionInitialization.Paper"/>: Kaiming normal weights, zero biases, as the paper trains its networks.
/// </remarks>
public sealed class SqueezeExcitation : GateModule, IChannelGate, IInferenceGate
{
    private static readonly Scalar Half = 0.5.ToScalar();

    [ComponentName(Name = "fc1")]
    private readonly Conv2d _fc1;

    [ComponentName(Name = "bn")]
    private readonly BatchNorm2d? _bn;

    [ComponentName(Name = "fc2")]
    private readonly Conv2d _fc2;

    private readonly SqueezeExcitationOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be below 1.</exception>
    public SqueezeExcitation(int channels, SqueezeExcitationOptions? options = null)
        : base(channels, options ??= SqueezeExcitationOptions.Paper)
    {
        _options = options;
        ReducedChannels = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _fc1 = nn.Conv2d(channels, ReducedChannels, 1, bias: options.Bias);
        if (options.Norm) _bn = nn.BatchNorm2d(ReducedChannels);
        _fc2 = nn.Conv2d(ReducedChannels, channels, 1, bias: options.Bias);
        Complete();
    }

    /// <summary>Width of the bottleneck in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long channels = ChannelSummary.Count(this, count, input);
        if (_options.MaxPool)
        {
            count.Combine(channels, channels, channels);
            count.Map(channels);
        }

        count.Map(count.Values(_fc1));
        count.Map(channels);
        return channels;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Bottleneck("fc1", _options.Bias, "fc2");

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => ChannelSummary.Excite(this, input);

    ChannelStatistics IChannelGate.Statistics
        => _options.MaxPool ? ChannelStatistics.Mean | ChannelStatistics.Maximum : ChannelStatistics.Mean;

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled)
    {
        if (_bn is null && !_options.MaxPool && pooled.Bottleneck(_fc1, _options.Activation, _fc2, _options.Gate) is { } gate)
        {
            return gate;
        }

        Tensor squeezed = _options.MaxPool ? pooled.Mean.Plus(pooled.Maximum).mul(Half) : pooled.Mean;
        Tensor hidden = pooled.Layer(_fc1, squeezed);
        if (_bn is not null) hidden = _bn.CallAnyBatch(hidden);
        return _options.Gate.Apply(pooled.Layer(_fc2, _options.Activation.Apply(hidden)));
    }

    void IInferenceGate.Describe(IInferenceProgram program)
        => program.Average(_options.MaxPool).Dense(_fc1, _bn, _options.Activation).Dense(_fc2, _options.Gate);

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        foreach (Conv2d layer in new[] { _fc1, _fc2 })
        {
            AttentionWeightsInitializer.Kaiming(layer.weight!);
            AttentionWeightsInitializer.Zero(layer.bias);
        }
    }
}
