using MathNet.Numerics.Distributions;

namespace TorchSharp.Attention.Training;

/// <summary>A mean with its confidence interval by Student's t; the interval is null where one value alone is known.</summary>
/// <param name="Mean">The mean.</param>
/// <param name="Low">Lower end.</param>
/// <param name="High">Upper end.</param>
public sealed record Estimate(double Mean, double? Low, double? High)
{
    /// <summary>mean ± t · s / √n, t the quantile of Student's distribution with n − 1 degrees of freedom.</summary>
    internal static Estimate Of(IReadOnlyList<double> values, double confidence)
    {
        (double mean, double error) = MeanAndError(values);
        if (values.Count < 2) return new Estimate(mean, null, null);
        double reach = error * StudentT.InvCDF(0, 1, values.Count - 1, (1 + confidence) / 2);
        return new Estimate(mean, mean - reach, mean + reach);
    }

    /// <summary>Two-sided p of the mean of differences being zero; null below two. Equal differences leave no doubt either way.</summary>
    internal static double? PairedTest(IReadOnlyList<double> differences)
    {
        if (differences.Count < 2) return null;
        (double mean, double error) = MeanAndError(differences);
        if (error == 0) return mean == 0 ? 1 : 0;
        return Math.Min(1, 2 * StudentT.CDF(0, 1, differences.Count - 1, -Math.Abs(mean / error)));
    }

    /// <summary>Holm's step-down adjustment: the k-th smallest of m times m − k + 1, never falling, at most 1.</summary>
    internal static double?[] Holm(IReadOnlyList<double?> pValues)
    {
        double?[] adjusted = new double?[pValues.Count];
        int[] order = [.. Enumerable.Range(0, pValues.Count).Where(i => pValues[i] is not null).OrderBy(i => pValues[i])];
        double largest = 0;
        for (int rank = 0; rank < order.Length; rank++)
        {
            largest = Math.Max(largest, Math.Min(1, (order.Length - rank) * pValues[order[rank]]!.Value));
            adjusted[order[rank]] = largest;
        }

        return adjusted;
    }

    private static (double Mean, double Error) MeanAndError(IReadOnlyList<double> values)
    {
        double mean = values.Average();
        double variance = values.Sum(value => (value - mean) * (value - mean)) / Math.Max(1, values.Count - 1);
        return (mean, Math.Sqrt(variance / values.Count));
    }
}
