namespace TorchSharp.Attention.Onnx;

/// <summary>How large the weights of an output are.</summary>
/// <param name="Largest">The largest magnitude.</param>
/// <param name="LargestPair">
/// The largest magnitude of a sum of two weights of one sign; the single weight where a sign has but one.
/// </param>
internal readonly record struct WeightReach(double Largest, double LargestPair)
{
    /// <summary>Of the weights of one output.</summary>
    public static WeightReach Of(IEnumerable<float> weights)
    {
        double high = 0, nextHigh = 0, low = 0, nextLow = 0;
        foreach (float weight in weights)
        {
            if (weight > high) (high, nextHigh) = (weight, high);
            else nextHigh = Math.Max(nextHigh, weight);
            if (weight < low) (low, nextLow) = (weight, low);
            else nextLow = Math.Min(nextLow, weight);
        }

        return new WeightReach(Math.Max(high, -low), Math.Max(high + nextHigh, -low - nextLow));
    }

    /// <summary>What one scale for both outputs has to hold.</summary>
    public WeightReach With(WeightReach other) => new(Math.Max(Largest, other.Largest), Math.Max(LargestPair, other.LargestPair));
}
