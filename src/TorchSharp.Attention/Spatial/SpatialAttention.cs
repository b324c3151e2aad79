// CBAM's spatial half. Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
// The released code stacks [max, mean] and normalises the logit with momentum 0.01; timm stacks [mean, max], momentum 0.1.
using TorchSharp.Attention.Kernels;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The pooled maps that the spatial convolution reads, and their order.</summary>
public enum SpatialMapOrder
{
    /// <summary>Mean over channels first, as the paper and timm.</summary>
    MeanMax,

    /// <summary>Maximum over channels first, as the released code.</summary>
    MaxMean,

    /// <summary>One map, the average of mean and maximum, as the spatial half of timm's <c>lcbam</c>.</summary>
    Average,
}

/// <summary>Settings of <see cref="SpatialAttention"/>. Defaults: the paper's.</summary>
[AttentionKind("spatial")]
public sealed record SpatialAttentionOptions : AttentionOptions
{
    /// <summary>The paper: 7×7 on [mean, max], no norm.</summary>
    public static SpatialAttentionOptions Paper { get; } = new();

    /// <summary>The released code: 7×7 on [max, mean], batch norm of momentum 0.01.</summary>
    public static SpatialAttentionOptions Official { get; } =
        new() { Norm = true, NormMomentum = 0.01, MapOrder = SpatialMapOrder.MaxMean };

    /// <summary>timm: 7×7 on [mean, max], batch norm of momentum 0.1.</summary>
    public static SpatialAttentionOptions Timm { get; } = new() { Norm = true };

    /// <summary>Kernel size in positions, odd. Default 7.</summary>
    public int KernelSize { get; init; } = 7;

    /// <summary>Whether a batch norm follows the convolution. Default false.</summary>
    public bool Norm { get; init; }

    /// <summary>Momentum of the batch norm's running statistics, in (0, 1]. Default 0.1.</summary>
    public double NormMomentum { get; init; } = 0.1;

    /// <summary>The pooled maps and their order. Default both, mean first.</summary>
    public SpatialMapOrder MapOrder { get; init; }

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.OddKernel(KernelSize);
        NormCalls.CheckMomentum(NormMomentum);
        Check.Defined(MapOrder);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new SpatialAttention(channels, this);
}

/// <summary>
/// CBAM's spatial attention: y = x · σ(f([mean x; max x])), mean and maximum over channels, f a k×k convolution from two maps to
/// one without bias, optionally followed by batch norm; or from one map, the average of both. Gate (N, 1, H, W). Keys
/// <c>conv.conv</c>, <c>conv.bn</c>, as timm.
/// </summary>
/// <remarks>
/// Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
/// <see cref="AttentionInitialization.Paper"/>: as the released code, convolution Kaiming normal, the norm's scale zero.
/// </remarks>
public sealed class SpatialAttention : GateModule, ISpatialGate, IInferenceGate
{
    [ComponentName(Name = "conv")]
    private readonly ConvNorm _conv;

    private readonly SpatialAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine; the weights do not depend on it.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, for example an even kernel.</exception>
    public SpatialAttention(int channels, SpatialAttentionOptions? options = null)
        : base(channels, options ??= SpatialAttentionOptions.Paper)
    {
        _options = options;
        _conv = new ConvNorm(options);
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long positions = SpatialPooling.Count(count, input);
        if (_options.MapOrder == SpatialMapOrder.Average) count.Reduce(2 * positions, positions);
        if (_options.MapOrder == SpatialMapOrder.MaxMean) count.Copy(2 * positions);
        count.Map(positions);
        return positions;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => _options.MapOrder == SpatialMapOrder.Average ? null : ChannelLayout.Of() with
    {
        Caveat = "exact if, at every position, at least one remaining channel is ≥ 0 (always true after a ReLU); " +
            "otherwise a removed zero could have been the channel maximum",
    };

    /// <inheritdoc/>
    protected internal override void OnChannelsRemoved(int channelsBefore)
    {
        // The mean is over fewer channels, and their sum is what it was.
        using Scalar share = ((double)Channels / channelsBefore).ToScalar();
        using Tensor mean = _conv.Weight.narrow(1, _options.MapOrder == SpatialMapOrder.MeanMax ? 0 : 1, 1);
        mean.mul_(share);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => SpatialPooling.Excite(this, input);

    Tensor ISpatialGate.ExcitePositions(Tensor pooled)
    {
        if (!_conv.HasHooks && _conv.TryFused(pooled, _options.MapOrder) is { } logits) return _options.Gate.Apply(logits);
        Tensor maps = _options.MapOrder switch
        {
            SpatialMapOrder.Average => pooled.mean([1], keepdim: true),
            SpatialMapOrder.MaxMean => pooled.flip(1),
            _ => pooled,
        };
        return _options.Gate.Apply(_conv.call(maps));
    }

    void IInferenceGate.Describe(IInferenceProgram program) => _conv.Describe(program, _options);

    /// <inheritdoc/>
    protected override void InitializeAsPaper() => _conv.InitializeAsReleased();

    /// <summary>The convolution and its norm, so that keys read conv.conv and conv.bn.</summary>
    private sealed class ConvNorm : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "conv")]
        private readonly Conv2d _conv2d;

        [ComponentName(Name = "bn")]
        private readonly BatchNorm2d? _bn;

        public ConvNorm(SpatialAttentionOptions options)
            : base(nameof(ConvNorm))
        {
            int maps = options.MapOrder == SpatialMapOrder.Average ? 1 : 2;
            _conv2d = nn.Conv2d(maps, 1, options.KernelSize, padding: options.KernelSize / 2, bias: false);
            if (options.Norm) _bn = nn.BatchNorm2d(1, momentum: options.NormMomentum);
            RegisterComponents();
        }

        public Tensor Weight => _conv2d.weight!;

        public bool HasHooks => pre_hooks.Count + post_hooks.Count + module_pre_hooks.Count + module_post_hooks.Count > 0;

        public void Describe(IInferenceProgram program, SpatialAttentionOptions options)
        {
            if (HasHooks) program.MarkUnsupported();
            else program.Convolve(_conv2d, _bn, options.MapOrder, options.Gate);
        }

        public Tensor? TryFused(Tensor pooled, SpatialMapOrder order)
        {
            if (PositionConvolution.TryRun(pooled, order, _conv2d, _bn) is { } done) return done;
            if (PositionConvolutionGradients.TryRun(pooled, order, _conv2d) is not { } logits) return null;
            return _bn is null ? logits : _bn.CallAnyBatch(logits);
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor logits = _conv2d.call(input);
            if (_bn is not null) logits = _bn.CallAnyBatch(logits);
            return logits.MoveToOuterDisposeScope();
        }

        public void InitializeAsReleased()
        {
            AttentionWeightsInitializer.Kaiming(_conv2d.weight!);
            AttentionWeightsInitializer.Zero(_bn?.weight);
        }
    }
}
