namespace TorchSharp.Attention.Tests;

/// <summary>The kernels stay within their buffers, which begin or end at pages that must not be touched.</summary>
public sealed class KernelBoundsTests
{
    [Fact]
    public unsafe void Nothing_beyond_a_map_is_read_or_written()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("Guard pages are set up by Linux's mmap.");
        foreach ((int batch, int channels, int positions) in (ReadOnlySpan<(int, int, int)>)[(1, 1, 2), (2, 3, 49), (1, 37, 21), (3, 16, 16), (2, 5, 196), (1, 70, 3)])
        {
            foreach (bool pixels in (bool[])[false, true])
            {
                foreach (bool half in (bool[])[false, true])
                {
                    foreach (bool atEnd in (bool[])[false, true]) Guarded(batch, channels, positions, pixels, half, atEnd);
                }
            }
        }
    }

    /// <summary>Runs every kernel on buffers that end, or begin, where the next page may not be touched.</summary>
    private static unsafe void Guarded(int batch, int channels, int positions, bool pixels, bool half, bool atEnd)
    {
        using GuardedMemory memory = new(atEnd);
        int bytes = batch * channels * positions * (half ? 2 : 4);
        MapView view = new(memory.Take(bytes), batch, channels, positions, pixels, half);
        float* Channels() => (float*)memory.Take(batch * channels * 4);
        float* Positions() => (float*)memory.Take(batch * positions * 4);
        MapArguments a = view.Arguments();
        a.Scale = 1;
        a.GradY = memory.Take(bytes);
        a.Residual = memory.Take(bytes);
        a.Y = memory.Take(bytes);
        a.End = memory.Take(bytes);
        a.GradEnd = memory.Take(bytes);
        a.ChannelGate = Channels();
        a.ChannelMax = Channels();
        a.ChannelShift = Channels();
        a.ChannelSlope = Channels();
        a.ChannelPeak = Channels();
        a.PositionGate = Positions();
        a.PositionMax = Positions();
        a.PositionShift = Positions();
        a.PositionPeak = Positions();
        a.First = Channels();
        a.Second = Channels();
        a.ResultStride = channels;
        MapKernels.OverPositions<Summing>(view, a);
        MapKernels.OverPositions<Pooling>(view, a);
        MapKernels.OverPositions<Moments>(view, a);
        MapKernels.OverPositions<SquareSums>(view, a);
        MapKernels.OverPositions<Magnitudes>(view, a);
        MapKernels.OverPositions<ChannelDot>(view, a);
        MapKernels.OverPositions<ChannelGradient>(view, a);
        MapKernels.OverPositions<GatedChannelGradient>(view, a);
        MapKernels.OverPositions<ThroughAddRelu<ChannelDot>>(view, a);
        MapKernels.OverPositions<ThroughAddRelu<ChannelGradient>>(view, a);
        a.First = Positions();
        a.Second = Positions();
        a.ResultStride = positions;
        MapKernels.OverChannels<Pooling>(view, a);
        MapKernels.OverChannels<GatedPooling>(view, a);
        MapKernels.OverChannels<PositionGradient>(view, a);
        MapKernels.OverChannels<ThroughAddRelu<PositionGradient>>(view, a);
        MapKernels.Write<ApplyChannel>(view, a);
        MapKernels.Write<ApplyBoth>(view, a);
        MapKernels.Write<AddRectified<ApplyChannel>>(view, a);
        MapKernels.Write<AddRectified<ApplyBoth>>(view, a);
        MapKernels.Write<InputGradient>(view, a);
        MapKernels.Write<PooledInputGradient<ChannelPeaks>>(view, a);
        MapKernels.Write<PooledInputGradient<ChannelMoments>>(view, a);
        MapKernels.Write<GatedInputGradient<ChannelMeans>>(view, a);
        MapKernels.Write<GatedInputGradient<ChannelPeaks>>(view, a);
        MapKernels.Write<GatedInputGradient<ChannelMoments>>(view, a);
        MapKernels.Write<PooledInputGradient<ChannelMagnitudes>>(view, a);
    }

    [Fact]
    public void Nothing_beyond_a_combined_map_or_its_strips_is_read_or_written()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("Guard pages are set up by Linux's mmap.");
        foreach ((int batch, int channels, int height, int width) in (ReadOnlySpan<(int, int, int, int)>)[(1, 1, 1, 2), (2, 3, 7, 7), (1, 37, 3, 7), (3, 16, 1, 16), (2, 5, 14, 13), (1, 70, 3, 1)])
        {
            foreach (bool pixels in (bool[])[false, true])
            {
                foreach (bool half in (bool[])[false, true])
                {
                    foreach (bool atEnd in (bool[])[false, true])
                    {
                        foreach (CombinationKind kind in Enum.GetValues<CombinationKind>())
                        {
                            if (kind != CombinationKind.SumOfThree) GuardedMix(kind, batch, channels, height, width, pixels, half, atEnd);
                            if (kind != CombinationKind.Energy) GuardedStrips(kind, batch, channels, height, width, pixels, half, atEnd);
                        }
                    }
                }
            }
        }
    }

    private static unsafe MapArguments Mixed(GuardedMemory memory, int batch, int channels, int height, int width, bool pixels, bool half, out MapView view)
    {
        int bytes = batch * channels * height * width * (half ? 2 : 4);
        view = new MapView(memory.Take(bytes), batch, channels, height * width, pixels, half);
        MapArguments a = view.Arguments();
        (a.Channels, a.Height, a.Width, a.Scale, a.ColumnScale, a.MixScale) = (channels, height, width, 1, 1, 1);
        a.GradY = memory.Take(bytes);
        a.Residual = memory.Take(bytes);
        a.Y = memory.Take(bytes);
        return a;
    }

    /// <summary>Every kernel of a mix of channels' and positions' factors.</summary>
    private static unsafe void GuardedMix(CombinationKind kind, int batch, int channels, int height, int width, bool pixels, bool half, bool atEnd)
    {
        using GuardedMemory memory = new(atEnd);
        MapArguments a = Mixed(memory, batch, channels, height, width, pixels, half, out MapView view);
        float* Channels() => (float*)memory.Take(batch * channels * 4);
        float* Positions() => (float*)memory.Take(batch * height * width * 4);
        a.FirstFactor = Channels();
        a.SecondFactor = kind == CombinationKind.Energy ? Channels() : Positions();
        a.ChannelMax = Channels();
        a.ChannelShift = Channels();
        a.ChannelSlope = Channels();
        a.ChannelPeak = Channels();
        a.PositionMax = Positions();
        a.PositionShift = Positions();
        a.PositionPeak = Positions();
        a.First = Channels();
        a.Second = Channels();
        a.ResultStride = channels;
        CombinationKernels kernels = CombinationKernels.For(kind);
        kernels.Apply(view, a, strips: false, endsBlock: false);
        kernels.Apply(view, a, strips: false, endsBlock: true);
        kernels.Totals(view, a, strips: false);
        if (kind == CombinationKind.Energy) kernels.Factors(view, a, strips: false);
        else kernels.First(view, a);
        foreach (ChannelStatistics reads in (ChannelStatistics[])[ChannelStatistics.Nothing, ChannelStatistics.Mean, ChannelStatistics.Mean | ChannelStatistics.Maximum, ChannelStatistics.Mean | ChannelStatistics.SquaredDeviations])
        {
            kernels.Input(view, a, new GateCombination(kind, reads));
        }

        if (kind == CombinationKind.Energy) return;
        a.First = Positions();
        a.Second = Positions();
        a.ResultStride = height * width;
        kernels.Second(view, a);
    }

    /// <summary>Every kernel of a mix of rows' and columns' factors, with a third of positions where the mix has one.</summary>
    private static unsafe void GuardedStrips(CombinationKind kind, int batch, int channels, int height, int width, bool pixels, bool half, bool atEnd)
    {
        using GuardedMemory memory = new(atEnd);
        MapArguments a = Mixed(memory, batch, channels, height, width, pixels, half, out MapView view);
        float* Strips() => (float*)memory.Take(batch * channels * (height + width) * 4);
        float* Positions() => (float*)memory.Take(batch * height * width * 4);
        a.FirstFactor = a.SecondFactor = Strips();
        a.ThirdFactor = Positions();
        a.ThirdMax = Positions();
        a.ThirdShift = Positions();
        a.ThirdPeak = Positions();
        a.ChannelMax = a.PositionMax = Strips();
        a.ChannelShift = a.PositionShift = Strips();
        a.ChannelPeak = a.PositionPeak = Strips();
        a.First = Strips();
        a.Second = Strips();
        CombinationKernels kernels = CombinationKernels.For(kind);
        StripKernels.Reduce<Summing>(view, a);
        StripKernels.Reduce<Pooling>(view, a);
        StripKernels.Reduce<SharedMaxima>(view, a);
        kernels.Apply(view, a, strips: true, endsBlock: false);
        kernels.Apply(view, a, strips: true, endsBlock: true);
        kernels.Factors(view, a, strips: true);
        kernels.Totals(view, a, strips: true);
        foreach (StripReads reads in (StripReads[])[StripReads.Means, StripReads.MeansAndMaxima]) kernels.Input(view, a, new GateCombination(kind, Strips: reads));
        if (kind != CombinationKind.SumOfThree) return;
        a.First = Positions();
        a.Second = Positions();
        a.ResultStride = height * width;
        a.PositionMax = Positions();
        MapKernels.OverChannels<ThirdGradient>(view, a);
    }
}
