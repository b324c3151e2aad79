using System.Diagnostics;
using TorchSharp.Attention;
using static TorchSharp.torch;

namespace QuickStart;

/// <summary>How long one image takes, in milliseconds, and how much longer than in the plain network, as a share of it.</summary>
internal sealed record Latency(double Milliseconds, double Overhead)
{
    private const int WarmUps = 10;

    /// <summary>
    /// Times one image at a time. Plain and the other network take turns, so that whatever slows the machine down slows both; the
    /// overhead is the median of the turns' ratios.
    /// </summary>
    /// <param name="networks">The plain network first.</param>
    /// <param name="image">One image, (1, C, H, W).</param>
    /// <param name="rounds">Number of turns.</param>
    public static IReadOnlyList<Latency> Measure(IReadOnlyList<ResNet> networks, Tensor image, int rounds)
    {
        using IDisposable quiet = no_grad();
        foreach (ResNet network in networks)
        {
            network.eval();
            for (int i = 0; i < WarmUps; i++) Time(network, image);
        }

        double[][] times = [.. networks.Select(_ => new double[rounds])];
        double[][] ratios = [.. networks.Select(_ => new double[rounds])];
        for (int round = 0; round < rounds; round++)
        {
            for (int i = 1; i < networks.Count; i++)
            {
                double plain = times[0][round] = Time(networks[0], image);
                times[i][round] = Time(networks[i], image);
                ratios[i][round] = (times[i][round] / plain) - 1;
            }
        }

        return [.. times.Zip(ratios, (time, ratio) => new Latency(Median(time), Median(ratio)))];
    }

    public static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    private static double Time(ResNet network, Tensor image)
    {
        long start = Stopwatch.GetTimestamp();
        network.call(image).Dispose();
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }
}
