// Strip attention of timm (StripAttn): means along both axes, refined by depthwise 1-D convolutions, added in front of one
// sigmoid. No paper of its own; after Hou, Zhang, Cheng, Feng: "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing",
// 2020, arXiv:2003.13328.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="StripAttention"/>. Defaults: timm's.</summary>
[AttentionKind("strip")]
public sealed record StripAttentionOptions : AttentionOptions
{
    /// <summary>timm's <c>strip</c>: depthwise kernels of 3 without biases.</summary>
    public static StripAttentionOptions Timm { get; } = new();

    /// <summary>timm's <c>strip</c> without convolutions: no parameters at all.</summary>
    public static StripAttentionOptions WithoutParameters { get; } = new() { Convolution = false };

    /// <summary>Whether depthwise convolutions refine the strips. Default true.</summary>
    public bool Convolution { get; init; } = true;

    /// <summary>Kernel size along each axis in positions, odd. Default 3.</summary>
    public int KernelSize { get; init; } = 3;

    /// <summary>Whether the convolutions have biases. Default false.</summary>
    public bool Bias { get; init; }

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
        Check.OddKernel(KernelSize);
        Check.Defined(Gate);
        if (Bias && !Convolution)
        {
            throw new ArgumentException(
                "Bias is true, but there is no convolution to have one. Set Convolution = true.", nameof(Bias));
        }
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new StripAttention(channels, this);
}

/// <summary>
/// Strip attention: y = x · σ(f_h ∗ h + f_w ∗ w), h the mean over columns and w the mean over rows, f depthwise convolutions
/// along the strips, or nothing. Gate (N, C, H, W). Keys <c>conv_h</c>, <c>conv_w</c>, as timm.
/// </summary>
/// <remarks>
/// timm's <c>strip</c>, no paper of its own; strips after Hou, Zhang, Cheng, Feng: "Strip Pooling: Rethinking Spatial Pooling for
/// Scene Parsing", 2020, arXiv:2003.13328. <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a convolution.
/// </remarks>
public sealed class StripAttention : GateModule, ICombinedGate
{
    [ComponentName(Name = "conv_h")]
    private readonly Conv2d? _convH;

    [ComponentName(Name = "conv_w")]
    private readonly Conv2d? _convW;

    private readonly StripAttentionOptions _options;
    private readonly GateCombination _mix;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, for example an even kernel.</exception>
    public StripAttention(int channels, StripAttentionOptions? options = null)
        : base(channels, options ??= StripAttentionOptions.Timm)
    {
        _options = options;
        _mix = new(CombinationKind.SigmoidOfSum, Strips: StripReads.Means, PlusOne: options.Residual);
        if (options.Convolution)
        {
            long kernel = options.KernelSize;
            _convH = nn.Conv2d(channels, channels, (kernel, 1), padding: (kernel / 2, 0), groups: channels, bias: options.Bias);
            _convW = nn.Conv2d(channels, channels, (1, kernel), padding: (0, kernel / 2), groups: channels, bias: options.Bias);
        }

        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), channels = input.size(0) * Channels, rows = channels * input.size(2),
            columns = channels * input.size(3);
        count.Reduce(values, rows);
        count.Reduce(values, columns);
        count.Combine(values, rows, columns);
        count.Map(values);
        if (_options.Residual) count.Map(values);
        return values;
    }

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
        => new(
            _convH is null ? pooled.Rows : _convH.call(pooled.Rows),
            _convW is null ? pooled.Columns : _convW.call(pooled.Columns));
}
