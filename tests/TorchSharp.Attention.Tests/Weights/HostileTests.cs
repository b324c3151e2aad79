using TorchSharp.Attention.Golden;

namespace TorchSharp.Attention.Tests;

/// <summary>Damaged files are read or refused, without a crash, a leak or a large allocation. The golden program does the same at length.</summary>
public sealed class HostileTests
{
    [Fact]
    public void Damaged_files_are_read_or_refused()
    {
        IReadOnlyList<(string Name, byte[] Bytes, Range[] Structure)> seeds = HostileRun.Seeds(Path.Combine(AppContext.BaseDirectory, "fixtures"));
        Assert.Contains(seeds, seed => seed.Name.EndsWith(".pth", StringComparison.Ordinal));
        HostileRun.Outcome outcome = HostileRun.Run(1500, seed: 7, seeds);
        Assert.Empty(outcome.Problems);
        Assert.True(outcome is { Read: > 10, Refused: > 500 }, $"{outcome}");
    }

    [Fact]
    public void The_files_that_are_damaged_are_good_ones()
    {
        using WeightsFolder folder = new();
        foreach ((string name, byte[] bytes, _) in HostileRun.Seeds(Path.Combine(AppContext.BaseDirectory, "fixtures")))
        {
            foreach (bool memoryMap in new[] { false, true })
            {
                Assert.Null(HostileRun.Judge(folder.Write(name, bytes), bytes.Length, memoryMap, out bool isRead));
                Assert.True(isRead, name);
            }
        }
    }
}
