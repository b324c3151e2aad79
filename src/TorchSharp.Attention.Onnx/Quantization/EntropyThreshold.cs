namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Cuts |x| where 256 levels tell most about the distribution. For each cut: p is the histogram inside with what lies outside
/// added to its ends; q is the histogram inside, each run of bins that one level covers replaced by the run's mean over the bins
/// that hold anything. The cut with the smallest Σ p log(p / q) wins. Exact zeros, often half of what a ReLU hands on, are left
/// out: every range holds them exactly, and as a peak among their neighbours they would make coarse steps look bad.
/// </summary>
internal static class EntropyThreshold
{
    private const int Candidates = 128;

    /// <summary>
    /// Bins that p fills and q leaves empty would make the divergence infinite; this much is moved there instead.
    /// </summary>
    private const double Smoothing = 1e-4;

    public static ValueRange Range(ActivationHistogram seen)
    {
        int first = Math.Clamp((int)Math.Floor(seen.Min / seen.Width) + ActivationHistogram.Side, 0, seen.Counts.Length - 1);
        int last = Math.Clamp((int)Math.Floor(seen.Max / seen.Width) + ActivationHistogram.Side, 0, seen.Counts.Length - 1);
        int reach = Math.Max(ActivationHistogram.Side - first, last + 1 - ActivationHistogram.Side);
        double best = double.PositiveInfinity;
        ValueRange range = new(seen.Min, seen.Max);
        long[] counts = seen.Counts.ToArray();
        counts[ActivationHistogram.Side] -= seen.Zeros;

        // From the whole inwards, so that of equals the widest wins; a level should not be finer than a bin.
        for (int candidate = Candidates; candidate > 0; candidate--)
        {
            int bins = (int)Math.Ceiling((double)reach * candidate / Candidates);
            int low = Math.Max(first, ActivationHistogram.Side - bins),
                high = Math.Min(last, ActivationHistogram.Side + bins - 1);
            if (high - low + 1 < ValueRange.Steps + 1) break;
            double divergence = Divergence(counts, low, high, ValueRange.Steps + 1);
            if (divergence < best)
            {
                best = divergence;
                range = new ValueRange(
                    Math.Max(seen.Min, (low - ActivationHistogram.Side) * seen.Width),
                    Math.Min(seen.Max, (high + 1 - ActivationHistogram.Side) * seen.Width));
            }
        }

        return range;
    }

    /// <summary>Divergence of the histogram, cut to bins low to high, from its form with so many levels.</summary>
    internal static double Divergence(ReadOnlySpan<long> counts, int low, int high, int levels)
    {
        int bins = high - low + 1;
        double[] p = new double[bins], q = new double[bins];
        for (int i = 0; i < bins; i++) p[i] = counts[low + i];
        for (int level = 0; level < levels; level++)
        {
            int from = (int)((long)level * bins / levels), to = (int)((long)(level + 1) * bins / levels);
            long sum = 0;
            int filled = 0;
            for (int i = from; i < to; i++)
            {
                sum += counts[low + i];
                if (counts[low + i] > 0) filled++;
            }

            for (int i = from; i < to; i++) q[i] = counts[low + i] > 0 ? (double)sum / filled : 0;
        }

        for (int i = 0; i < low; i++) p[0] += counts[i];
        for (int i = high + 1; i < counts.Length; i++) p[^1] += counts[i];
        Smooth(p);
        Smooth(q);
        double divergence = 0;
        for (int i = 0; i < bins; i++)
        {
            if (p[i] > 0) divergence += p[i] * Math.Log(p[i] / q[i]);
        }

        return divergence;
    }

    /// <summary>Makes a distribution of counts in which no bin is empty.</summary>
    private static void Smooth(double[] values)
    {
        double sum = values.Sum();
        if (sum == 0)
        {
            Array.Fill(values, 1.0 / values.Length);
            return;
        }

        double each = Smoothing / values.Length;
        for (int i = 0; i < values.Length; i++) values[i] = (values[i] / sum * (1 - Smoothing)) + each;
    }
}
