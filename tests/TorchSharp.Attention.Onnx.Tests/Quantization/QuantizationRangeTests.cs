namespace TorchSharp.Attention.Onnx.Tests;

public class QuantizationRangeTests
{
    [Theory]
    [InlineData(1, 1.0, 0.0)]
    [InlineData(2, 1e-6, 0.0)]
    [InlineData(3, 300.0, -1000.0)]
    [InlineData(4, 0.1, 5.0)]
    public void A_histogram_counts_as_a_slow_one_whatever_the_order(int seed, double deviation, double mean)
    {
        Random random = new(seed);
        float[] values = [.. QuantizationGraphs.Noise(random, 3001, deviation, mean), 0, -0f];
        ActivationHistogram forwards = Filled(values.Chunk(97)), backwards = Filled(values.Reverse().Chunk(500));
        Assert.Equal(values.Min(), forwards.Min);
        Assert.Equal(values.Max(), forwards.Max);
        Assert.Equal(values.Length, forwards.Count);
        Assert.Equal(forwards.Width, backwards.Width);
        Assert.Equal(forwards.Counts.ToArray(), backwards.Counts.ToArray());

        long[] slow = new long[2 * ActivationHistogram.Side];
        foreach (float value in values) slow[(int)Math.Floor((decimal)value / (decimal)forwards.Width) + ActivationHistogram.Side]++;
        Assert.Equal(slow, forwards.Counts.ToArray());
        // The longer side uses more than half of its bins.
        Assert.InRange(values.Max(Math.Abs), forwards.Width * ActivationHistogram.Side / 2, forwards.Width * ActivationHistogram.Side);
    }

    [Fact]
    public void What_is_no_number_is_refused_wherever_it_stands()
    {
        for (int at = 0; at < 37; at++)
        {
            float[] values = new float[37];
            values[at] = float.NaN;
            values[(at + 5) % 37] = float.PositiveInfinity;
            ActivationHistogram histogram = new(bins: true);
            Assert.False(histogram.Add(values));
            Assert.Equal((0, 0), (histogram.Count, histogram.Infinities));
        }
    }

    [Theory]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void Infinity_is_counted_and_leaves_the_range_alone(float infinity)
    {
        for (int at = 0; at < 37; at++)
        {
            float[] values = [.. Enumerable.Range(0, 37).Select(i => i - 9f)];
            values[at] = infinity;
            ActivationHistogram histogram = Filled([values]), finite = Filled([[.. values.Where(float.IsFinite)]]);
            Assert.Equal((36, 1), (histogram.Count, histogram.Infinities));
            Assert.Equal((finite.Min, finite.Max), (histogram.Min, histogram.Max));
            Assert.Equal(finite.Counts.ToArray(), histogram.Counts.ToArray());
        }

        ActivationHistogram nothing = Filled([[infinity, infinity]]);
        Assert.Equal((0, 2), (nothing.Count, nothing.Infinities));
        Assert.Equal(default, ValueRange.Of(nothing, CalibrationMethod.MinMax, 99.9));
    }

    [Theory]
    [InlineData(99.0)]
    [InlineData(99.9)]
    [InlineData(80.0)]
    public void Percentiles_are_those_of_the_sorted_values(double percentile)
    {
        float[] values = QuantizationGraphs.Noise(new Random(5), 20_000, 2, 1);
        ActivationHistogram histogram = Filled([values]);
        ValueRange range = ValueRange.Of(histogram, CalibrationMethod.Percentile, percentile);
        float[] sorted = [.. values.Order()];
        double outside = (1 - (percentile / 100)) / 2 * values.Length;
        int below = (int)outside, above = values.Length - 1 - below;
        Assert.InRange(range.Low, sorted[below - 1] - histogram.Width, sorted[below + 1] + histogram.Width);
        Assert.InRange(range.High, sorted[above - 1] - histogram.Width, sorted[above + 1] + histogram.Width);
    }

    [Fact]
    public void All_percent_is_from_the_least_to_the_most()
    {
        float[] values = QuantizationGraphs.Noise(new Random(6), 1000);
        ActivationHistogram histogram = Filled([values]);
        Assert.Equal(ValueRange.Of(histogram, CalibrationMethod.MinMax, 0), ValueRange.Of(histogram, CalibrationMethod.Percentile, 100));
    }

    [Fact]
    public void Divergence_is_that_of_a_slow_computation()
    {
        Random random = new(7);
        long[] counts = [.. Enumerable.Range(0, 96).Select(i => random.Next(4) == 0 ? 0L : random.Next(1, 200))];
        const int Low = 10, High = 73, Levels = 16;
        double[] p = [.. counts[Low..(High + 1)].Select(count => (double)count)], q = new double[p.Length];
        for (int i = 0; i < p.Length; i++)
        {
            long[] run = [.. Enumerable.Range(i / 4 * 4, 4).Select(j => counts[Low + j])];
            q[i] = counts[Low + i] == 0 ? 0 : run.Sum() / (double)run.Count(count => count > 0);
        }

        p[0] += counts[..Low].Sum();
        p[^1] += counts[(High + 1)..].Sum();
        double[] Distribution(double[] values) => [.. values.Select(value => (value / values.Sum() * (1 - 1e-4)) + (1e-4 / values.Length))];
        double expected = Distribution(p).Zip(Distribution(q)).Sum(pair => pair.First * Math.Log(pair.First / pair.Second));
        Assert.Equal(expected, EntropyThreshold.Divergence(counts, Low, High, Levels), 1e-9);
    }

    [Fact]
    public void Entropy_cuts_an_outlier_off_and_keeps_the_rest()
    {
        float[] values = [.. QuantizationGraphs.Noise(new Random(8), 100_000), 60, -40];
        ValueRange range = ValueRange.Of(Filled([values]), CalibrationMethod.Entropy, 0);
        Assert.InRange(range.High, 2.5, 15);
        Assert.InRange(range.Low, -15, -2.5);
    }

    [Fact]
    public void Entropy_does_not_mind_the_zeros_that_a_relu_makes()
    {
        float[] values = QuantizationGraphs.Noise(new Random(8), 100_000), rectified = [.. values.Select(value => Math.Max(0, value))];
        ValueRange with = ValueRange.Of(Filled([rectified]), CalibrationMethod.Entropy, 0), without = ValueRange.Of(Filled([[.. rectified.Where(value => value > 0)]]), CalibrationMethod.Entropy, 0);
        Assert.Equal(without.High, with.High);
        Assert.InRange(with.High, 3, 5);
    }

    [Fact]
    public void A_value_that_is_always_zero_has_no_range_and_quantizes_to_zero()
    {
        foreach (CalibrationMethod method in Enum.GetValues<CalibrationMethod>())
        {
            ValueRange range = ValueRange.Of(Filled([new float[100]]), method, 99.99);
            Assert.Equal(default, range);
            AffineParameters parameters = AffineParameters.Asymmetric(range);
            Assert.Equal(0, parameters.Dequantize(parameters.Quantize(0)));
        }
    }

    [Theory]
    [InlineData(0.0, 6.0)]
    [InlineData(-1.3, 2.7)]
    [InlineData(2.0, 3.0)]
    [InlineData(-9.0, -1.0)]
    public void Quantized_numbers_are_half_a_step_off_at_most_and_zero_is_exact(double low, double high)
    {
        AffineParameters parameters = AffineParameters.Asymmetric(new ValueRange(low, high));
        Assert.Equal(0, parameters.Dequantize(parameters.Quantize(0)));
        for (double x = Math.Min(0, low); x <= Math.Max(0, high); x += 0.0037)
        {
            int level = parameters.Quantize((float)x);
            Assert.InRange(level, 0, AffineParameters.Most);
            // Half a step, and half of one more at the ends, since zero takes its place exactly.
            double slack = x - low < parameters.Scale || high - x < parameters.Scale ? 1.001 : 0.501;
            Assert.Equal(x, parameters.Dequantize(level), slack * parameters.Scale);
        }

        Assert.Equal(AffineParameters.Most, parameters.Quantize(1e30f));
        Assert.Equal(0, parameters.Quantize(-1e30f));
    }

    [Fact]
    public void A_gate_is_exact_where_it_is_closed_and_where_it_is_open()
    {
        AffineParameters gate = AffineParameters.Asymmetric(ValueRange.Gate);
        Assert.Equal(0f, gate.Dequantize(gate.Quantize(0f)));
        Assert.Equal(1f, gate.Dequantize(gate.Quantize(1f)));
    }

    [Theory]
    [InlineData(0, true, false)]
    [InlineData(1, true, false)]
    [InlineData(0, false, false)]
    [InlineData(0, true, true)]
    [InlineData(1, false, true)]
    public void Weights_are_half_a_step_off_at_most_in_every_channel(int axis, bool perChannel, bool reduced)
    {
        long[] dims = [6, 5, 3];
        float[] weights = QuantizationGraphs.Noise(new Random(9), 90);
        for (int i = 0; i < 15; i++) weights[i] *= 1e-4f;
        QuantizedWeights quantized = QuantizedWeights.Of(weights, dims, axis, null, 1, perChannel, reduced ? WeightForm.ReducedSignedBytes : WeightForm.Bytes);
        Assert.Equal(perChannel ? dims[axis] : 1, quantized.Scales.Length);
        for (int i = 0; i < weights.Length; i++)
        {
            int channel = !perChannel ? 0 : axis == 0 ? i / 15 : i / 3 % 5;
            Assert.InRange(quantized.Levels[i], -127, 127);
            Assert.Equal(weights[i], quantized.Levels[i] * quantized.Scales[channel], (quantized.Scales[channel] / 2) + 1e-7);
        }
    }

    [Fact]
    public void A_bias_too_large_for_its_channels_steps_makes_them_coarser()
    {
        // 3 in steps of 1e-6 · 1e-8 / 127 would be far beyond 32 bits.
        QuantizedWeights quantized = QuantizedWeights.Of([1e-8f, -5e-9f, 1, 0.5f], [2, 2], 0, [3, -0.25f], 1e-6f, perChannel: true, WeightForm.Bytes);
        Assert.Equal(3, quantized.Bias![0] * (double)quantized.BiasScales[0], 1e-6);
        Assert.Equal(-0.25, quantized.Bias[1] * (double)quantized.BiasScales[1], 1e-6);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_channel_without_weights_keeps_its_bias(bool perChannel)
    {
        QuantizedWeights quantized = QuantizedWeights.Of([0, 0, 0, 0], [2, 2], 0, [0.013f, 0], 0.4f, perChannel, WeightForm.Bytes);
        Assert.Equal(0.013, quantized.Bias![0] * (double)quantized.BiasScales[0], 1e-8);
        Assert.Equal(0, quantized.Bias[1]);
        Assert.All(quantized.Scales, scale => Assert.InRange(scale, 1e-12f, 1));
        Assert.All(quantized.Levels, value => Assert.Equal(0, value));
        QuantizedWeights mixed = QuantizedWeights.Of([0, 0, 1, -0.5f], [2, 2], 0, [0.013f, 0.2f], 0.4f, perChannel: true, WeightForm.Bytes);
        Assert.Equal(0.013, mixed.Bias![0] * (double)mixed.BiasScales[0], 1e-8);
        Assert.Equal(0.2, mixed.Bias[1] * (double)mixed.BiasScales[1], 0.4 / 127);
        Assert.Equal([0, 0, 127, -64], mixed.Levels);
    }

    [Fact]
    public void A_bias_too_large_for_the_steps_of_all_weights_makes_them_coarser()
    {
        QuantizedWeights quantized = QuantizedWeights.Of([0.25f, -0.5f, 1, 0.5f], [2, 2], 0, [300, -0.25f], 1e-6f, perChannel: false, WeightForm.Bytes);
        float scale = Assert.Single(quantized.Scales);
        Assert.Equal(300, quantized.Bias![0] * (double)quantized.BiasScales[0], 1e-4);
        Assert.Equal(-0.25, quantized.Bias[1] * (double)quantized.BiasScales[0], 1e-6);
        foreach ((float weight, int value) in new[] { 0.25f, -0.5f, 1, 0.5f }.Zip(quantized.Levels)) Assert.Equal(weight, value * scale, scale * 0.501);
    }

    private static ActivationHistogram Filled(IEnumerable<float[]> batches)
    {
        ActivationHistogram histogram = new(bins: true);
        foreach (float[] batch in batches) Assert.True(histogram.Add(batch));
        return histogram;
    }
}
