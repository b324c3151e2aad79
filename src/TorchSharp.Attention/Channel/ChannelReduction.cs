namespace TorchSharp.Attention;

/// <summary>The width of the bottleneck that channel attentions squeeze through.</summary>
internal static class ChannelReduction
{
    /// <summary>
    /// Without a divisor: ⌊C / r⌋, as papers write it. With one: C / r rounded to the nearest multiple of the divisor, at least the
    /// divisor, as timm and MobileNets do.
    /// </summary>
    /// <exception cref="ArgumentException">The result would be below 1.</exception>
    public static int Width(int channels, int reduction, int? reducedChannels, int? roundingDivisor)
    {
        if (reducedChannels is int explicitly)
        {
            return explicitly >= 1 ? explicitly : throw new ArgumentOutOfRangeException(
                nameof(SqueezeExcitationOptions.ReducedChannels), explicitly, $"ReducedChannels is {explicitly}; it must be at least 1, or null to divide by Reduction.");
        }

        Check.Positive(reduction, nameof(SqueezeExcitationOptions.Reduction));
        if (roundingDivisor is int divisor)
        {
            Check.Positive(divisor, nameof(SqueezeExcitationOptions.RoundingDivisor));
            int rounded = (int)(((double)channels / reduction) + (divisor / 2.0)) / divisor * divisor;
            return Math.Max(divisor, rounded);
        }

        int width = channels / reduction;
        return width >= 1 ? width : throw new ArgumentOutOfRangeException(
            nameof(SqueezeExcitationOptions.Reduction), reduction,
            $"Reduction is {reduction}, which leaves no channel of {channels}. Use a Reduction of at most {channels}, set ReducedChannels, " +
            "or set RoundingDivisor = 1 (at least one channel).");
    }

    /// <summary>
    /// The bottleneck of a branch's selection: C / r, rounded down or (with a divisor) as <see cref="MakeDivisible"/> does, at least the
    /// minimum.
    /// </summary>
    /// <exception cref="ArgumentException">A number is below 1.</exception>
    public static int WidthOfSelection(int channels, int reduction, int? reducedChannels, int minimum, int? roundingDivisor)
    {
        if (reducedChannels is not null) return Width(channels, reduction, reducedChannels, null);
        Check.Positive(reduction, nameof(SelectiveKernelOptions.Reduction));
        Check.Positive(minimum, nameof(SelectiveKernelOptions.MinimumReducedChannels));
        if (roundingDivisor is not int divisor) return Math.Max(minimum, channels / reduction);
        Check.Positive(divisor, nameof(SelectiveKernelOptions.RoundingDivisor));
        return Math.Max(minimum, MakeDivisible((double)channels / reduction, divisor));
    }

    /// <summary>The rounding of torchvision's MobileNets: to the divisor, but never more than 10 % down.</summary>
    public static int MakeDivisible(double value, int divisor)
    {
        int rounded = Math.Max(divisor, (int)(value + (divisor / 2.0)) / divisor * divisor);
        return rounded < 0.9 * value ? rounded + divisor : rounded;
    }
}

/// <summary>The function that squashes a gate's logits.</summary>
public enum GateFunction
{
    /// <summary>1 / (1 + e^−x).</summary>
    Sigmoid,

    /// <summary>min(max(x + 3, 0), 6) / 6: no exponential, for phones (Howard et al., 2019, arXiv:1905.02244).</summary>
    HardSigmoid,
}

/// <summary>The activation between the two layers of a channel attention.</summary>
public enum GateActivation
{
    /// <summary>max(x, 0).</summary>
    ReLU,

    /// <summary>min(max(x, 0), 6).</summary>
    ReLU6,

    /// <summary>x · sigmoid(x).</summary>
    SiLU,

    /// <summary>x · min(max(x + 3, 0), 6) / 6.</summary>
    HardSwish,

    /// <summary>x · Φ(x).</summary>
    GELU,
}

internal static class GateFunctions
{
    public static torch.Tensor Apply(this GateFunction function, torch.Tensor logits) => function switch
    {
        GateFunction.HardSigmoid => torch.nn.functional.hardsigmoid(logits),
        _ => logits.sigmoid(),
    };

    public static torch.Tensor Apply(this GateActivation activation, torch.Tensor x) => activation switch
    {
        GateActivation.ReLU6 => torch.nn.functional.relu6(x),
        GateActivation.SiLU => torch.nn.functional.silu(x),
        GateActivation.HardSwish => torch.nn.functional.hardswish(x),
        GateActivation.GELU => torch.nn.functional.gelu(x),
        _ => torch.nn.functional.relu(x),
    };
}
