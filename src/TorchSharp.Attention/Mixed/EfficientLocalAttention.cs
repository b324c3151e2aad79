// Efficient local attention. Wei Xu, Yi Wan: "ELA: Efficient Local Attention for Deep Convolutional Neural Networks", 2024,
// arXiv:2403.01123. timm normalises all channels together and adds a SiLU in front of the sigmoid.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="EfficientLocalAttention"/>. Defaults: the paper's ELA-B.</summary>
[AttentionKind("ela")]
public sealed record EfficientLocalAttentionOptions : AttentionOptions
{
    /// <summary>The paper's ELA-B: depthwise kernels of 7, group norm of 16 groups, no activation.</summary>
    public static EfficientLocalAttentionOptions Paper { get; } = new();

    /// <summary>The paper's ELA-T: depthwise kernels of 5, 32 groups; the channels must be a multiple of 32.</summary>
    public static EfficientLocalAttentionOptions Tiny { get; } = new() { KernelSize = 5, NormGroups = 32 };

    /// <summary>The paper's ELA-S: kernels of 5 over 8 channels each, 16 groups.</summary>
    public static EfficientLocalAttentionOptions Small { get; } = new() { KernelSize = 5, ChannelsPerGroup = 8 };

    /// <summary>The paper's ELA-L: kernels of 7 over 8 channels each, 16 groups.</summary>
    public static EfficientLocalAttentionOptions Large { get; } = new() { ChannelsPerGroup = 8 };

    /// <summary>timm's <c>ela</c>: depthwise kernels of 7, group norm of one group, SiLU.</summary>
    public static EfficientLocalAttentionOptions Timm { get; } = new() { NormGroups = 1, Activation = GateActivation.SiLU };

    /// <summary>Kernel size along each axis in positions, odd. Default 7.</summary>
    public int KernelSize { get; init; } = 7;

    /// <summary>
    /// Channels that a kernel sees together; must divide C. 1 is depthwise (ELA-T and -B); ELA-S and -L have 8. Default 1.
    /// </summary>
    public int ChannelsPerGroup { get; init; } = 1;

    /// <summary>Groups of the group norm; must divide C. Default 16.</summary>
    public int NormGroups { get; init; } = 16;

    /// <summary>Activation between norm and gate; null for none. Default null.</summary>
    public GateActivation? Activation { get; init; }

    /// <summary>Whether the convolutions have biases. Default false.</summary>
    public bool Bias { get; init; }

    /// <summary>Function of both gates. Default sigmoid.</summary>
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
        Check.Divides(ChannelsPerGroup, channels);
        Check.Divides(NormGroups, channels);
        if (Activation is GateActivation activation) Check.Defined(activation, nameof(Activation));
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new EfficientLocalAttention(channels, this);
}

/// <summary>
/// Efficient local attention: y = x · σ(GN(f_h ∗ h)) · σ(GN(f_w ∗ w)), h the mean over columns and w the mean over rows, f 1-D
/// convolutions along the strip, GN group norm: coordinate attention without a bottleneck. Gate (N, C, H, W), the product of
/// (N, C, H, 1) and (N, C, 1, W). Keys <c>conv_h</c>, <c>conv_w</c>, <c>norm_h</c>, <c>norm_w</c>, as timm.
/// </summary>
/// <remarks>
/// Xu, Wan: "ELA: Efficient Local Attention for Deep Convolutional Neural Networks", 2024, arXiv:2403.01123. There is no released
/// code; copies in circulation share one convolution and norm between both axes, the paper's equations do not.
/// <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a convolution.
/// </remarks>
public sealed class EfficientLocalAttention : GateModule, ICombinedGate
{
    [ComponentName(Name = "conv_h")]
    private readonly Conv2d _convH;

    [ComponentName(Name = "conv_w")]
    private readonly Conv2d _convW;

    [ComponentName(Name = "norm_h")]
    private readonly GroupNorm _normH;

    [ComponentName(Name = "norm_w")]
    private readonly GroupNorm _normW;

    private readonly EfficientLocalAttentionOptions _options;
    private readonly GateCombination _mix;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or groups do not divide the channels.</exception>
    public EfficientLocalAttention(int channels, EfficientLocalAttentionOptions? options = null)
        : base(channels, options ??= EfficientLocalAttentionOptions.Paper)
    {
        _options = options;
        _mix = new(CombinationKind.Product, Strips: StripReads.Means, PlusOne: options.Residual);
        long kernel = options.KernelSize, groups = channels / options.ChannelsPerGroup;
        _convH = nn.Conv2d(channels, channels, (kernel, 1), padding: (kernel / 2, 0), groups: groups, bias: options.Bias);
        _convW = nn.Conv2d(channels, channels, (1, kernel), padding: (0, kernel / 2), groups: groups, bias: options.Bias);
        _normH = NormCalls.Group(options.NormGroups, channels);
        _normW = NormCalls.Group(options.NormGroups, channels);
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), channels = input.size(0) * Channels;
        long[] strips = [channels * input.size(2), channels * input.size(3)];
        foreach (long strip in strips)
        {
            count.Reduce(values, strip);
            if (_options.Activation is not null) count.Map(strip);
            count.Map(strip);
        }

        count.Combine(values, strips[0], strips[1]);
        if (_options.Residual) count.Map(values);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => GateCombination.Compose(this, input);

    GateCombination ICombinedGate.Combination => _mix;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
        => new(Strip(pooled.Rows, _convH, _normH), Strip(pooled.Columns, _convW, _normW));

    private Tensor Strip(Tensor strip, Conv2d conv, GroupNorm norm)
    {
        Tensor logits = norm.call(conv.call(strip));
        return _options.Gate.Apply(_options.Activation is GateActivation activation ? activation.Apply(logits) : logits);
    }
}
