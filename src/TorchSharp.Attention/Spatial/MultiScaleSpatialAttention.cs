// Our own: CBAM's spatial gate (2018, arXiv:1807.06521) at several kernel sizes or dilations. Adding the scales' logits would be
// one large kernel written differently; so every scale has a gate of its own, and the gates are averaged with learnt weights.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="MultiScaleSpatialAttention"/>.</summary>
[AttentionKind("multiscale-spatial")]
public sealed record MultiScaleSpatialAttentionOptions : AttentionOptions
{
    /// <summary>Kernel size of each scale, odd. Default 3, 5, 7.</summary>
    public ValueList<int> KernelSizes { get; init; } = [3, 5, 7];

    /// <summary>Dilation of each scale, as many as kernel sizes; null for 1 everywhere. Default null.</summary>
    public ValueList<int>? Dilations { get; init; }

    /// <summary>Whether a batch norm follows each convolution. Default false.</summary>
    public bool Norm { get; init; }

    /// <summary>Momentum of the batch norms' running statistics, in (0, 1]. Default 0.1.</summary>
    public double NormMomentum { get; init; } = 0.1;

    /// <summary>Function of the gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ArgumentNullException.ThrowIfNull(KernelSizes);
        if (KernelSizes.Count == 0)
        {
            throw new ArgumentException(
                "KernelSizes is empty; it needs a kernel a scale, for example [3, 5, 7].", nameof(KernelSizes));
        }

        foreach (int kernel in KernelSizes) Check.OddKernel(kernel, nameof(KernelSizes));
        foreach (int dilation in Dilations ?? []) Check.Positive(dilation, nameof(Dilations));
        if (Dilations is not null && Dilations.Count != KernelSizes.Count)
        {
            throw new ArgumentException(
                $"Dilations is {Dilations} and KernelSizes is {KernelSizes}; there must be as many, or leave Dilations null.",
                nameof(Dilations));
        }

        NormCalls.CheckMomentum(NormMomentum);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new MultiScaleSpatialAttention(channels, this);
}

/// <summary>
/// Multi-scale spatial attention: y = x · Σ_i π_i σ(f_i([mean x; max x])), mean and maximum over channels, f_i a convolution of
/// kernel k_i and dilation d_i from two maps to one without bias, optionally followed by batch norm, π = softmax(a) learnt
/// weights of the scales, equal at first. Gate (N, 1, H, W). Keys <c>scales.0.conv</c>, <c>scales.0.bn</c>, …, and <c>fusion</c>,
/// the a.
/// </summary>
/// <remarks>
/// No paper of its own; after Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", 2018, arXiv:1807.06521.
/// <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a convolution.
/// </remarks>
public sealed class MultiScaleSpatialAttention : GateModule
{
    [ComponentName(Name = "scales")]
    private readonly ModuleList<Scale> _scales = [];

    [ComponentName(Name = "fusion")]
    private readonly Parameter _fusion;

    private readonly MultiScaleSpatialAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine; the weights do not depend on it.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, for example an even kernel.</exception>
    public MultiScaleSpatialAttention(int channels, MultiScaleSpatialAttentionOptions? options = null)
        : base(channels, options ??= new MultiScaleSpatialAttentionOptions())
    {
        _options = options;
        for (int i = 0; i < options.KernelSizes.Count; i++)
        {
            _scales.Add(new Scale(options.KernelSizes[i], options.Dilations?[i] ?? 1, options));
        }

        _fusion = new Parameter(zeros(options.KernelSizes.Count));
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long positions = SpatialPooling.Count(count, input);
        long scales = _scales.Count, gates = scales * positions;
        count.Copy(gates);
        count.Map(gates);
        count.Softmax(scales);
        count.Combine(gates, gates, scales);
        count.Reduce(gates, positions);
        return positions;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        Tensor pooled = SpatialPooling.Of(input);
        Tensor gates = _options.Gate.Apply(cat([.. _scales.Select(scale => scale.call(pooled))], 1));
        return gates.mul(_fusion.softmax(0).view(1, -1, 1, 1)).sum(1, keepdim: true);
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        AttentionWeightsInitializer.Zero(_fusion);
    }

    /// <summary>A convolution from two maps to one, and its norm if any.</summary>
    private sealed class Scale : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "conv")]
        private readonly Conv2d _conv;

        [ComponentName(Name = "bn")]
        private readonly BatchNorm2d? _bn;

        public Scale(int kernel, int dilation, MultiScaleSpatialAttentionOptions options)
            : base(nameof(Scale))
        {
            _conv = nn.Conv2d(2, 1, kernel, padding: (long)(kernel / 2) * dilation, dilation: dilation, bias: false);
            if (options.Norm) _bn = nn.BatchNorm2d(1, momentum: options.NormMomentum);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor logits = _conv.call(input);
            if (_bn is not null) logits = _bn.CallAnyBatch(logits);
            return logits.MoveToOuterDisposeScope();
        }
    }
}
