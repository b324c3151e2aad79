using System.Globalization;

namespace TorchSharp.Attention.Tests;

/// <summary>What CBAM keeps between forward and backward: its input and its gates beyond the output, nothing else of a map's size.</summary>
public sealed class KeptMemoryTests(ITestOutputHelper output) : IDisposable
{
    private readonly bool _enabled = AttentionKernels.Enabled;

    public void Dispose() => AttentionKernels.Enabled = _enabled;

    [Fact]
    public void Cbam_keeps_no_map_but_its_input_and_its_output()
    {
        if (!OperatingSystem.IsLinux()) Assert.Skip("The resident set is read from /proc.");
        double composed = MapsBeyondInputAndOutput(fused: false), fused = MapsBeyondInputAndOutput(fused: true);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"maps kept beyond input and output: {composed:0.00} composed, {fused:0.00} fused"));

        // A quarter of a map is ten megabytes, for what the runtime itself does meanwhile; the gates are 0.3.
        Assert.True(fused < 0.25, $"{fused} maps");
        Assert.True(composed > 0.75, $"{composed} maps: the measure sees nothing");
    }

    private static double MapsBeyondInputAndOutput(bool fused)
    {
        AttentionKernels.Enabled = fused;
        using Cbam module = new(160, CbamOptions.Timm);

        // Larger than what the C library keeps after it was freed (32 MiB), so that the resident set tells what is alive.
        using Tensor x = randn(4, 160, 128, 128).requires_grad_();
        double[] kept = new double[3];
        for (int i = 0; i < kept.Length; i++)
        {
            // What other tests and the round before have left must not be freed meanwhile.
            GC.Collect();
            GC.WaitForPendingFinalizers();
            long before = Resident();
            using Tensor y = module.call(x);
            kept[i] = ((Resident() - before) / (4.0 * x.numel())) - 1;
        }

        return kept.Order().ElementAt(1);
    }

    private static long Resident() => Environment.SystemPageSize * long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1], CultureInfo.InvariantCulture);
}
