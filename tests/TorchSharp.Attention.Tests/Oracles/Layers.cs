namespace TorchSharp.Attention.Tests;

/// <summary>The layers that the modules are made of, written out.</summary>
internal static class Layers
{
    /// <summary>A k×k convolution that keeps the map's size; the state holds <c>weight</c> and, where the formula has one, <c>bias</c>.</summary>
    public static DenseMap Convolve(DenseMap x, OracleState state, int outputs, bool bias, int kernel = 1, int dilation = 1)
    {
        double[] weight = state.Get("weight", outputs * x.C * kernel * kernel);
        double[]? shift = bias ? state.Get("bias", outputs) : null;
        int padding = dilation * (kernel / 2);
        return DenseMap.Of(x.N, outputs, x.H, x.W, (n, o, y, column) =>
        {
            double sum = shift?[o] ?? 0;
            for (int c = 0; c < x.C; c++)
                for (int i = 0; i < kernel; i++)
                    for (int j = 0; j < kernel; j++)
                    {
                        int fromY = y + (i * dilation) - padding;
                        int fromX = column + (j * dilation) - padding;
                        bool inside = fromY >= 0 && fromY < x.H && fromX >= 0 && fromX < x.W;
                        if (inside) sum += weight[(((((o * x.C) + c) * kernel) + i) * kernel) + j] * x[n, c, fromY, fromX];
                    }

            return sum;
        });
    }

    /// <summary>
    /// A convolution of rectangular kernels that keeps the map's size, outputs in groups that each see their share of the
    /// channels.
    /// </summary>
    public static DenseMap ConvolveGroups(
        DenseMap x, OracleState state, int outputs, bool bias, int groups, (int Height, int Width) kernel, int dilation = 1)
    {
        int inputs = x.C / groups;
        double[] weight = state.Get("weight", outputs * inputs * kernel.Height * kernel.Width);
        double[]? shift = bias ? state.Get("bias", outputs) : null;
        return DenseMap.Of(x.N, outputs, x.H, x.W, (n, o, y, column) =>
        {
            double sum = shift?[o] ?? 0;
            int first = o / (outputs / groups) * inputs;
            for (int c = 0; c < inputs; c++)
                for (int i = 0; i < kernel.Height; i++)
                    for (int j = 0; j < kernel.Width; j++)
                    {
                        int fromY = y + ((i - (kernel.Height / 2)) * dilation);
                        int fromX = column + ((j - (kernel.Width / 2)) * dilation);
                        if (fromY < 0 || fromY >= x.H || fromX < 0 || fromX >= x.W) continue;
                        double w = weight[(((((o * inputs) + c) * kernel.Height) + i) * kernel.Width) + j];
                        sum += w * x[n, first + c, fromY, fromX];
                    }

            return sum;
        });
    }

    /// <summary>
    /// Group norm: by mean and biased variance of each sample's group of channels, then a scale and a shift a channel.
    /// </summary>
    public static DenseMap NormalizeGroups(DenseMap x, OracleState state, int groups)
    {
        double[] scale = state.Get("weight", x.C);
        double[] shift = state.Get("bias", x.C);
        int share = x.C / groups;
        int size = share * x.H * x.W;
        DenseMap result = x.Copy();
        for (int group = 0; group < x.N * groups; group++)
        {
            Span<double> values = result.Values.AsSpan(group * size, size);
            double mean = 0;
            double variance = 0;
            foreach (double value in values) mean += value / size;
            foreach (double value in values) variance += (value - mean) * (value - mean) / size;
            for (int i = 0; i < size; i++)
            {
                int channel = (group % groups * share) + (i / (x.H * x.W));
                values[i] = ((values[i] - mean) / Math.Sqrt(variance + 1e-5) * scale[channel]) + shift[channel];
            }
        }

        return result;
    }

    /// <summary>
    /// Batch norm. Training: by the batch's mean and biased variance, which update the running statistics (variance unbiased).
    /// A single value per channel has no variance: then, and in evaluation, by the running statistics, unchanged.
    /// </summary>
    public static DenseMap Normalize(DenseMap x, OracleState state, bool training, double momentum = 0.1)
    {
        double[] scale = state.Get("weight", x.C);
        double[] shift = state.Get("bias", x.C);
        double[] runningMean = state.Get("running_mean", x.C);
        double[] runningVariance = state.Get("running_var", x.C);
        double[] mean = (double[])runningMean.Clone();
        double[] variance = (double[])runningVariance.Clone();
        int count = x.N * x.H * x.W;
        if (training && count > 1)
        {
            for (int c = 0; c < x.C; c++)
            {
                mean[c] = 0;
                variance[c] = 0;
                Visit(x, c, value => mean[c] += value / count);
                Visit(x, c, value => variance[c] += (value - mean[c]) * (value - mean[c]) / count);
                runningMean[c] += momentum * (mean[c] - runningMean[c]);
                runningVariance[c] += momentum * ((variance[c] * count / (count - 1)) - runningVariance[c]);
            }

            state.Get("num_batches_tracked", 1)[0]++;
        }

        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column)
            => ((x[n, c, y, column] - mean[c]) / Math.Sqrt(variance[c] + 1e-5) * scale[c]) + shift[c]);
    }

    public static DenseMap MeanOverPositions(DenseMap x) => DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _) =>
    {
        double sum = 0;
        for (int y = 0; y < x.H; y++)
            for (int column = 0; column < x.W; column++)
            {
                sum += x[n, c, y, column];
            }

        return sum / (x.H * x.W);
    });

    public static DenseMap MaxOverPositions(DenseMap x) => DenseMap.Of(x.N, x.C, 1, 1, (n, c, _, _) =>
    {
        double max = double.NegativeInfinity;
        for (int y = 0; y < x.H; y++)
            for (int column = 0; column < x.W; column++)
            {
                max = Math.Max(max, x[n, c, y, column]);
            }

        return max;
    });

    /// <summary>Bilinear with pixel centres at ½: place d of n′ reads (d + ½) · n / n′ − ½, clamped to the map.</summary>
    public static DenseMap Resize(DenseMap x, int height, int width) => DenseMap.Of(x.N, x.C, height, width, (n, c, y, column) =>
    {
        (int top, int bottom, double down) = Between(y, height, x.H);
        (int left, int right, double across) = Between(column, width, x.W);
        return ((1 - down) * (((1 - across) * x[n, c, top, left]) + (across * x[n, c, top, right])))
            + (down * (((1 - across) * x[n, c, bottom, left]) + (across * x[n, c, bottom, right])));
    });

    /// <summary>⌊C / r⌋, or C / r rounded half up to a multiple of the divisor and at least the divisor.</summary>
    public static int ReducedWidth(int channels, int reduction, int? explicitly, int? divisor)
    {
        if (explicitly is int width) return width;
        if (divisor is not int d) return channels / reduction;
        return Math.Max(d, d * (int)Math.Floor(((double)channels / reduction / d) + 0.5));
    }

    private static (int Low, int High, double Share) Between(int place, int places, int length)
    {
        double from = Math.Clamp(((place + 0.5) * length / places) - 0.5, 0, length - 1);
        int low = (int)Math.Floor(from);
        return (low, Math.Min(low + 1, length - 1), from - low);
    }

    private static void Visit(DenseMap x, int channel, Action<double> action)
    {
        for (int n = 0; n < x.N; n++)
            for (int y = 0; y < x.H; y++)
                for (int column = 0; column < x.W; column++)
                {
                    action(x[n, channel, y, column]);
                }
    }
}
