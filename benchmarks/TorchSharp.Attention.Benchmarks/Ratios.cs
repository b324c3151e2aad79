using System.Diagnostics;
using System.Globalization;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>
/// Paired comparison: A, B, A, B, … in one process, so that whatever else the machine does hits both alike. Prints medians and quartiles of
/// the ratios, one line a way.
/// </summary>
internal static class Ratios
{
    private const double SecondsOfASample = 0.004;

    private static readonly Dictionary<string, List<double>> _means = [];

    public static int Run(string[] arguments)
    {
        string filter = arguments.FirstOrDefault(argument => !argument.StartsWith('-')) ?? "";
        int rounds = Option(arguments, "--rounds=", 25);
        torch.set_num_threads(Option(arguments, "--threads=", Math.Min(2, Environment.ProcessorCount)));
        Console.WriteLine($"# {torch.get_num_threads()} threads, {AttentionKernels.Description}, {rounds} rounds");
        Console.WriteLine($"{"case",-26} {"shape",-17} {"layout",-6} {"way",-10} {"ms",9} {"ratio",7} {"25 %",7} {"75 %",7} {"to floor",8}");
        foreach ((string name, Func<RatioCase> create) in RatioCases.All().Where(one => one.Name.Contains(filter, StringComparison.Ordinal)))
        {
            RatioCase one = create();
            Measure(one, rounds);
            one.Dispose();
        }

        Console.WriteLine("# geometric means of the median ratios");
        foreach ((string what, List<double> ratios) in _means)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"# {what,-40} {Math.Exp(ratios.Average(Math.Log)),7:0.000}  of {ratios.Count}"));
        }

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
            string mean = $"{one.Name} {one.Ways[way].Name}";
            if (way > 0) (_means.TryGetValue(mean, out List<double>? all) ? all : _means[mean] = []).Add(Median(ratios));
            string toFloor = floor.Length == 0 ? "" : Median([.. seconds[way].Zip(floor, (time, least) => time / least)]).ToString("0.00", CultureInfo.InvariantCulture);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{one.Name,-26} {one.Shape,-17} {one.Layout,-6} {one.Ways[way].Name,-10} {Median(seconds[way]) * 1e3,9:0.0000} {Median(ratios),7:0.000} " +
                $"{ratios[ratios.Length / 4],7:0.000} {ratios[ratios.Length * 3 / 4],7:0.000} {toFloor,8}"));
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

    private static double Median(double[] values) => values.Order().ElementAt(values.Length / 2);

    private static int Option(string[] arguments, string name, int otherwise) =>
        arguments.FirstOrDefault(argument => argument.StartsWith(name, StringComparison.Ordinal)) is { } given
            ? int.Parse(given[name.Length..], CultureInfo.InvariantCulture)
            : otherwise;
}
