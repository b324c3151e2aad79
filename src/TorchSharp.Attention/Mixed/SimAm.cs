// SimAM. Lingxiao Yang, Ru-Yuan Zhang, Lida Li, Xiaohua Xie: "SimAM: A Simple, Parameter-Free Attention Module for Convolutional
// Neural Networks", ICML 2021 (PMLR 139; not on arXiv). The paper's equation divides by H·W; its listing and the released code by
// H·W − 1, which is zero for a single position. This is the latter.
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="SimAm"/>. Defaults: the paper's.</summary>
[AttentionKind("simam")]
public sealed record SimAmOptions : AttentionOptions
{
    /// <summary>The paper's listing and its released code: lambda 1e-4, the variance over H · W − 1 positions.</summary>
    public static SimAmOptions Paper { get; } = new();

    /// <summary>Lambda, above 0: added to the variance, so that a flat map is not divided by zero. Default 1e-4.</summary>
    public double Lambda { get; init; } = 1e-4;

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Positive(Lambda);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new SimAm(channels, this);
}

/// <summary>
/// SimAM: y = x · σ((x − μ)² / (4 (v + λ)) + ½), μ the mean of a channel over its positions and v = Σ (x − μ)² / (H · W − 1). The
/// more a value differs from the mean of its channel, the larger its gate. No parameters. Gate (N, C, H, W), at least σ(½) =
/// 0.62. A map of a single position has v = 0 and the gate σ(½).
/// </summary>
/// <remarks>
/// Yang, Zhang, Li, Xie: "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", 2021, ICML (PMLR
/// 139; no arXiv id). There is nothing to initialise; <see cref="AttentionInitialization.Identity"/> adds its <c>alpha</c>.
/// </remarks>
public sealed class SimAm : GateModule, ICombinedGate
{
    private static readonly Scalar Half = 0.5.ToScalar();
    private static readonly GateCombination _mix = new(
        CombinationKind.Energy, ChannelStatistics.Mean | ChannelStatistics.SquaredDeviations);

    private readonly Scalar _fourLambda;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine; the arithmetic does not depend on it.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public SimAm(int channels, SimAmOptions? options = null)
        : base(channels, options ??= SimAmOptions.Paper)
    {
        _fourLambda = (4 * options.Lambda).ToScalar();
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), channels = input.size(0) * Channels;
        count.Reduce(values, channels);
        count.Combine(values, values, channels);
        count.Map(values);
        count.Reduce(values, channels);
        for (int i = 0; i < 3; i++) count.Map(channels);
        count.Combine(values, values, channels);
        count.Map(values);
        count.Map(values);
        return values;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Of();

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        Tensor squares = input.sub(input.mean([2, 3], keepdim: true)).Squared();
        return squares.mul(Precision(squares.sum([2, 3], keepdim: true), input.size(2) * input.size(3))).Plus(Half).sigmoid();
    }

    GateCombination ICombinedGate.Combination => _mix;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
        => new(pooled.Channels.Mean, Precision(pooled.Channels.SquaredDeviations, pooled.Channels.Positions));

    /// <summary>1 / (4 (v + λ)).</summary>
    private Tensor Precision(Tensor squares, long positions)
    {
        using Scalar share = (4.0 / Math.Max(1, positions - 1)).ToScalar();
        return squares.mul(share).Plus(_fourLambda).reciprocal();
    }
}
