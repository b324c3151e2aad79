// Simplified coordinate attention of timm (SimpleCoordAttn, scoord): linear layers, no norm, one sigmoid of a sum. No paper of
// its own; after Hou, Zhou, Feng: "Coordinate Attention for Efficient Mobile Network Design", 2021, arXiv:2103.02907.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="SimpleCoordinateAttention"/>. Defaults: timm's.</summary>
[AttentionKind("scoord")]
public sealed record SimpleCoordinateAttentionOptions : AttentionOptions
{
    /// <summary>timm's <c>scoord</c>: C / 6 rounded to a multiple of 8, at least 8, biases, SiLU.</summary>
    public static SimpleCoordinateAttentionOptions Timm { get; } = new();

    /// <summary>Reduction r: the bottleneck has C / r channels. Default 6.</summary>
    public int Reduction { get; init; } = 6;

    /// <summary>Width of the bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this; null for ⌊C / r⌋. Default 8.</summary>
    public int? RoundingDivisor { get; init; } = 8;

    /// <summary>Whether the three layers have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Activation of the bottleneck. Default SiLU.</summary>
    public GateActivation Activation { get; init; } = GateActivation.SiLU;

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>
    /// Whether the input is added, y = x + x · g, which makes the gate 1 + g; timm's <c>has_skip</c>. Default false.
    /// </summary>
    public bool Residual { get; init; }

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
    public override AttentionModule Create(int channels) => new SimpleCoordinateAttention(channels, this);
}

/// <summary>
/// Simple coordinate attention: y = x · σ(W_h δ(W₁ h) + W_w δ(W₁ w)), h the mean over columns and w the mean over rows. Both
/// terms are added before a single sigmoid. Gate (N, C, H, W). Keys <c>fc1</c>, <c>fc_h</c>, <c>fc_w</c> (linear layers), as
/// timm.
/// </summary>
/// <remarks>
/// timm's <c>scoord</c>, no paper of its own; after Hou, Zhou, Feng: "Coordinate Attention for Efficient Mobile Network Design",
/// 2021, arXiv:2103.02907. <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a linear layer.
/// </remarks>
public sealed class SimpleCoordinateAttention : GateModule, ICombinedGate
{
    [ComponentName(Name = "fc1")]
    private readonly Linear _fc1;

    [ComponentName(Name = "fc_h")]
    private readonly Linear _fcH;

    [ComponentName(Name = "fc_w")]
    private readonly Linear _fcW;

    private readonly SimpleCoordinateAttentionOptions _options;
    private readonly GateCombination _mix;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be below 1.</exception>
    public SimpleCoordinateAttention(int channels, SimpleCoordinateAttentionOptions? options = null)
        : base(channels, options ??= SimpleCoordinateAttentionOptions.Timm)
    {
        _options = options;
        _mix = new(CombinationKind.SigmoidOfSum, Strips: StripReads.Means, PlusOne: options.Residual);
        ReducedChannels = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _fc1 = nn.Linear(channels, ReducedChannels, hasBias: options.Bias);
        _fcH = nn.Linear(ReducedChannels, channels, hasBias: options.Bias);
        _fcW = nn.Linear(ReducedChannels, channels, hasBias: options.Bias);
        Complete();
    }

    /// <summary>Width of the bottleneck in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), samples = input.size(0);
        foreach (long length in new[] { input.size(2), input.size(3) })
        {
            count.Reduce(values, samples * Channels * length);
            count.Map(samples * ReducedChannels * length);
        }

        count.Combine(values, samples * Channels * input.size(2), samples * Channels * input.size(3));
        count.Map(values);
        if (_options.Residual) count.Map(values);
        return values;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Bottleneck("fc1", _options.Bias, "fc_h", "fc_w");

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        (Tensor rows, Tensor columns, _) = ((ICombinedGate)this).ComputeFactors(new PooledMap(input, _mix));
        Tensor gate = _options.Gate.Apply(rows.Plus(columns));
        return _options.Residual ? gate.Plus(Scalars.One) : gate;
    }

    bool ICombinedGate.IsCombined => _options.Gate == GateFunction.Sigmoid;

    GateCombination ICombinedGate.Combination => _mix;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
        => new(Strip(pooled.Rows.squeeze(3), _fcH).unsqueeze(3), Strip(pooled.Columns.squeeze(2), _fcW).unsqueeze(2));

    /// <summary>(N, C, length) to the same shape.</summary>
    private Tensor Strip(Tensor strip, Linear head)
        => head.call(_options.Activation.Apply(_fc1.call(strip.transpose(1, 2)))).transpose(1, 2);
}
