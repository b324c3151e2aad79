using System.Diagnostics;

namespace Samples;

/// <summary>Median time, and how many times faster than the first way: median and quartiles of the ratios of neighbours.</summary>
public sealed record Timing(double Milliseconds, double Ratio, double LowerQuartile, double UpperQuartile)
{
    private const double SecondsOfASample = 0.01;

    /// <summary>
    /// Ways take turns, A, B, …, A, B, …. Both libtorch's and ONNX Runtime's threads go on spinning for a while after their work; before each sample they get time
    /// to stop, and the way runs once unmeasured.
    /// </summary>
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);

    public static Dictionary<string, Timing> Measure(IReadOnlyList<(string Name, Action Run)> ways, int rounds)
    {
        int[] repeats = [.. ways.Select(way => Repeats(way.Run))];
        double[][] seconds = [.. ways.Select(_ => new double[rounds])];
        for (int round = 0; round < rounds; round++)
        {
            for (int way = 0; way < ways.Count; way++)
            {
                Thread.Sleep(Pause);
                ways[way].Run();
                seconds[way][round] = Time(ways[way].Run, repeats[way]);
            }
        }

        return ways.Select((way, i) =>
        {
            double[] ratios = [.. seconds[0].Zip(seconds[i], (first, own) => first / own).Order()];
            return (way.Name, Timing: new Timing(Median(seconds[i]) * 1e3, Median(ratios), ratios[ratios.Length / 4], ratios[ratios.Length * 3 / 4]));
        }).ToDictionary(entry => entry.Name, entry => entry.Timing);
    }

    private static int Repeats(Action run)
    {
        for (int i = 0; i < 3; i++) run();
        return Math.Clamp((int)(SecondsOfASample / Enumerable.Range(0, 3).Min(_ => Time(run, 1))), 1, 50);
    }

    private static double Time(Action run, int repeats)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < repeats; i++) run();
        return Stopwatch.GetElapsedTime(start).TotalSeconds / repeats;
    }

    private static double Median(IEnumerable<double> values) => values.Order().ElementAt(values.Count() / 2);
}
