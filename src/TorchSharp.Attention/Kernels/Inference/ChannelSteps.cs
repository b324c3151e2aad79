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
        for (; i <= to - TVector.Lanes; i += TVector.Lanes)
        {
            ((TVector.Load(mean + i) + TVector.Load(maximum + i)) * TVector.All(0.5f)).Store(output + i);
        }

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
            float gain =
                (step->NormWeight is null ? 1 : step->NormWeight[i]) / MathF.Sqrt(step->NormVariance[i] + step->NormEpsilon);
            values[i] = ((values[i] - step->NormMean[i]) * gain) + (step->NormBias is null ? 0 : step->NormBias[i]);
        }
    }
}
