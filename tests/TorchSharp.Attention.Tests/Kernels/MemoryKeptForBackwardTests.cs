using System.Globalization;
using System.Runtime.InteropServices;

namespace TorchSharp.Attention.Tests;

/// <summary>What CBAM keeps between forward and backward: its input and its gates beyond the output, nothing else of a map's size.</summary>
public sealed class MemoryKeptForBackwardTests(ITestOutputHelper output) : IDisposable
{
    private readonly KernelSettings _kernels = KernelSettings.On();

    public void Dispose() => _kernels.Dispose();

    [Fact]
    public void Cbam_keeps_no_map_but_its_input_and_its_output()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("The resident set is read from /proc.");

        // A process that has run for a while: memory that was freed, which the C library keeps because what lies above it is in use.
        zeros(2_300_000).Dispose();
        List<Tensor> some = [.. Enumerable.Range(0, 42).Select(_ => zeros(2_300_000))];
        for (int i = 0; i < some.Count; i++)
        {
            if (i % 7 != 6) some[i].Dispose();
        }

        double composed = Measured(() => MapsBeyondInputAndOutput(fused: false), maps => maps > 0.75);
        double fused = Measured(() => MapsBeyondInputAndOutput(fused: true), maps => maps < 0.25);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"maps kept beyond input and output: {composed:0.00} composed, {fused:0.00} fused"));

        foreach (Tensor tensor in some) tensor.Dispose();

        // A quarter of a map is ten megabytes, for what the runtime itself does meanwhile; the gates are 0.3.
        Assert.True(fused < 0.25, $"{fused} maps");
        Assert.True(composed > 0.75, $"{composed} maps: the measure sees nothing");
    }

    [Fact]
    public void After_a_norm_a_gate_keeps_only_the_norms_input_and_the_output()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("The resident set is read from /proc.");
        using Cbam module = new(160, CbamOptions.Timm);
        using Modules.BatchNorm2d norm = nn.BatchNorm2d(160);
        AttentionKernels.Enabled = true;
        double apart = Measured(() => MapsBeyondInputAndOutput(x => module.call(norm.call(x))), maps => maps > 0.75);
        double behind = Measured(() => MapsBeyondInputAndOutput(x => module.TryFuseAfterNorm(norm, x, null)!), maps => maps < 0.25);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"maps kept beyond input and output: {apart:0.00} with the norm's own call, {behind:0.00} behind it"));
        Assert.True(behind < 0.25, $"{behind} maps");
        Assert.True(apart > 0.75, $"{apart} maps: the measure sees nothing");
    }

    /// <summary>Once more where the first measure is not as it should be: whatever else the process takes or gives back meanwhile counts too.</summary>
    private static double Measured(Func<double> measure, Predicate<double> fits)
    {
        double first = measure();
        return fits(first) ? first : measure();
    }

    private static double MapsBeyondInputAndOutput(bool fused)
    {
        AttentionKernels.Enabled = fused;
        using Cbam module = new(160, CbamOptions.Timm);
        return MapsBeyondInputAndOutput(module.call);
    }

    private static double MapsBeyondInputAndOutput(Func<Tensor, Tensor> forward)
    {
        using Tensor x = randn(4, 160, 128, 128).requires_grad_();
        double[] kept = new double[3];
        for (int i = 0; i < kept.Length; i++)
        {
            // What other tests and the round before have left must not be freed meanwhile.
            GC.Collect();
            GC.WaitForPendingFinalizers();

            // Nor must a map find room in what the C library keeps of it: the resident set would not grow.
            _ = malloc_trim(0);
            long before = Resident();
            using DisposeScope scope = NewDisposeScope();
            Tensor y = forward(x);
            kept[i] = ((Resident() - before) / (4.0 * x.numel())) - 1;
        }

        return kept.Order().ElementAt(1);
    }

    [DllImport("libc.so.6")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int malloc_trim(nuint pad);

    private static long Resident() => Environment.SystemPageSize * long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1], CultureInfo.InvariantCulture);
}
