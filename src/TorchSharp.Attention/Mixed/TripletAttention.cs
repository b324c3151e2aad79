// Triplet attention. Diganta Misra, Trikay Nalamada, Ajay Uppili Arasanipalai, Qibin Hou: "Rotate to Attend: Convolutional
// Triplet Attention Module", 2020, arXiv:2010.03045. The released code stacks [max, mean] and normalises with momentum 0.01.
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="TripletAttention"/>. Defaults: the paper's and its released code's.</summary>
[AttentionKind("triplet")]
public sealed record TripletAttentionOptions : AttentionOptions
{
    /// <summary>The paper and its released code: three branches of 7×7.</summary>
    public static TripletAttentionOptions Paper { get; } = new();

    /// <summary>Kernel size of all branches, odd. Default 7.</summary>
    public int KernelSize { get; init; } = 7;

    /// <summary>
    /// Whether the module has the branch over (height, width), in addition to the two that combine channels with an axis. Default
    /// true.
    /// </summary>
    public bool Spatial { get; init; } = true;

    /// <summary>Momentum of the norms' running statistics, in (0, 1]. Default 0.01.</summary>
    public double NormMomentum { get; init; } = 0.01;

    /// <summary>Function of the gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>The settings of a branch. The identity start is left out, because the whole module has it.</summary>
    public SpatialAttentionOptions ToBranch() => SpatialAttentionOptions.Official with
    {
        Initialization = Initialization switch
        {
            AttentionInitialization.Paper => AttentionInitialization.Kaiming,
            AttentionInitialization.Identity => AttentionInitialization.Default,
            _ => Initialization,
        },
        KernelSize = KernelSize,
        NormMomentum = NormMomentum,
        Gate = Gate,
    };

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ToBranch().Validate(channels);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new TripletAttention(channels, this);
}

/// <summary>
/// Triplet attention: y = x · (g_cw + g_hc + g_hw) / 3, each g a <see cref="SpatialAttention"/>, σ(norm(f([max; mean]))), of the
/// map turned so that it pools over another axis: g_cw over height, (N, C, 1, W); g_hc over width, (N, C, H, 1); g_hw over
/// channels, (N, 1, H, W). Without the last, half the sum of two. Gate (N, C, H, W). Keys <c>cw</c>, <c>hc</c>, <c>hw</c>, each
/// <c>.conv.conv</c> and <c>.conv.bn</c>, as the released code.
/// </summary>
/// <remarks>
/// Misra, Nalamada, Arasanipalai, Hou: "Rotate to Attend: Convolutional Triplet Attention Module", 2020, arXiv:2010.03045.
/// Convolutions run along the channels, so the order of channels matters, and the weights do not depend on their number.
/// <see cref="AttentionInitialization.Paper"/>: as the released networks, convolutions Kaiming normal.
/// </remarks>
public sealed class TripletAttention : GateModule, ICombinedGate
{
    private static readonly Scalar Half = 0.5.ToScalar();
    private static readonly Scalar Third = (1.0 / 3).ToScalar();
    private static readonly GateCombination _two = new(CombinationKind.Sum, Strips: StripReads.MeansAndMaxima);
    private static readonly GateCombination _three = new(
        CombinationKind.SumOfThree, Strips: StripReads.MeansAndMaxima, Positions: true);

    [ComponentName(Name = "cw")]
    private readonly SpatialAttention _cw;

    [ComponentName(Name = "hc")]
    private readonly SpatialAttention _hc;

    [ComponentName(Name = "hw")]
    private readonly SpatialAttention? _hw;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine; the weights do not depend on it.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, for example an even kernel.</exception>
    public TripletAttention(int channels, TripletAttentionOptions? options = null)
        : base(channels, options ??= TripletAttentionOptions.Paper)
    {
        _cw = new SpatialAttention(channels, options.ToBranch());
        _hc = new SpatialAttention(channels, options.ToBranch());
        if (options.Spatial) _hw = new SpatialAttention(channels, options.ToBranch());
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        using Tensor columns = input.permute(0, 2, 1, 3), rows = input.permute(0, 3, 2, 1);
        long values = input.numel(), first = _cw.CountEffectiveGate(count, columns), second = _hc.CountEffectiveGate(count, rows);
        foreach (long strip in (ReadOnlySpan<long>)[first, second])
        {
            count.Copy(2 * strip);
            count.Map(strip);
        }

        count.Combine(values, first, second);
        if (_hw is null) return values;
        long third = _hw.CountEffectiveGate(count, input);
        count.Map(third);
        count.Combine(values, values, third);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => GateCombination.Compose(this, input);

    GateCombination ICombinedGate.Combination => _hw is null ? _two : _three;

    /// <summary>Each branch pools another axis, which stands second for it.</summary>
    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
    {
        Scalar share = _hw is null ? Half : Third;
        Tensor rows = cat([pooled.Rows, pooled.RowMaxima], 3).permute(0, 3, 2, 1).contiguous();
        Tensor columns = cat([pooled.Columns, pooled.ColumnMaxima], 2).permute(0, 2, 1, 3).contiguous();
        return new(
            Excite(_hc, rows).mul(share).permute(0, 3, 2, 1),
            Excite(_cw, columns).mul(share).permute(0, 2, 1, 3),
            _hw is null ? null : Excite(_hw, pooled.Positions).mul(share));

        static Tensor Excite(ISpatialGate branch, Tensor maps) => branch.ExcitePositions(maps);
    }
}
