namespace TorchSharp.Attention.Visualization;

/// <summary>The values of the first and of the last colour of a map.</summary>
/// <param name="Minimum">Value of the first colour.</param>
/// <param name="Maximum">Value of the last colour.</param>
internal readonly record struct ValueScale(double Minimum, double Maximum)
{
    /// <summary>Values that differ by less than this share of the largest of them differ by float32 rounding alone.</summary>
    private const double Rounding = 1e-6;

    /// <summary>
    /// The scale from the smallest to the largest value, unless an end is given. Equal values have no such scale, and the first
    /// colour would make an open gate look shut. Their scale reaches from 0 to 1, or from 0 to the value where it lies outside.
    /// </summary>
    public static ValueScale Of(IReadOnlyCollection<float> values, double? minimum, double? maximum)
    {
        double low = values.Min(), high = values.Max();
        bool equal = high - low <= Rounding * Math.Max(Math.Abs(low), Math.Abs(high));
        if (equal) (low, high) = (Math.Min(low, 0), high is >= 0 and <= 1 ? 1 : Math.Max(high, 0));
        return new ValueScale(minimum ?? low, maximum ?? high);
    }

    /// <summary>
    /// The place of a value on the scale, 0 at the first colour and 1 at the last one. NaN stays NaN. On a scale without
    /// length, equal values are in the middle.
    /// </summary>
    public double Place(double value)
    {
        double range = Maximum - Minimum;
        if (range > 0 || double.IsNaN(value)) return (value - Minimum) / range;
        return value < Minimum ? 0 : value > Minimum ? 1 : 0.5;
    }
}
