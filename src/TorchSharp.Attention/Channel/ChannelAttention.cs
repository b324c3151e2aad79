// CBAM's channel half. Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
// The released code has biases in the MLP; timm has none and rounds the reduced width to the nearest integer.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="ChannelAttention"/>. Defaults: the paper's.</summary>
[AttentionKind("channel")]
public sealed record ChannelAttentionOptions : AttentionOptions
{
    /// <summary>The paper: ⌊C / 16⌋, no biases.</summary>
    public static ChannelAttentionOptions Paper { get; } = new();

    /// <summary>The released code: ⌊C / 16⌋, biases.</summary>
    public static ChannelAttentionOptions Official { get; } = new() { Bias = true };

    /// <summary>timm: C / 16 rounded to the nearest integer, no biases.</summary>
    public static ChannelAttentionOptions Timm { get; } = new() { RoundingDivisor = 1 };

    /// <summary>Reduction r: the bottleneck has C / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Whether both layers of the MLP have a bias. Default false.</summary>
    public bool Bias { get; init; }

    /// <summary>Activation of the bottleneck. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

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
    public override AttentionModule Create(int channels) => new ChannelAttention(channels, this);
}

/// <summary>
/// CBAM's channel attention: y = x · σ(M(mean x) + M(max x)), mean and maximum over positions, M(z) = W₂ δ(W₁ z) shared by both.
/// Gate (N, C, 1, 1). Keys <c>fc1</c>, <c>fc2</c> (1×1 convolutions), as timm.
/// </summary>
/// <remarks>
/// Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521. Where several positions
/// share a channel's maximum, its gradient is split evenly among them (as timm's <c>amax</c>; the released code's
/// max-pooling gives all of it to the first). <see cref="AttentionInitialization.Paper"/>: as the released code, PyTorch's
/// own start of the weights, biases zero.
/// </remarks>
public sealed class ChannelAttention : GateModule, IChannelGate, IInferenceGate
{
    [ComponentName(Name = "fc1")]
    private readonly Conv2d _fc1;

    [ComponentName(Name = "fc2")]
    private readonly Conv2d _fc2;

    private readonly ChannelAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be below 1.</exception>
    public ChannelAttention(int channels, ChannelAttentionOptions? options = null)
        : base(channels, options ??= ChannelAttentionOptions.Paper)
    {
        _options = options;
        ReducedChannels = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _fc1 = nn.Conv2d(channels, ReducedChannels, 1, bias: options.Bias);
        _fc2 = nn.Conv2d(ReducedChannels, channels, 1, bias: options.Bias);
        Complete();
    }

    /// <summary>Width of the bottleneck in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long channels = ChannelSummary.Count(this, count, input);
        count.Map(count.Values(_fc1));
        count.Map(count.Values(_fc1));
        count.Combine(channels, channels, channels);
        count.Map(channels);
        return channels;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Bottleneck("fc1", _options.Bias, "fc2");

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => ChannelSummary.Excite(this, input);

    ChannelStatistics IChannelGate.Statistics => ChannelStatistics.Mean | ChannelStatistics.Maximum;

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled)
        => pooled.Bottleneck(_fc1, _options.Activation, _fc2, _options.Gate)
            ?? _options.Gate.Apply(pooled.SumOfBoth(_fc1, _options.Activation, _fc2));

    void IInferenceGate.Describe(IInferenceProgram program)
        => program.DenseOfBoth(_fc1, _options.Activation).Dense(_fc2, _options.Gate, ofTwoBranches: true);

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        AttentionWeightsInitializer.Zero(_fc1.bias);
        AttentionWeightsInitializer.Zero(_fc2.bias);
    }
}
