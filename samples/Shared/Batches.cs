using System.Runtime.InteropServices;
using Samples.Data;
using static TorchSharp.torch;

namespace Samples;

/// <summary>Mean and standard deviation of each channel, for pixels from 0 to 1.</summary>
public sealed record Normalisation(double[] Mean, double[] Std)
{
    public static Normalisation Of(ImageSet set)
    {
        int plane = set.Shape.Height * set.Shape.Width, channels = set.Shape.Channels;
        double[] mean = new double[channels], std = new double[channels];
        for (int channel = 0; channel < channels; channel++)
        {
            long sum = 0, squares = 0;
            for (int i = 0; i < set.Count; i++)
            {
                foreach (byte value in set.Image(i).Slice(channel * plane, plane))
                {
                    sum += value;
                    squares += value * value;
                }
            }

            double count = (double)set.Count * plane, average = sum / count;
            mean[channel] = average / 255;
            std[channel] = Math.Max(Math.Sqrt((squares / count) - (average * average)) / 255, 1e-3);
        }

        return new Normalisation(mean, std);
    }
}

/// <summary>Makes tensors of images: normalised, and in training shifted by up to one pixel and mirrored at random.</summary>
public sealed class Batches(ImageSet set, Normalisation normalisation, bool mirror = false)
{
    private const int LargestShift = 1;

    private readonly float[][] _values = [.. normalisation.Mean.Zip(normalisation.Std, (mean, std) =>
        Enumerable.Range(0, 256).Select(value => (float)(((value / 255.0) - mean) / std)).ToArray())];

    /// <summary>Labels of the images, (N).</summary>
    public Tensor Labels(ReadOnlySpan<int> images)
    {
        long[] labels = new long[images.Length];
        for (int i = 0; i < labels.Length; i++) labels[i] = set.Labels[images[i]];
        return tensor(labels);
    }

    /// <summary>The images, (N, C, H, W).</summary>
    /// <param name="images">Which of the set.</param>
    /// <param name="random">Source of shifts and mirrors; null for the images as they are.</param>
    public Tensor Images(ReadOnlySpan<int> images, Random? random = null)
    {
        (int channels, int height, int width) = set.Shape;
        Tensor batch = empty(images.Length, channels, height, width);
        Span<float> target = MemoryMarshal.Cast<byte, float>(batch.bytes);
        foreach (int image in images)
        {
            int down = Shift(random), right = Shift(random);
            bool mirrored = mirror && random?.Next(2) == 1;
            ReadOnlySpan<byte> source = set.Image(image);
            for (int channel = 0; channel < channels; channel++)
            {
                float[] value = _values[channel];
                ReadOnlySpan<byte> plane = source.Slice(channel * height * width, height * width);
                for (int y = 0; y < height; y++)
                {
                    int fromY = y - down;
                    for (int x = 0; x < width; x++)
                    {
                        int fromX = (mirrored ? width - 1 - x : x) - right;
                        bool inside = (uint)fromY < (uint)height && (uint)fromX < (uint)width;
                        target[(y * width) + x] = value[inside ? plane[(fromY * width) + fromX] : 0];
                    }
                }

                target = target[(height * width)..];
            }
        }

        return batch;
    }

    private static int Shift(Random? random) => random?.Next(-LargestShift, LargestShift + 1) ?? 0;
}
