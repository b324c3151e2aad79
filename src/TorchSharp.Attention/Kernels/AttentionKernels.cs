using TorchSharp.Attention.Kernels;

namespace TorchSharp.Attention;

/// <summary>
/// The fused CPU kernels of the library. They read a feature map once per pooling and write it once. They are used automatically
/// for float32 and bfloat16 maps on the CPU, contiguous or channels-last, and give the results of the composed operations up to
/// rounding.
/// </summary>
/// <remarks>
/// A map that was given to a gate must not be changed in place before the backward pass. As with libtorch's operations that is an
/// exception that speaks of a variable "modified by an inplace operation"; it is also written to
/// <see cref="System.Diagnostics.Trace"/>. In inference, a block of our networks may write over the maps between its own layers:
/// a hook there that keeps a map should keep a clone.
/// </remarks>
public static class AttentionKernels
{
    /// <summary>
    /// The environment variable that is read at the start of a process: <c>0</c> or <c>false</c> turns the kernels off,
    /// <c>checked</c> turns <see cref="Checked"/> on.
    /// </summary>
    public const string EnvironmentVariable = "TORCHSHARP_ATTENTION_KERNELS";

    private static int _disablers;

    private static volatile bool _enabled = !(IsSetTo("0") || IsSetTo("false"));

    private static volatile bool _checked = IsSetTo("checked");

    /// <summary>
    /// Whether fused kernels are used; otherwise every module runs libtorch's operations. Default true, unless
    /// <see cref="EnvironmentVariable"/> is set otherwise; false while a <see cref="Disable"/> is active. It is read at each
    /// forward pass, and a backward pass uses the setting of its forward pass. To turn the kernels off for a while, use
    /// <see cref="Disable"/>: two threads that save and restore this value would overwrite each other's setting.
    /// </summary>
    public static bool Enabled
    {
        get => _enabled && Volatile.Read(ref _disablers) == 0 && !KernelCheck.IsComposing;
        set => _enabled = value;
    }

    /// <summary>
    /// Whether the kernels check themselves: every refined map and every gradient of a kernel is compared with that of libtorch's
    /// operations, and unused memory around every buffer must stay as it was. A difference is an
    /// <see cref="InvalidOperationException"/> that names the module, the shape, layout and type of the feature map, the threads
    /// and the size of the difference; in a backward pass TorchSharp throws it as an
    /// <see cref="System.Runtime.InteropServices.ExternalException"/> with that message. For tests and for finding faults: a gate
    /// takes several times as long. Default false, unless <see cref="EnvironmentVariable"/> says <c>checked</c>.
    /// </summary>
    public static bool Checked
    {
        get => _checked;
        set => _checked = value;
    }

    /// <summary>
    /// Turns the kernels off for the whole process, until the result is disposed. Several calls can overlap, in one thread or in
    /// many. The kernels are on again after all results are disposed, if <see cref="Enabled"/> is true.
    /// </summary>
    /// <returns>What ends it; disposing it twice does nothing more.</returns>
    public static IDisposable Disable() => new Disabler();

    /// <summary>
    /// Describes how the kernels run, for reports: the vector width in bits and the threads, such as <c>512-bit vectors on
    /// libtorch's OpenMP threads</c>.
    /// </summary>
    public static string Description =>
        $"{Simd.Bits}-bit vectors on {(NativeTeam.IsOpenMp ? "libtorch's OpenMP threads" : "the .NET thread pool")}";

    private static bool IsSetTo(string value)
        => string.Equals(Environment.GetEnvironmentVariable(EnvironmentVariable), value, StringComparison.OrdinalIgnoreCase);

    private sealed class Disabler : IDisposable
    {
        private int _disposed;

        public Disabler() => Interlocked.Increment(ref _disablers);

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _disposed, 1) == 0) Interlocked.Decrement(ref _disablers);
        }
    }
}
