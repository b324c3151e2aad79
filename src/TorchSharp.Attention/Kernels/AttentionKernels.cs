namespace TorchSharp.Attention;

/// <summary>
/// The fused CPU kernels of the library: gates that read a map once for each pooling and write it once. They are used by themselves where
/// they fit (CPU, float32 or bfloat16, contiguous or channels-last maps) and give the composed operations' results up to rounding.
/// </summary>
/// <remarks>
/// A map that was given to a gate must not be changed in place before the backward pass. As with libtorch's operations that is an exception; on the
/// kernels its message speaks of an invalid gradient, and the reason is written to <see cref="System.Diagnostics.Trace"/>.
/// In inference, a block of our networks may write over the maps between its own layers: a hook there that keeps a map should keep a clone.
/// </remarks>
public static class AttentionKernels
{
    /// <summary>The environment variable that turns the kernels off at the start of a process: <c>0</c> or <c>false</c>.</summary>
    public const string EnvironmentVariable = "TORCHSHARP_ATTENTION_KERNELS";

    private static volatile bool _enabled = !(Environment.GetEnvironmentVariable(EnvironmentVariable) is { } value
        && (value == "0" || value.Equals("false", StringComparison.OrdinalIgnoreCase)));

    /// <summary>
    /// Whether fused kernels may be used; otherwise every module runs libtorch's operations. Default true, unless
    /// <see cref="EnvironmentVariable"/> says otherwise. Read at each forward pass; a backward pass follows its forward pass.
    /// </summary>
    public static bool Enabled
    {
        get => _enabled;
        set => _enabled = value;
    }

    /// <summary>
    /// What runs the kernels: the vector width in bits and the threads, for reports; for example
    /// <c>512-bit vectors on libtorch's OpenMP threads</c>.
    /// </summary>
    public static string Description =>
        $"{Simd.Bits}-bit vectors on {(NativeTeam.IsOpenMp ? "libtorch's OpenMP threads" : "the .NET thread pool")}";
}
