namespace TorchSharp.Attention.Tests;

/// <summary>Streamed statistics against two passes over all values at once.</summary>
public sealed class StatisticsTests
{
    [Fact]
    public void Batches_give_what_two_passes_give()
    {
        Random random = new(1);
        double[][] samples = [.. Enumerable.Range(0, 23).Select(_ => Enumerable.Range(0, 7).Select(unit => unit == 4 ? 0.04 * random.NextDouble() : random.NextDouble()).ToArray())];
        GateStatistics statistics = new(classes: 3);
        int at = 0;
        foreach (int size in (int[])[5, 1, 10, 7])
        {
            using Tensor gate = tensor(samples[at..(at + size)].SelectMany(sample => sample).ToArray(), [size, 7]);
            using Tensor labels = tensor(Enumerable.Range(at, size).Select(i => (long)(i % 2)).ToArray());
            statistics.Add(gate, labels);
            at += size;
        }

        double[] all = [.. samples.SelectMany(sample => sample)];
        double mean = all.Average();
        Assert.Equal((23, 7, 0), (statistics.Samples, statistics.Units, statistics.NotFinite));
        Assert.Equal(mean, statistics.Mean, 1e-12);
        Assert.Equal(all.Average(value => (value - mean) * (value - mean)), statistics.Variance, 1e-12);
        Assert.Equal(all.Count(value => value < 0.05) / 161.0, statistics.ClosedShare, 1e-12);
        Assert.Equal(all.Count(value => value > 0.95) / 161.0, statistics.OpenShare, 1e-12);
        Assert.Equal([4], statistics.Dead);
        Assert.Equal(samples.Average(Hoyer), statistics.Sparsity, 1e-12);
        Assert.Equal(samples.Average(Entropy), statistics.Entropy, 1e-12);
        for (int unit = 0; unit < 7; unit++)
        {
            double own = samples.Average(sample => sample[unit]);
            Assert.Equal(own, statistics.UnitMeans[unit], 1e-12);
            Assert.Equal(samples.Average(sample => (sample[unit] - own) * (sample[unit] - own)), statistics.UnitVariances[unit], 1e-12);
            Assert.Equal(samples.Where((_, i) => i % 2 == 1).Average(sample => sample[unit]), statistics.ClassMeans(1)[unit], 1e-12);
        }

        Assert.Equal(statistics.UnitVariances.Average(), statistics.VarianceOverSamples, 1e-12);
        Assert.Equal(new double[7], statistics.ClassMeans(2));
    }

    [Fact]
    public void Extremes_are_what_their_words_say()
    {
        GateStatistics alike = new(), single = new(), shut = new(), broken = new();
        using DisposeScope scope = NewDisposeScope();
        alike.Add(full([2, 3, 4], 0.5f));
        single.Add(tensor(new float[] { 0, 0, 1, 0 }, [1, 4]));
        shut.Add(zeros(1, 4));
        broken.Add(tensor(new float[] { float.NaN, 1 }, [1, 2]));
        Assert.Equal((1, 0), (Math.Round(alike.Entropy, 12), Math.Round(alike.Sparsity, 12)));
        Assert.Equal((0, 1), (Math.Round(single.Entropy, 12), Math.Round(single.Sparsity, 12)));
        Assert.Equal((0, 1, 4), (shut.Entropy, shut.Sparsity, shut.Dead.Count));
        Assert.Equal((1, 1.0), (broken.NotFinite, broken.Mean));
        GateStatistics classes = new(2);
        float nan = float.NaN;
        classes.Add(tensor(new[] { nan, 1, 1, 1, nan, nan, 1, 0 }, [4, 2]), tensor(new long[] { 0, 0, 1, 1 }));
        Assert.Equal([1.0, 1.0], classes.ClassMeans(0));
        Assert.Equal([1.0, 0.0], classes.ClassMeans(1));
        Assert.Equal((4, 3), (classes.Samples, classes.NotFinite));

        // Of (1), (1, 1) and (1, 0); the third sample holds no number.
        Assert.Equal(1.0 / 3, classes.Sparsity, 1e-12);
        Assert.Equal(2.0 / 3, classes.Entropy, 1e-12);
    }

    [Fact]
    public void Weights_of_pairs_agree_with_loops()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor weights = randn(3, 2, 6, 6, dtype: ScalarType.Float64).softmax(-1);
        PairwiseStatistics statistics = new();
        statistics.Add(weights.narrow(0, 0, 1), (2, 3));
        statistics.Add(weights.narrow(0, 1, 2), (2, 3));
        double[] values = weights.Doubles();
        for (int head = 0; head < 2; head++)
        {
            double entropy = 0, distance = 0, peak = 0;
            for (int n = 0; n < 3; n++)
            {
                for (int q = 0; q < 6; q++)
                {
                    double greatest = 0;
                    for (int k = 0; k < 6; k++)
                    {
                        double w = values[(((((n * 2) + head) * 6) + q) * 6) + k];
                        entropy -= w * Math.Log(w) / Math.Log(6) / 18;
                        distance += w * double.Hypot((q / 3) - (k / 3), (q % 3) - (k % 3)) / 18;
                        greatest = Math.Max(greatest, w);
                    }

                    peak += greatest / 18;
                }
            }

            Assert.Equal(entropy, statistics.Entropy[head], 1e-12);
            Assert.Equal(distance, statistics.Distance![head], 1e-12);
            Assert.Equal(peak, statistics.Peak[head], 1e-12);
        }

        PairwiseStatistics nowhere = new();
        nowhere.Add(weights);
        Assert.Null(nowhere.Distance);
    }

    [Fact]
    public void Bad_input_is_an_error_that_helps()
    {
        using DisposeScope scope = NewDisposeScope();
        GateStatistics statistics = new(2);
        statistics.Add(rand(2, 3));
        Assert.Contains("4 values", Assert.Throws<ArgumentException>(() => statistics.Add(rand(2, 4))).Message, StringComparison.Ordinal);
        Assert.Contains("labels[1] is 2", Assert.Throws<ArgumentException>(() => statistics.Add(rand(2, 3), tensor(new long[] { 0, 2 }))).Message, StringComparison.Ordinal);
        Assert.Contains("(2)", Assert.Throws<ArgumentException>(() => statistics.Add(rand(2, 3), tensor(new long[] { 0 }))).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new GateStatistics().Add(rand(2, 3), tensor(new long[] { 0, 1 })));
        Assert.Throws<ArgumentOutOfRangeException>(() => new GateStatistics(-1));
        Assert.Throws<ArgumentOutOfRangeException>(() => statistics.ClassMeans(2));
        Assert.Throws<ArgumentException>(() => new PairwiseStatistics().Add(rand(2, 1, 4, 4), (2, 3)));
        Assert.Equal(2, statistics.Samples);
    }

    private static double Hoyer(double[] sample) => (Math.Sqrt(7) - (sample.Sum() / Math.Sqrt(sample.Sum(value => value * value)))) / (Math.Sqrt(7) - 1);

    private static double Entropy(double[] sample) => -sample.Sum(value => value / sample.Sum() * Math.Log(value / sample.Sum())) / Math.Log(7);
}
