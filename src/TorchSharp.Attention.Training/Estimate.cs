using MathNet.Numerics.Distributions;

namespace TorchSharp.Attention.Training;

/// <summary>A mean with its confidence interval by Student's t. The interval is null if there is only one value.</summary>
/// <param name="Mean">The mean.</param>
/// <param name="Low">Lower end.</param>
/// <param name="High">Upper end.</param>
public sealed record Estimate(double Mean, double? Low, double? High)
{
    /// <summary>
    /// mean ± t · s / √n, where t is the quantile of Student's distribution with n − 1 degrees of freedom. s is the standard
    /// deviation, at least √<paramref name="leastVariance"/>.
    /// </summary>
    internal static Estimate Of(IReadOnlyList<double> values, double confidence, double leastVariance = 0)
    {
        (double mean, double error) = MeanAndError(values, leastVariance);
        if (values.Count < 2) return new Estimate(mean, null, null);
        double reach = error * StudentT.InvCDF(0, 1, values.Count - 1, (1 + confidence) / 2);
        return new Estimate(mean, mean - reach, mean + reach);
    }

    /// <summary>
    /// Two-sided p value of the paired t-test: the mean of the differences is zero. Null where the differences hold no variance,
    /// which is so for one difference and for equal ones: equal differences say nothing of how far a further seed would lie.
    /// Differences that are all zero have p = 1.
    /// </summary>
    /// <param name="differences">One difference per seed.</param>
    /// <param name="leastVariance">
    /// The variance that rounding alone brings into a difference. The estimated variance counts as at least this.
    /// </param>
    /// <param name="tolerance">
    /// Differences that lie within this distance of each other are equal: floating-point rounding makes 0.83 − 0.80 and
    /// 0.53 − 0.50 differ in the last digits.
    /// </param>
    internal static double? PairedTest(IReadOnlyList<double> differences, double leastVariance = 0, double tolerance = 0)
    {
        if (differences.Count < 2) return null;
        if (differences.All(difference => Math.Abs(difference) <= tolerance)) return 1;
        if (differences.Max() - differences.Min() <= tolerance) return null;
        (double mean, double error) = MeanAndError(differences, leastVariance);
        return Math.Min(1, 2 * StudentT.CDF(0, 1, differences.Count - 1, -Math.Abs(mean / error)));
    }

    /// <summary>
    /// Holm's step-down adjustment: the k-th smallest p value times m − k + 1, never falling, at most 1. m is the number of
    /// comparisons. A comparison without a p value counts too, because the data decide which comparisons have none.
    /// </summary>
    /// <param name="pValues">The p values; null where a comparison has none.</param>
    /// <param name="comparisons">How many comparisons there are, m.</param>
    internal static double?[] Holm(IReadOnlyList<double?> pValues, int comparisons)
    {
        double?[] adjusted = new double?[pValues.Count];
        int[] order = [.. Enumerable.Range(0, pValues.Count).Where(i => pValues[i] is not null).OrderBy(i => pValues[i])];
        double largest = 0;
        for (int rank = 0; rank < order.Length; rank++)
        {
            largest = Math.Max(largest, Math.Min(1, (comparisons - rank) * pValues[order[rank]]!.Value));
            adjusted[order[rank]] = largest;
        }

        return adjusted;
    }

    private static (double Mean, double Error) MeanAndError(IReadOnlyList<double> values, double leastVariance)
    {
        double mean = values.Average();
        double variance = values.Sum(value => (value - mean) * (value - mean)) / Math.Max(1, values.Count - 1);
        return (mean, Math.Sqrt(Math.Max(variance, leastVariance) / values.Count));
    }
}
