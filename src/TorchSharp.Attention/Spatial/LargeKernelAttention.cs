// Large kernel attention. Meng-Hao Guo, Cheng-Ze Lu, Zheng-Ning Liu, Ming-Ming Cheng, Shi-Min Hu: "Visual Attention Network",
// 2022, arXiv:2202.09741. With separable kernels: Kin Wai Lau, Lai-Man Po, Yasar Abbas Ur Rehman: "Large Separable Kernel
// Attention: Rethinking the Large Kernel Attention Design in CNN", 2023, arXiv:2309.01439.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="LargeKernelAttention"/>. Defaults: the paper's.</summary>
[AttentionKind("lka")]
public sealed record LargeKernelAttentionOptions : AttentionOptions
{
    /// <summary>VAN and its released code: 5×5, 7×7 of dilation 3; together a kernel of 23.</summary>
    public static LargeKernelAttentionOptions Paper { get; } = new();

    /// <summary>
    /// LSKA of the same size, 23: each kernel a row and a column. Its other sizes by kernel, dilated kernel and dilation: 7 is 3,
    /// 3, 2; 11 is 3, 5, 2; 35 is 5, 11, 3; 41 is 5, 13, 3; 53 is 5, 17, 3.
    /// </summary>
    public static LargeKernelAttentionOptions Separable { get; } = new() { SeparableKernels = true };

    /// <summary>Kernel size of the first, local convolution, odd. Default 5.</summary>
    public int KernelSize { get; init; } = 5;

    /// <summary>Kernel size of the dilated convolution, odd. Default 7.</summary>
    public int DilatedKernelSize { get; init; } = 7;

    /// <summary>Dilation of the dilated convolution. Default 3.</summary>
    public int Dilation { get; init; } = 3;

    /// <summary>Whether each depthwise convolution is a row followed by a column. Default false.</summary>
    public bool SeparableKernels { get; init; }

    /// <summary>Whether the convolutions have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.OddKernel(KernelSize);
        Check.OddKernel(DilatedKernelSize);
        Check.Positive(Dilation);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new LargeKernelAttention(channels, this);
}

/// <summary>
/// Large kernel attention: y = x · W (d ∗ (k ∗ x)), k a depthwise convolution, d a dilated one, W 1×1: a large kernel at the
/// price of two small ones. The gate is not squashed. Separable: each depthwise convolution is a row, then a column. Gate (N, C,
/// H, W). Keys <c>conv0</c>, <c>conv_spatial</c>, <c>conv1</c>, or <c>conv0h</c>, <c>conv0v</c>, <c>conv_spatial_h</c>,
/// <c>conv_spatial_v</c>, <c>conv1</c>, as the released codes.
/// </summary>
/// <remarks>
/// Guo, Lu, Liu, Cheng, Hu: "Visual Attention Network", 2022, arXiv:2202.09741. Lau, Po, Rehman: "Large Separable Kernel
/// Attention: Rethinking the Large Kernel Attention Design in CNN", 2023, arXiv:2309.01439.
/// <see cref="AttentionInitialization.Paper"/>: as the released codes, normal with σ = √(2 / (kernel's places · outputs a
/// group)), biases zero.
/// </remarks>
public sealed class LargeKernelAttention : GateModule
{
    [ComponentName(Name = "conv0")]
    private readonly Conv2d? _local;

    [ComponentName(Name = "conv0h")]
    private readonly Conv2d? _localRow;

    [ComponentName(Name = "conv0v")]
    private readonly Conv2d? _localColumn;

    [ComponentName(Name = "conv_spatial")]
    private readonly Conv2d? _dilated;

    [ComponentName(Name = "conv_spatial_h")]
    private readonly Conv2d? _dilatedRow;

    [ComponentName(Name = "conv_spatial_v")]
    private readonly Conv2d? _dilatedColumn;

    [ComponentName(Name = "conv1")]
    private readonly Conv2d _mix;

    private readonly Conv2d[] _depthwise;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, for example an even kernel.</exception>
    public LargeKernelAttention(int channels, LargeKernelAttentionOptions? options = null)
        : base(channels, options ??= LargeKernelAttentionOptions.Paper)
    {
        int local = options.KernelSize, wide = options.DilatedKernelSize;
        if (options.SeparableKernels)
        {
            _localRow = Depthwise(1, local, 1);
            _localColumn = Depthwise(local, 1, 1);
            _dilatedRow = Depthwise(1, wide, options.Dilation);
            _dilatedColumn = Depthwise(wide, 1, options.Dilation);
            _depthwise = [_localRow, _localColumn, _dilatedRow, _dilatedColumn];
        }
        else
        {
            _local = Depthwise(local, local, 1);
            _dilated = Depthwise(wide, wide, options.Dilation);
            _depthwise = [_local, _dilated];
        }

        _mix = nn.Conv2d(channels, channels, 1, bias: options.Bias);
        Complete();

        Conv2d Depthwise(long height, long width, long dilation) => nn.Conv2d(
            channels, channels, (height, width), padding: (height / 2 * dilation, width / 2 * dilation),
            dilation: (dilation, dilation),
            groups: channels, bias: options.Bias);
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        return input.numel();
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        Tensor map = input;
        foreach (Conv2d conv in _depthwise) map = conv.call(map);
        return _mix.call(map);
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        foreach (Conv2d conv in _depthwise) Start(conv, 1);
        Start(_mix, Channels);
    }

    private static void Start(Conv2d conv, int outputsAGroup)
    {
        long places = conv.weight!.size(2) * conv.weight.size(3);
        nn.init.normal_(conv.weight, 0, Math.Sqrt(2.0 / (places * outputsAGroup)));
        AttentionWeightsInitializer.Zero(conv.bias);
    }
}
