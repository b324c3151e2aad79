namespace TorchSharp.Attention;

/// <summary>The mean of each channel over its positions and, where a gate reads one, a second value, in one read of the map.</summary>
internal static unsafe class ChannelPooling
{
    /// <summary>Values a channel: one or two.</summary>
    public static int Results(ChannelReads reads) => reads == ChannelReads.Mean ? 1 : 2;

    /// <summary>Writes (1 or 2, N, C) float32 values. The caller keeps the map alive.</summary>
    public static void Run(in MapView view, ChannelReads reads, float* results)
    {
        MapArguments a = view.Arguments();
        a.First = results;
        a.Second = results + view.ChannelValues;
        a.ResultStride = view.Channels;
        a.Scale = 1f / view.Positions;
        if (reads.HasFlag(ChannelReads.Maximum)) MapKernels.OverPositions<Pooling>(view, a);
        else if (reads.HasFlag(ChannelReads.SquaredDeviations)) Deviations(view, a);
        else if (reads.HasFlag(ChannelReads.Squares)) MapKernels.OverPositions<SquareSums>(view, a);
        else if (reads.HasFlag(ChannelReads.Magnitudes)) MapKernels.OverPositions<Magnitudes>(view, a);
        else MapKernels.OverPositions<Summing>(view, a);
    }

    /// <summary>Mean and Σ(x − mean)², by way of an element of the channel so that nothing cancels.</summary>
    private static void Deviations(in MapView view, MapArguments a)
    {
        long count = view.ChannelValues;
        ScratchLayout layout = new(KernelCheck.Guard);
        Section section = layout.Add(count);
        using Scratch scratch = new(layout);
        float* origin = scratch.At(section);
        for (int n = 0; n < view.Batch; n++)
        {
            for (int c = 0; c < view.Channels; c++) origin[((long)n * view.Channels) + c] = Element(view, n, c);
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

    /// <summary>A channel's value at its first position.</summary>
    private static float Element(in MapView view, int sample, int channel)
    {
        long index = ((long)sample * view.Channels * view.Positions) + (view.Pixels ? channel : (long)channel * view.Positions);
        return view.Half
            ? BitConverter.UInt32BitsToSingle((uint)((ushort*)view.Values)[index] << 16)
            : ((float*)view.Values)[index];
    }
}
