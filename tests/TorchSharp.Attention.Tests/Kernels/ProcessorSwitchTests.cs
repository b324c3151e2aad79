using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// The switches by which .ci/run repeats tests as on an older processor do what their names say. A runtime that renames one would make the second run a
/// copy of the first.
/// </summary>
public class ProcessorSwitchTests
{
    [Fact]
    public void Without_AVX2_vectors_have_128_bits()
    {
        if (Environment.GetEnvironmentVariable("DOTNET_EnableAVX2") != "0") Assert.Skip("DOTNET_EnableAVX2 is not 0.");
        Assert.False(Avx2.IsSupported);
        Assert.False(Vector256.IsHardwareAccelerated);
        Assert.Contains("128-bit", AttentionKernels.Description, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_AVX512_vectors_have_at_most_256_bits()
    {
        if (Environment.GetEnvironmentVariable("DOTNET_EnableAVX512") != "0") Assert.Skip("DOTNET_EnableAVX512 is not 0.");
        Assert.False(Avx512F.IsSupported);
        Assert.False(Vector512.IsHardwareAccelerated);
        Assert.DoesNotContain("512-bit", AttentionKernels.Description, StringComparison.Ordinal);
    }
}
