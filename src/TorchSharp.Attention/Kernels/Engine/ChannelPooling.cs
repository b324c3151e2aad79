namespace TorchSharp.Attention.Kernels;

/// <summary>
/// The mean of each channel over its positions and, where a gate reads one, a second value, in one read of the map.
/// </summary>
internal static unsafe class ChannelPooling
{
    /// <summary>Values a channel: one or two.</summary>
    public static int Results(ChannelStatistics reads) => reads == ChannelStatistics.Mean ? 1 : 2;

    /// <summary>Writes (1 or 2, N, C) float32 values. The caller keeps the map alive.</summary>
    public static void Run(in MapView view, ChannelStatistics reads, float* results)
    {
        MapArguments a = view.Arguments();
        a.First = results;
        a.Second = results + view.ChannelValues;
        a.ResultStride = view.Channels;
        a.Scale = 1f / view.Positions;
        if (reads.HasFlag(ChannelStatistics.Maximum)) MapKernels.OverPositions<Pooling>(view, a);
        else if (reads.HasFlag(ChannelStatistics.SquaredDeviations)) Deviations(view, a);
        else if (reads.HasFlag(ChannelStatistics.Squares)) MapKernels.OverPositions<SquareSums>(view, a);
        else if (reads.HasFlag(ChannelStatistics.Magnitudes)) MapKernels.OverPositions<Magnitudes>(view, a);
        else MapKernels.OverPositions<Summing>(view, a);
    }

    /// <summary>Mean and Σ(x − mean)², by way of the median of five values of the channel, so that little cancels.</summary>
    private static void Deviations(in MapView view, MapArguments a)
    {
        long count = view.ChannelValues;
        ScratchLayout layout = new(KernelCheck.Guard);
        Section section = layout.Add(count);
        using Scratch scratch = new(layout);
        float* origin = scratch.At(section);
        for (int n = 0; n < view.Batch; n++)
        {
            for (int c = 0; c < view.Channels; c++) origin[((long)n * view.Channels) + c] = Middle(view, n, c);
        }

        a.ChannelShift = origin;
        MapKernels.OverPositions<Moments>(view, a);
        for (long i = 0; i < count; i++)
        {
            float shifted = a.First[i];
            a.First[i] = origin[i] + shifted;
            a.Second[i] = Math.Max(0, a.Second[i] - (shifted * shifted * view.Positions));
        }
    }

    /// <summary>
    /// The median of five values of a channel, which lie apart. Sums around it cancel little: a single value may be an outlier,
    /// while the median of all values is at most one standard deviation from their mean, and that of five estimates it.
    /// </summary>
    private static float Middle(in MapView view, int sample, int channel)
    {
        float a = At(view, sample, channel, 1), b = At(view, sample, channel, 3), c = At(view, sample, channel, 5),
            d = At(view, sample, channel, 7), e = At(view, sample, channel, 9);

        // Neither the smallest nor the largest of four is the median of five; what is left are three.
        float low = Math.Max(Math.Min(a, b), Math.Min(c, d)), high = Math.Min(Math.Max(a, b), Math.Max(c, d));
        return Math.Max(Math.Min(low, high), Math.Min(Math.Max(low, high), e));

        static float At(in MapView view, int sample, int channel, int eleventh)
            => Element(view, sample, channel, (long)view.Positions * eleventh / 11);
    }

    private static float Element(in MapView view, int sample, int channel, long position)
    {
        long start = (long)sample * view.Channels * view.Positions;
        long index = start
            + (view.IsChannelsLast ? (position * view.Channels) + channel : ((long)channel * view.Positions) + position);
        return view.IsBFloat16
            ? BitConverter.UInt32BitsToSingle((uint)((ushort*)view.Values)[index] << 16)
            : ((float*)view.Values)[index];
    }
}
