// Gated channel transformation, GCT. Zongxin Yang, Linchao Zhu, Yu Wu, Yi Yang: "Gated Channel Transformation for Visual
// Recognition", 2019, arXiv:1909.11519. The released code has l2 and l1 norms.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How <see cref="GatedChannelTransformation"/> measures channels.</summary>
public enum GctNorm
{
    /// <summary>Square root of the sum of squares over positions, and of the mean square over channels.</summary>
    L2,

    /// <summary>Sum of absolute values over positions, and mean absolute value over channels.</summary>
    L1,
}

/// <summary>Settings of <see cref="GatedChannelTransformation"/>. Defaults: the paper's.</summary>
[AttentionKind("gct")]
public sealed record GatedChannelTransformationOptions : AttentionOptions
{
    /// <summary>The paper and its released code: l2 norms, epsilon 1e-5.</summary>
    public static GatedChannelTransformationOptions Paper { get; } = new();

    /// <summary>How channels are measured. Default l2.</summary>
    public GctNorm Norm { get; init; }

    /// <summary>Epsilon, above 0: keeps roots and quotients away from zero. Default 1e-5.</summary>
    public double Epsilon { get; init; } = 1e-5;

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Defined(Norm);
        Check.Positive(Epsilon);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new GatedChannelTransformation(channels, this);
}

/// <summary>
/// Gated channel transformation: y = x · (1 + tanh(γ s / n + β)), s = α · ‖x‖ over positions, n the norm of s over channels:
/// channels compete or co-operate through three numbers each. l2: ‖x‖ = √(Σ x² + ε), n = √(mean s² + ε); l1: ‖x‖ = Σ |x|, n =
/// mean |s| + ε. Gate (N, C, 1, 1), in (0, 2). Keys <c>embedding</c>, <c>gamma</c>, <c>beta</c>, (1, C, 1, 1) each, as the
/// released code, which calls the first <c>alpha</c>: here that key is the scale of an identity start.
/// </summary>
/// <remarks>
/// Yang, Zhu, Wu, Yang: "Gated Channel Transformation for Visual Recognition", 2019, arXiv:1909.11519.
/// It starts as the identity by itself (α = 1, γ = β = 0), with every <see cref="AttentionInitialization"/>, so
/// <see cref="AttentionInitialization.Identity"/> adds no scale of its own. γ learns from the first step.
/// </remarks>
public sealed class GatedChannelTransformation : GateModule, IChannelGate
{
    [ComponentName(Name = "embedding")]
    private readonly Parameter _embedding;

    [ComponentName(Name = "gamma")]
    private readonly Parameter _gamma;

    [ComponentName(Name = "beta")]
    private readonly Parameter _beta;

    private readonly GctNorm _norm;
    private readonly Scalar _epsilon;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public GatedChannelTransformation(int channels, GatedChannelTransformationOptions? options = null)
        : base(channels, options ??= GatedChannelTransformationOptions.Paper, ownsIdentityScale: false)
    {
        _norm = options.Norm;
        _epsilon = options.Epsilon.ToScalar();
        _embedding = new Parameter(ones(1, channels, 1, 1));
        _gamma = new Parameter(zeros(1, channels, 1, 1));
        _beta = new Parameter(zeros(1, channels, 1, 1));
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), samples = input.size(0), channels = samples * Channels;
        bool squares = _norm == GctNorm.L2;
        count.Map(values);
        count.Reduce(values, channels);
        if (squares)
        {
            count.Map(channels);
            count.Map(channels);
        }

        count.Combine(channels, channels, Channels);
        count.Map(channels);
        count.Reduce(channels, samples);
        count.Map(samples);
        if (squares) count.Map(samples);
        count.Combine(channels, Channels, samples);
        count.Combine(channels, channels, channels);
        count.Combine(channels, channels, Channels);
        count.Map(channels);
        count.Map(channels);
        return channels;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Of(("embedding", 1), ("gamma", 1), ("beta", 1)) with
    {
        Caveat = _norm == GctNorm.L2 ? "the removed channels' epsilon in the norm over channels is gone" : null,
    };

    /// <inheritdoc/>
    protected internal override void OnChannelsRemoved(int channelsBefore)
    {
        // The norm is a mean over channels: s / n stays as it was where s grows as much as n.
        double share = (double)Channels / channelsBefore;
        using Scalar smaller = (_norm == GctNorm.L2 ? Math.Sqrt(share) : share).ToScalar();
        _embedding.mul_(smaller);
        _gamma.div_(smaller);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => Embed(_norm == GctNorm.L2
        ? input.Squared().sum([2, 3], keepdim: true).Plus(_epsilon).sqrt()
        : input.abs().sum([2, 3], keepdim: true));

    ChannelStatistics IChannelGate.Statistics
        => ChannelStatistics.Mean | (_norm == GctNorm.L2 ? ChannelStatistics.Squares : ChannelStatistics.Magnitudes);

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled)
        => Embed(_norm == GctNorm.L2 ? pooled.Squares.Plus(_epsilon).sqrt() : pooled.Magnitudes);

    private Tensor Embed(Tensor size)
    {
        bool squares = _norm == GctNorm.L2;
        Tensor embedding = size.mul(_embedding);
        Tensor norm = squares
            ? embedding.Squared().mean([1], keepdim: true).Plus(_epsilon).sqrt()
            : embedding.abs().mean([1], keepdim: true).Plus(_epsilon);
        return embedding.mul(_gamma.div(norm)).Plus(_beta).tanh().Plus(Scalars.One);
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        nn.init.ones_(_embedding);
        AttentionWeightsInitializer.Zero(_gamma);
        AttentionWeightsInitializer.Zero(_beta);
    }
}
