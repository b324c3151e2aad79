// Coordinate attention. Qibin Hou, Daquan Zhou, Jiashi Feng: "Coordinate Attention for Efficient Mobile Network Design", 2021,
// arXiv:2103.02907. timm has no biases, and divides C by 24 with rounding to a multiple of 8 to cost about as much as its SE.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="CoordinateAttention"/>. Defaults: the paper's.</summary>
[AttentionKind("coord")]
public sealed record CoordinateAttentionOptions : AttentionOptions
{
    /// <summary>The paper and its released code: ⌊C / 32⌋, at least 8, biases.</summary>
    public static CoordinateAttentionOptions Paper { get; } = new();

    /// <summary>timm's <c>coord</c>: C / 24 rounded to a multiple of 8, at least 8, no biases.</summary>
    public static CoordinateAttentionOptions Timm { get; } = new() { Reduction = 24, RoundingDivisor = 8, Bias = false };

    /// <summary>
    /// Reduction r: the bottleneck has C / r channels, but no fewer than <see cref="MinReducedChannels"/>. Default 32.
    /// </summary>
    public int Reduction { get; init; } = 32;

    /// <summary>Width of the bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Least width of the bottleneck in channels, unless <see cref="ReducedChannels"/> is set. Default 8.</summary>
    public int MinReducedChannels { get; init; } = 8;

    /// <summary>Whether the three convolutions have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Activation of the bottleneck. Default hard swish.</summary>
    public GateActivation Activation { get; init; } = GateActivation.HardSwish;

    /// <summary>Whether a batch norm follows the first convolution. Default true.</summary>
    public bool Norm { get; init; } = true;

    /// <summary>Function of both gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>
    /// Whether the input is added, y = x + x · g, which makes the gate 1 + g; timm's <c>has_skip</c>. Default false.
    /// </summary>
    public bool Residual { get; init; }

    /// <summary>Width of the bottleneck for a number of channels.</summary>
    /// <param name="channels">Number of channels.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public int ReducedFor(int channels)
    {
        if (ReducedChannels is int explicitly) return Check.Positive(explicitly, nameof(ReducedChannels));
        Check.Positive(MinReducedChannels);
        Check.Positive(Reduction);
        bool below = RoundingDivisor is null && channels / Reduction < 1;
        return below
            ? MinReducedChannels
            : Math.Max(MinReducedChannels, ChannelReduction.Width(channels, Reduction, null, RoundingDivisor));
    }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ReducedFor(channels);
        Check.Defined(Activation);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionOptions WithWidthsOf(int channels)
        => this with { ReducedChannels = ReducedFor(channels) };

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new CoordinateAttention(channels, this);
}

/// <summary>
/// Coordinate attention: y = x · σ(W_h h) · σ(W_w w), where [h; w] = δ(norm(W₁ [mean over columns; mean over rows])). It has one
/// factor per row and one per column, so the gate depends on the position along each axis. Gate (N, C, H, W), the product of (N,
/// C, H, 1) and (N, C, 1, W). Keys <c>conv1</c>, <c>bn1</c>, <c>conv_h</c>, <c>conv_w</c>, as timm and the released code.
/// </summary>
/// <remarks>
/// Hou, Zhou, Feng: "Coordinate Attention for Efficient Mobile Network Design", 2021, arXiv:2103.02907.
/// <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a convolution.
/// </remarks>
public sealed class CoordinateAttention : GateModule, ICombinedGate
{
    [ComponentName(Name = "conv1")]
    private readonly Conv2d _conv1;

    [ComponentName(Name = "bn1")]
    private readonly BatchNorm2d? _bn1;

    [ComponentName(Name = "conv_h")]
    private readonly Conv2d _convH;

    [ComponentName(Name = "conv_w")]
    private readonly Conv2d _convW;

    private readonly CoordinateAttentionOptions _options;
    private readonly GateCombination _mix;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public CoordinateAttention(int channels, CoordinateAttentionOptions? options = null)
        : base(channels, options ??= CoordinateAttentionOptions.Paper)
    {
        _options = options;
        _mix = new(CombinationKind.Product, Strips: StripReads.Means, PlusOne: options.Residual);
        ReducedChannels = options.ReducedFor(channels);
        _conv1 = nn.Conv2d(channels, ReducedChannels, 1, bias: options.Bias);
        if (options.Norm) _bn1 = nn.BatchNorm2d(ReducedChannels);
        _convH = nn.Conv2d(ReducedChannels, channels, 1, bias: options.Bias);
        _convW = nn.Conv2d(ReducedChannels, channels, 1, bias: options.Bias);
        Complete();
    }

    /// <summary>Width of the bottleneck in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), channels = input.size(0) * Channels, rows = channels * input.size(2),
            columns = channels * input.size(3);
        count.Reduce(values, rows);
        count.Reduce(values, columns);
        count.Copy(rows + columns);
        count.Map(count.Values(_conv1));
        count.Map(rows);
        count.Map(columns);
        count.Combine(values, rows, columns);
        if (_options.Residual) count.Map(values);
        return values;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Bottleneck("conv1", _options.Bias, "conv_h", "conv_w");

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => GateCombination.Compose(this, input);

    GateCombination ICombinedGate.Combination => _mix;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
    {
        Tensor hidden = _conv1.call(pooled.Strips);
        if (_bn1 is not null) hidden = _bn1.CallAnyBatch(hidden);
        hidden = _options.Activation.Apply(hidden);
        Tensor rows = _options.Gate.Apply(_convH.call(hidden.narrow(2, 0, pooled.Height)));
        Tensor columns = _options.Gate.Apply(_convW.call(hidden.narrow(2, pooled.Height, pooled.Width).transpose(2, 3)));
        return new(rows, columns);
    }
}
