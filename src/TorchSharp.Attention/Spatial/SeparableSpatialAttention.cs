// Our own: CBAM's spatial gate (2018, arXiv:1807.06521) with its one k×k convolution of two maps taken apart, for tight latency.
// A depthwise and a 1×1 convolution alone would save nothing here, because there is a single output: the saving is in rows and
// columns.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="SeparableSpatialAttention"/>.</summary>
[AttentionKind("separable-spatial")]
public sealed record SeparableSpatialAttentionOptions : AttentionOptions
{
    /// <summary>Kernel size along each axis in positions, odd. Default 7.</summary>
    public int KernelSize { get; init; } = 7;

    /// <summary>Whether a batch norm follows the convolutions. Default false.</summary>
    public bool Norm { get; init; }

    /// <summary>Momentum of the batch norm's running statistics, in (0, 1]. Default 0.1.</summary>
    public double NormMomentum { get; init; } = 0.1;

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.OddKernel(KernelSize);
        NormCalls.CheckMomentum(NormMomentum);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new SeparableSpatialAttention(channels, this);
}

/// <summary>
/// Separable spatial attention: y = x · σ(W (r ∗ (c ∗ [mean x; max x]))), mean and maximum over channels, c a column of k×1 and r
/// a row of 1×k, both depthwise over the two maps, W a 1×1 convolution to one map, no biases, optionally followed by batch norm.
/// It is <see cref="SpatialAttention"/> with kernels of rank one: 4 k + 2 weights, and as many products per position, instead of
/// 2 k². Gate (N, 1, H, W). Keys <c>conv_v</c>, <c>conv_h</c>, <c>conv_pw</c>, <c>bn</c>.
/// </summary>
/// <remarks>
/// No paper of its own; after Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
/// <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a convolution.
/// </remarks>
public sealed class SeparableSpatialAttention : GateModule
{
    [ComponentName(Name = "conv_v")]
    private readonly Conv2d _column;

    [ComponentName(Name = "conv_h")]
    private readonly Conv2d _row;

    [ComponentName(Name = "conv_pw")]
    private readonly Conv2d _mix;

    [ComponentName(Name = "bn")]
    private readonly BatchNorm2d? _bn;

    private readonly SeparableSpatialAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine; the weights do not depend on it.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, for example an even kernel.</exception>
    public SeparableSpatialAttention(int channels, SeparableSpatialAttentionOptions? options = null)
        : base(channels, options ??= new SeparableSpatialAttentionOptions())
    {
        _options = options;
        long kernel = options.KernelSize;
        _column = nn.Conv2d(2, 2, (kernel, 1), padding: (kernel / 2, 0), groups: 2, bias: false);
        _row = nn.Conv2d(2, 2, (1, kernel), padding: (0, kernel / 2), groups: 2, bias: false);
        _mix = nn.Conv2d(2, 1, 1, bias: false);
        if (options.Norm) _bn = nn.BatchNorm2d(1, momentum: options.NormMomentum);
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long positions = SpatialPooling.Count(count, input);
        count.Map(positions);
        return positions;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        Tensor pooled = SpatialPooling.Of(input);
        Tensor logits = _mix.call(_row.call(_column.call(pooled)));
        return _options.Gate.Apply(_bn is null ? logits : _bn.CallAnyBatch(logits));
    }
}
