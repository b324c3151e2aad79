using System.Diagnostics;
using System.Globalization;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>
/// What <see cref="NativeHeap.RetainFreedMemory"/> brings: training steps of a ResNet-50 in processes of their own that call it and that do not, in turns,
/// with the page faults of a step, as Linux counts them.
/// </summary>
internal static class HeapSteps
{
    private const int Steps = 10, Warm = 3;

    public static int Run(string[] arguments)
    {
        int rounds = Ratios.Option(arguments, "--rounds=", 5), batch = Ratios.Option(arguments, "--batch=", 8);
        string plan = arguments.FirstOrDefault(argument => !argument.StartsWith('-')) ?? "none";
        if (arguments.Contains("--child")) return Child(plan, batch, arguments.Contains("--keep-freed"));
        (double Milliseconds, double Faults)[] left = new (double, double)[rounds], kept = new (double, double)[rounds];
        for (int round = 0; round < rounds; round++)
        {
            left[round] = Measure(plan, batch);
            kept[round] = Measure(plan, batch, "--keep-freed");
        }

        double ratio = Median(left.Zip(kept, (a, b) => a.Milliseconds / b.Milliseconds));
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"# ResNet-50, {plan}, batch {batch}, {Math.Min(2, Environment.ProcessorCount)} threads, {rounds} rounds, medians\n"
            + $"as it is          {Median(left.Select(one => one.Milliseconds)),8:0.0} ms per step, {Median(left.Select(one => one.Faults)),8:0} page faults\n"
            + $"RetainFreedMemory {Median(kept.Select(one => one.Milliseconds)),8:0.0} ms per step, {Median(kept.Select(one => one.Faults)),8:0} page faults\n"
            + $"ratio, paired     {ratio:0.000}"));
        return 0;
    }

    private static (double Milliseconds, double Faults) Measure(string plan, int batch, params string[] more)
    {
        // Under `dotnet run` the process is the program's own; under `dotnet X.dll` it is dotnet.
        string[] host = Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet" ? [typeof(HeapSteps).Assembly.Location] : [];
        using Process child = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [.. host, "heap", plan, $"--batch={batch}", "--child", .. more])
        {
            RedirectStandardOutput = true,
        })!;
        string[] answer = child.StandardOutput.ReadToEnd().Trim().Split(' ');
        child.WaitForExit();
        if (child.ExitCode != 0) throw new InvalidOperationException($"A child process ended with {child.ExitCode}.");
        return (double.Parse(answer[0], CultureInfo.InvariantCulture), double.Parse(answer[1], CultureInfo.InvariantCulture));
    }

    private static int Child(string plan, int batch, bool keep)
    {
        if (keep && !NativeHeap.RetainFreedMemory()) return 1;
        torch.set_num_threads(Math.Min(2, Environment.ProcessorCount));
        using ResNet network = ResNet.ResNet50(attention: plan == "none" ? AttentionPlan.None : AttentionPlan.Parse(plan));
        using torch.Tensor images = torch.randn(batch, 3, 224, 224);
        List<double> milliseconds = [], faults = [];
        for (int step = 0; step < Steps; step++)
        {
            using DisposeScope scope = torch.NewDisposeScope();
            network.zero_grad();
            long before = Faults(), started = Stopwatch.GetTimestamp();
            network.call(images).square().mean().backward();
            milliseconds.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
            faults.Add(Faults() - before);
        }

        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Median(milliseconds.Skip(Warm))} {Median(faults.Skip(Warm))}"));
        return 0;
    }

    /// <summary>The process's page faults that needed no disk, /proc/self/stat's tenth value.</summary>
    private static long Faults() => OperatingSystem.IsLinux() ? long.Parse(File.ReadAllText("/proc/self/stat").Split(") ")[1].Split(' ')[7], CultureInfo.InvariantCulture) : 0;

    private static double Median(IEnumerable<double> values) => Ratios.Median([.. values]);
}
