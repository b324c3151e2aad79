using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>
/// What a <see cref="GateMonitor"/> costs in training a ResNet-18 with CBAM in every block: steps without it, with it between looks, and looked-at steps
/// that write log lines and CSV, in an order that turns from round to round: whichever comes first in a round is slower by some percent.
/// </summary>
internal static class Watching
{
    private const int Every = 50;

    public static int Run(string[] arguments)
    {
        int rounds = Ratios.Option(arguments, "--rounds=", 9), batch = Ratios.Option(arguments, "--batch=", 16), size = Ratios.Option(arguments, "--size=", 224);
        set_num_threads(Ratios.Option(arguments, "--threads=", Math.Min(2, Environment.ProcessorCount)));
        manual_seed(1);
        using ResNet network = ResNet.ResNet18(classes: 10, attention: AttentionPlan.Of(new CbamOptions()));
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.01, momentum: 0.9);
        using Tensor images = randn(batch, 3, size, size), labels = randint(0, 10, batch, dtype: ScalarType.Int64);
        string csv = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        List<double> plain = [], between = [], looked = [], extras = [];
        using (GateMonitor idle = GateMonitor.Attach(network, new GateMonitorOptions { Every = int.MaxValue }))
        {
            for (int round = -1; round < rounds; round++)
            {
                double[] seconds = new double[3];
                for (int turn = 0; turn < 3; turn++)
                {
                    int kind = (turn + round + 3) % 3;
                    using GateMonitor? monitor = kind == 2 ? GateMonitor.Attach(network, new GateMonitorOptions { Every = 1, Log = Console.Error.WriteLine, Csv = csv }) : null;
                    seconds[kind] = Step(kind == 1 ? idle : monitor);
                }

                if (round < 0) continue;   // The first round warms up.
                plain.Add(seconds[0]);
                between.Add(seconds[1]);
                looked.Add(seconds[2]);
            }
        }

        File.Delete(csv);
        double step = Median(plain);
        extras.AddRange(plain.Zip(looked, (without, look) => look - without));
        double extra = Median(extras);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"# ResNet-18, CBAM in 8 blocks, {batch} images of {size} × {size}, {get_num_threads()} threads, {rounds} rounds, medians"));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"step without a monitor     {step * 1e3,9:0.0} ms (quartiles {Quartile(plain, 1) * 1e3:0.0} to {Quartile(plain, 3) * 1e3:0.0})"));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"step between two looks     {Median(between) * 1e3,9:0.0} ms"));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"step that is looked at     {Median(looked) * 1e3,9:0.0} ms"));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"a look, paired             {extra * 1e3,9:0.0} ms, {extra / step:0.0 %} of a step; every {Every} steps {extra / step / Every:0.00 %} (quartiles {Quartile(extras, 1) * 1e3:0.0} to {Quartile(extras, 3) * 1e3:0.0} ms)"));
        return 0;

        double Step(GateMonitor? monitor)
        {
            long start = Stopwatch.GetTimestamp();
            using DisposeScope scope = NewDisposeScope();
            optimizer.zero_grad();
            nn.functional.cross_entropy(network.call(images), labels).backward();
            optimizer.step();
            monitor?.Step();
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
    }

    private static double Median(List<double> values) => Quartile(values, 2);

    private static double Quartile(List<double> values, int quarter) => values.Order().ElementAt((values.Count - 1) * quarter / 4);
}
