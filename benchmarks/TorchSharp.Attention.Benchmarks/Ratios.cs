using System.Diagnostics;
using System.Globalization;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>
/// Paired comparison: A, B, A, B, … in one process, so that whatever else the machine does hits both alike. Prints medians and quartiles of
/// the ratios, one line per way.
/// </summary>
internal static class Ratios
{
    private const double SecondsOfASample = 0.004;

    private static readonly List<RatioRow> _rows = [];

    private static bool _keepsFreed;

    public static int Run(string[] arguments)
    {
        string filter = arguments.FirstOrDefault(argument => !argument.StartsWith('-')) ?? "";
        int rounds = Option(arguments, "--rounds=", 25);
        _keepsFreed = arguments.Contains("--keep-freed");
        if (_keepsFreed && !NativeHeap.RetainFreedMemory())
        {
            Console.Error.WriteLine("--keep-freed: this system's C library is not glibc, or refuses.");
            return 2;
        }

        torch.set_num_threads(Option(arguments, "--threads=", Math.Min(2, Environment.ProcessorCount)));
        Console.WriteLine($"# {torch.get_num_threads()} threads, {AttentionKernels.Description}, {rounds} rounds");
        Console.WriteLine($"{"case",-26} {"shape",-17} {"layout",-6} {"way",-10} {"ms",9} {"ratio",7} {"25 %",7} {"75 %",7} {"to floor",8}");
        bool warm = false;
        foreach ((string name, Func<RatioCase> create) in RatioCases.All().Where(one => one.Name.Contains(filter, StringComparison.Ordinal)))
        {
            RatioCase one = create();

            // A machine whose convolutions are wrong (README, Troubleshooting) must not set the baseline.
            if (!arguments.Contains("--unchecked") && one.Difference() is var difference && !(difference <= one.MostDifference))
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{one.Name,-26} {one.Shape,-17} {one.Layout,-6} left out: the ways' results differ by {difference:0.0e0}"));
                one.Dispose();
                continue;
            }

            if (!warm) WarmUp(one);
            warm = true;
            Measure(one, rounds);
            one.Dispose();
        }

        Console.WriteLine("# geometric means of the median ratios");
        foreach (var cases in _rows.GroupBy(row => $"{row.Case} {row.Way}").Where(cases => cases.Any(row => row.Ratio != 1)))
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"# {cases.Key,-40} {RatioReport.Mean(cases.Select(row => row.Ratio)),7:0.000}  of {cases.Count()}"));
        }

        if (arguments.FirstOrDefault(argument => argument.StartsWith("--csv=", StringComparison.Ordinal)) is { } csv) RatioRow.Write(csv["--csv=".Length..], _rows);
        return 0;
    }

    private static void Measure(RatioCase one, int rounds)
    {
        List<Action> runs = [.. one.Ways.Select(way => way.Run)];
        if (one.Floor is not null) runs.Add(one.Floor);
        int[] repeats = [.. runs.Select(Repeats)];
        double[][] seconds = [.. runs.Select(_ => new double[rounds])];
        for (int round = 0; round < rounds; round++)
        {
            one.Reset();
            for (int way = 0; way < runs.Count; way++) seconds[way][round] = Time(runs[way], repeats[way]);
        }

        double[] floor = one.Floor is null ? [] : seconds[^1];
        for (int way = 0; way < one.Ways.Count; way++)
        {
            // Above one: faster than the baseline.
            double[] ratios = [.. seconds[0].Zip(seconds[way], (baseline, time) => baseline / time).Order()];
            double? toFloor = floor.Length == 0 ? null : Median([.. seconds[way].Zip(floor, (time, least) => time / least)]);
            RatioRow row = new(
                _keepsFreed ? one.Name.Insert(one.Name.IndexOf('/'), "-kept") : one.Name, one.Shape, one.Layout, one.Ways[way].Name, Median(seconds[way]) * 1e3, Median(ratios), ratios[ratios.Length / 4], ratios[ratios.Length * 3 / 4], toFloor,
                DateTime.Today.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture), RatioRow.ThisMachine, torch.get_num_threads(), rounds);
            _rows.Add(row);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{row.Case,-26} {row.Shape,-17} {row.Layout,-6} {row.Way,-10} {row.Milliseconds,9:0.0000} {row.Ratio,7:0.000} {row.LowerQuartile,7:0.000} {row.UpperQuartile,7:0.000} {row.ToFloor,8:0.00}"));
        }
    }

    /// <summary>What all cases share is compiled in steps while it runs: the first case must not pay for it.</summary>
    private static void WarmUp(RatioCase one)
    {
        for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start).TotalSeconds < 1;)
        {
            one.Reset();
            foreach ((string _, Action run) in one.Ways) run();
        }
    }

    private static int Repeats(Action run)
    {
        for (int i = 0; i < 3; i++) run();
        double once = Enumerable.Range(0, 3).Min(_ => Time(run, 1));
        return Math.Clamp((int)(SecondsOfASample / once), 1, 8);
    }

    private static double Time(Action run, int repeats)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < repeats; i++) run();
        return Stopwatch.GetElapsedTime(start).TotalSeconds / repeats;
    }

    internal static double Median(double[] values) => values.Order().ElementAt(values.Length / 2);

    internal static int Option(string[] arguments, string name, int otherwise) =>
        arguments.FirstOrDefault(argument => argument.StartsWith(name, StringComparison.Ordinal)) is { } given
            ? int.Parse(given[name.Length..], CultureInfo.InvariantCulture)
            : otherwise;
}
