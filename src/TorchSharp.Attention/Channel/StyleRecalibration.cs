// Style-based recalibration, SRM. HyunJae Lee, Hyo-Eun Kim, Hyeonseob Nam: "SRM: A Style-based Recalibration Module for
// Convolutional Neural Networks", 2019, arXiv:1903.10829. The paper divides the squares by H·W; the released code takes the
// unbiased variance, H·W − 1, which a single position does not have.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="StyleRecalibration"/>. Defaults: the released code's.</summary>
[AttentionKind("srm")]
public sealed record StyleRecalibrationOptions : AttentionOptions
{
    /// <summary>The paper's equation: the standard deviation divides by H · W positions.</summary>
    public static StyleRecalibrationOptions Paper { get; } = new() { Unbiased = false };

    /// <summary>The released code: the standard deviation divides by H · W − 1 positions.</summary>
    public static StyleRecalibrationOptions Official { get; } = new();

    /// <summary>Whether the standard deviation divides by H · W − 1 positions instead of H · W. Default true.</summary>
    public bool Unbiased { get; init; } = true;

    /// <summary>Momentum of the norm's running statistics, in (0, 1]. Default 0.1.</summary>
    public double NormMomentum { get; init; } = 0.1;

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        NormCalls.CheckMomentum(NormMomentum);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new StyleRecalibration(channels, this);
}

/// <summary>
/// Style-based recalibration: y = x · σ(norm(w₁ μ + w₂ s)), μ and s mean and standard deviation of a channel over its positions,
/// s = √(Σ (x − μ)² / (H · W − 1) + 1e-5) or over H · W, two weights per channel, batch norm. Gate (N, C, 1, 1). A map of a
/// single position has Σ (x − μ)² = 0. Keys <c>cfc</c> (C, 2) and <c>bn</c>, as the released code.
/// </summary>
/// <remarks>
/// Lee, Kim, Nam: "SRM: A Style-based Recalibration Module for Convolutional Neural Networks", 2019, arXiv:1903.10829.
/// A training batch of one sample has no variance over the batch; the norm then uses the running statistics.
/// <see cref="AttentionInitialization.Paper"/>: as the released code, <c>cfc</c> zero, so that the gate is one half;
/// <see cref="AttentionInitialization.Default"/>: as a layer of two inputs, uniform ±1/√2.
/// </remarks>
public sealed class StyleRecalibration : GateModule, IChannelGate
{
    private static readonly Scalar Epsilon = 1e-5.ToScalar();

    [ComponentName(Name = "cfc")]
    private readonly Parameter _cfc;

    [ComponentName(Name = "bn")]
    private readonly BatchNorm2d _bn;

    private readonly StyleRecalibrationOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public StyleRecalibration(int channels, StyleRecalibrationOptions? options = null)
        : base(channels, options ??= StyleRecalibrationOptions.Official)
    {
        _options = options;
        _cfc = new Parameter(zeros(channels, 2));
        _bn = nn.BatchNorm2d(channels, momentum: options.NormMomentum);
        StartStyle();
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long channels = ChannelSummary.Count(this, count, input);
        count.Map(channels);
        count.Map(channels);
        count.Map(channels);
        count.Combine(channels, channels, Channels);
        count.Combine(channels, channels, Channels);
        count.Combine(channels, channels, channels);
        count.Map(channels);
        return channels;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Of(("cfc", 0)).And(ChannelLayout.Norm("bn"));

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => ChannelSummary.Excite(this, input);

    ChannelStatistics IChannelGate.Statistics => ChannelStatistics.Mean | ChannelStatistics.SquaredDeviations;

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled)
    {
        Tensor mean = pooled.Mean;
        using Scalar share = (1.0 / Math.Max(1, pooled.Positions - (_options.Unbiased ? 1 : 0))).ToScalar();
        Tensor deviation = pooled.SquaredDeviations.mul(share).Plus(Epsilon).sqrt();
        Tensor weights = _cfc.view(1, Channels, 2, 1);
        Tensor style = mean.mul(weights.narrow(2, 0, 1)).Plus(deviation.mul(weights.narrow(2, 1, 1)));
        return _options.Gate.Apply(_bn.CallAnyBatch(style));
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        StartStyle();
    }

    private void StartStyle()
    {
        using IDisposable quiet = no_grad();
        if (Options.Initialization == AttentionInitialization.Paper)
        {
            AttentionWeightsInitializer.Zero(_cfc);
            return;
        }

        using Tensor kernels = _cfc.view(Channels, 1, 2);
        AttentionWeightsInitializer.Fill(kernels, null, Options.Initialization);
    }
}
