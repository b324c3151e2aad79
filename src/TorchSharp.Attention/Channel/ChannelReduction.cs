namespace TorchSharp.Attention;

/// <summary>The width of the bottleneck that channel attentions squeeze through.</summary>
internal static class ChannelReduction
{
    /// <summary>
    /// Without a divisor: ⌊C / r⌋, as papers write it. With one: C / r rounded to the nearest multiple of the divisor, at least
    /// the divisor, as timm and MobileNets do.
    /// </summary>
    /// <exception cref="ArgumentException">The result would be below 1.</exception>
    public static int Width(int channels, int reduction, int? reducedChannels, int? roundingDivisor)
    {
        if (reducedChannels is int explicitly)
        {
            return explicitly >= 1 ? explicitly : throw new ArgumentOutOfRangeException(
                nameof(SqueezeExcitationOptions.ReducedChannels), explicitly,
                $"ReducedChannels is {explicitly}; it must be at least 1, or null to divide by Reduction.");
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
            $"Reduction is {reduction}, which leaves no channel of {channels}. " +
            $"Use a Reduction of at most {channels}, set ReducedChannels, " +
            "or set RoundingDivisor = 1 (at least one channel).");
    }

    /// <summary>
    /// The bottleneck of a branch's selection: C / r, rounded down or (with a divisor) as
    /// <see cref="MakeDivisible"/> does, at least the minimum.
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
