using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A gate whose factors meet in every element, g = mix(f, s) or 1 + mix(f, s), and what its factors are made of. Without strips f
/// is of the channel, (N, C, 1, 1), and s of the position, (N, 1, H, W). With strips f is of the row, (N, C, H, 1), s of the
/// column, (N, C, 1, W), and t of the position.
/// </summary>
internal sealed record GateCombination(
    CombinationKind Kind,
    ChannelStatistics Channels = ChannelStatistics.Nothing,
    StripReads Strips = StripReads.Nothing,
    bool Positions = false,
    bool PlusOne = false)
{
    private static readonly Scalar _half = 0.5.ToScalar();
    private static readonly Scalar _zero = 0.0.ToScalar();

    public bool ReadsAnything => Channels != ChannelStatistics.Nothing || Strips != StripReads.Nothing || Positions;

    public bool HasStrips => Strips != StripReads.Nothing;

    /// <summary>The gate by libtorch's operations.</summary>
    public Tensor Compose(Tensor input, CombinationFactors factors)
    {
        (Tensor first, Tensor second, Tensor? third) = factors;
        Tensor gate = Kind switch
        {
            CombinationKind.Product => first.mul(second),
            CombinationKind.Sum => first.Plus(second),
            CombinationKind.SumOfThree => first.Plus(second).Plus(third!),
            CombinationKind.SigmoidOfSum => first.Plus(second).sigmoid(),
            CombinationKind.SigmoidOfProduct => first.mul(second).sigmoid(),
            CombinationKind.Larger => where(input.ge(_zero), first.maximum(second), first.minimum(second)),
            _ => input.sub(first).Squared().mul(second).Plus(_half).sigmoid(),
        };
        return PlusOne ? gate.Plus(Scalars.One) : gate;
    }

    /// <summary>The gate of a map from end to end by libtorch's operations.</summary>
    public static Tensor Compose(ICombinedGate gate, Tensor input)
        => gate.Combination.Compose(input, gate.ComputeFactors(new PooledMap(input, gate.Combination)));
}
