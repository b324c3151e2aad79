namespace TorchSharp.Attention.Onnx;

/// <summary>The part of the number line that eight bits are to cover.</summary>
/// <param name="Low">Its lower end.</param>
/// <param name="High">Its upper end.</param>
internal readonly record struct ValueRange(double Low, double High)
{
    /// <summary>Values beyond do not move a sigmoid by a step of 1/255: σ(8) = 0.99966.</summary>
    public static readonly ValueRange Gate = new(0, 1), GateInput = new(-8, 8), Tanh = new(-1, 1);

    /// <summary>Steps of eight bits, one less than the levels.</summary>
    public const int Steps = 255;

    /// <summary>The range of a histogram by a method.</summary>
    /// <param name="seen">What calibration saw.</param>
    /// <param name="method">The method.</param>
    /// <param name="percentile">Percent of the values that stay inside, for <see cref="CalibrationMethod.Percentile"/>.</param>
    public static ValueRange Of(ActivationHistogram seen, CalibrationMethod method, double percentile) => method switch
    {
        _ when seen.Count == 0 => default,
        CalibrationMethod.MinMax => new ValueRange(seen.Min, seen.Max),
        _ when seen.Width == 0 => default,
        CalibrationMethod.Percentile => Percentile(seen, percentile),
        _ => EntropyThreshold.Range(seen),
    };

    /// <summary>What both have in common; the range itself where they have nothing.</summary>
    public ValueRange Cut(ValueRange to)
    {
        double low = Math.Max(Low, to.Low), high = Math.Min(High, to.High);
        return low <= high ? new ValueRange(low, high) : this;
    }

    private static ValueRange Percentile(ActivationHistogram seen, double percentile)
    {
        double outside = (1 - (percentile / 100)) / 2 * seen.Count;
        return new ValueRange(
            Math.Max(seen.Min, Edge(seen, outside)),
            Math.Min(seen.Max, Edge(seen, seen.Count - outside)));
    }

    /// <summary>The place with that many values below it, values lying evenly in a bin.</summary>
    private static double Edge(ActivationHistogram seen, double below)
    {
        ReadOnlySpan<long> counts = seen.Counts;
        double passed = 0;
        for (int i = 0; i < counts.Length; i++)
        {
            if (counts[i] > 0 && passed + counts[i] >= below)
            {
                return (i - ActivationHistogram.Side + ((below - passed) / counts[i])) * seen.Width;
            }

            passed += counts[i];
        }

        return seen.Max;
    }
}
