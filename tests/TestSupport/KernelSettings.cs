namespace TorchSharp.Attention.TestSupport;

/// <summary>
/// The process-wide settings of the fused kernels for the time of a test: kernels on, for maps of any size. Disposing restores what
/// was set before.
/// </summary>
public sealed class KernelSettings : IDisposable
{
    private readonly bool _enabled = AttentionKernels.Enabled, _checked = AttentionKernels.Checked;
    private readonly long _trained = FusedGate.SmallestTrained, _inferred = FusedGate.SmallestInferred;

    private KernelSettings()
    {
    }

    /// <summary>Kernels on; small maps stay with libtorch, as in a user's program.</summary>
    public static KernelSettings On()
    {
        KernelSettings before = new();
        AttentionKernels.Enabled = true;
        return before;
    }

    /// <summary>Kernels on for maps of any size.</summary>
    public static KernelSettings ForAnySize()
    {
        KernelSettings before = On();
        FusedGate.SmallestTrained = FusedGate.SmallestInferred = 0;
        return before;
    }

    public void Dispose()
    {
        AttentionKernels.Enabled = _enabled;
        AttentionKernels.Checked = _checked;
        FusedGate.SmallestTrained = _trained;
        FusedGate.SmallestInferred = _inferred;
    }
}
