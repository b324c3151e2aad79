using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>The steps from pooled channels to their gate, each for the part of its results that one thread owns.</summary>
internal static unsafe class ChannelSteps<TVector>
    where TVector : unmanaged, ISimd<TVector>
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Average(float* mean, float* maximum, float* output, int from, int to)
    {
        nint i = from;
        for (; i <= to - TVector.Lanes; i += TVector.Lanes) ((TVector.Load(mean + i) + TVector.Load(maximum + i)) * TVector.All(0.5f)).Store(output + i);
        for (; i < to; i++) output[i] = (mean[i] + maximum[i]) * 0.5f;
    }

    /// <summary>A layer of all samples for a range of its outputs.</summary>
    public static void Dense(InferenceStep* step, float* input, int samples, float* output, int from, int to)
    {
        if (from == to) return;
        bool both = step->Kind == InferenceStepKind.DenseOfBoth;
        int rows = both ? 2 * samples : samples, outputs = step->Outputs;
        DenseRows<TVector>.Run(input, rows, step->Weight, step->Inputs, output, outputs, from, to);
        for (int row = 0; row < rows; row++)
        {
            float* values = output + ((long)row * outputs);
            if (step->Bias is not null) AddBias(step, values, from, to);
            if (step->NormMean is not null) Normalize(step, values, from, to);
            ElementFunctions<TVector>.Apply(step->Function, step->Alpha, values + from, to - from);
            if (row < samples) continue;
            float* sum = output + ((long)(row - samples) * outputs);
            for (int i = from; i < to; i++) sum[i] += values[i];
        }
    }

    /// <summary>A convolution over the channels of each sample for a range of (sample, channel).</summary>
    public static void Neighbours(InferenceStep* step, float* input, int channels, float* output, int from, int to)
    {
        for (int i = from; i < to;)
        {
            int sample = i / channels, first = i % channels, last = Math.Min(channels, first + to - i);
            Convolve(step, input + ((long)sample * channels), channels, output + ((long)sample * channels), first, last);
            i += last - first;
        }

        ElementFunctions<TVector>.Apply(step->Function, step->Alpha, output + from, to - from);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Convolve(InferenceStep* step, float* input, nint channels, float* output, nint from, nint to)
    {
        nint side = step->Kernel / 2, channel = from;
        while (channel < to)
        {
            if (channel >= side && channel + TVector.Lanes <= Math.Min(to, channels - side))
            {
                TVector sum = TVector.All(0);
                for (nint tap = 0; tap < step->Kernel; tap++)
                {
                    sum = TVector.MultiplyAdd(TVector.Load(input + channel + tap - side), TVector.All(step->Weight[tap]), sum);
                }

                sum.Store(output + channel);
                channel += TVector.Lanes;
                continue;
            }

            float value = 0;
            for (nint tap = 0; tap < step->Kernel; tap++)
            {
                nint neighbour = channel + tap - side;
                if (step->Circular) neighbour = (neighbour + channels) % channels;
                else if (neighbour < 0 || neighbour >= channels) continue;
                value += input[neighbour] * step->Weight[tap];
            }

            output[channel++] = value;
        }
    }

    private static void AddBias(InferenceStep* step, float* values, int from, int to)
    {
        for (int i = from; i < to; i++) values[i] += step->Bias[i] * step->BiasFactor;
    }

    private static void Normalize(InferenceStep* step, float* values, int from, int to)
    {
        for (int i = from; i < to; i++)
        {
            float gain = (step->NormWeight is null ? 1 : step->NormWeight[i]) / MathF.Sqrt(step->NormVariance[i] + step->NormEpsilon);
            values[i] = ((values[i] - step->NormMean[i]) * gain) + (step->NormBias is null ? 0 : step->NormBias[i]);
        }
    }
}

/// <summary>Where a sample's merged sums and maxima go.</summary>
internal interface IPlaces
{
    bool HasMaxima { get; }

    long Sums(in RegionShare share, int sample);

    long Maxima(in RegionShare share, int sample);
}

/// <summary>Among the pooled channels, with or without maxima.</summary>
internal readonly struct ChannelPlaces(bool maxima) : IPlaces
{
    public bool HasMaxima { get; } = maxima;

    public long Sums(in RegionShare share, int sample) => share.Means(sample);

    public long Maxima(in RegionShare share, int sample) => share.Maxima(sample);
}

/// <summary>Among the pooled positions.</summary>
internal readonly struct PositionPlaces : IPlaces
{
    public bool HasMaxima => true;

    public long Sums(in RegionShare share, int sample) => share.Map(sample);

    public long Maxima(in RegionShare share, int sample) => share.MaximaOfMap(sample);
}

/// <summary>Results down columns of rows that several threads own, added up, or the largest taken.</summary>
internal static unsafe class PartSums<TVector>
    where TVector : unmanaged, ISimd<TVector>
{
    /// <summary>For this thread's range of columns, all samples; parts are pairs of sums and maxima.</summary>
    public static void Merge<TPlaces>(float* origin, in RegionShare share, TPlaces places, int columns, float scale)
        where TPlaces : struct, IPlaces
    {
        (int from, int to) = share.Of(columns);
        if (from == to) return;
        for (int sample = 0; sample < share.Samples; sample++)
        {
            (int first, int last) = share.Owners(sample);
            float* part = origin + share.Part(sample, first);
            nint pitch = (nint)share.PartPitch;
            bool known = Add(part, last - first + 1, pitch, origin + places.Sums(share, sample), scale, from, to);
            if (places.HasMaxima) Largest(part + columns, last - first + 1, pitch, origin + places.Maxima(share, sample), from, to, known);
        }
    }

    /// <summary>Whether all sums are numbers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Add(float* part, int count, nint pitch, float* result, float scale, nint from, nint to)
    {
        TVector all = TVector.All(0);
        float rest = 0;
        nint i = from;
        for (; i <= to - TVector.Lanes; i += TVector.Lanes)
        {
            TVector sum = TVector.Load(part + i);
            for (nint next = 1; next < count; next++) sum += TVector.Load(part + (next * pitch) + i);
            all += sum;
            (sum * TVector.All(scale)).Store(result + i);
        }

        for (; i < to; i++)
        {
            float sum = part[i];
            for (nint next = 1; next < count; next++) sum += part[(next * pitch) + i];
            rest += sum;
            result[i] = sum * scale;
        }

        return !float.IsNaN(all.Sum() + rest);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Largest(float* part, int count, nint pitch, float* result, nint from, nint to, bool numbers)
    {
        nint i = from;
        for (; numbers && i <= to - TVector.Lanes; i += TVector.Lanes)
        {
            TVector largest = TVector.Load(part + i);
            for (nint next = 1; next < count; next++) largest = TVector.Larger(TVector.Load(part + (next * pitch) + i), largest);
            largest.Store(result + i);
        }

        for (; i < to; i++)
        {
            float largest = part[i];
            for (nint next = 1; next < count; next++) largest = MathF.Max(largest, part[(next * pitch) + i]);
            result[i] = largest;
        }
    }
}
