using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>
/// What a gate keeps between forward and backward beyond its input and its output, in maps, by the growth of the resident set. The map is
/// larger than any that the C library keeps after it was freed, so that the resident set tells what is alive.
/// </summary>
internal static class KeptMemory
{
    public static int Run(string[] arguments)
    {
        if (!OperatingSystem.IsLinux())
        {
            Console.Error.WriteLine("The resident set is read from /proc, which Linux alone has.");
            return 1;
        }

        string filter = arguments.FirstOrDefault(argument => !argument.StartsWith('-')) ?? "";
        Console.WriteLine("# maps of 4x160x128x128 float32 (41.9 MB) kept beyond input and output");
        Console.WriteLine($"{"module",-14} {"composed",9} {"fused",9}");
        foreach (string kind in RatioCases.Kinds)
        {
            if (!kind.Contains(filter, StringComparison.Ordinal)) continue;
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{kind,-14} {Maps(kind, fused: false),9:0.00} {Maps(kind, fused: true),9:0.00}"));
        }

        return 0;
    }

    private static double Maps(string kind, bool fused)
    {
        AttentionKernels.Enabled = fused;
        using GateModule module = RatioCases.Module(kind, "4x160x128x128");
        // Large enough for the kernels, whose last gradients live until the next step.
        using (Tensor small = randn(1, 160, 16, 16).requires_grad_()) module.call(small).sum().backward();
        using Tensor x = randn(4, 160, 128, 128).requires_grad_();

        // What was left before must not be freed meanwhile.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        long before = Resident();
        using Tensor y = module.call(x);
        double kept = ((Resident() - before) / (4.0 * x.numel())) - 1;
        y.sum().backward();
        return kept;
    }

    private static long Resident() => Environment.SystemPageSize * long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1], CultureInfo.InvariantCulture);
}
