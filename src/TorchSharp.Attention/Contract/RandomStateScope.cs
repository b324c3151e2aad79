using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Gives libtorch's random numbers back as they were.</summary>
internal sealed class RandomStateScope : IDisposable
{
    private readonly Tensor _state = get_rng_state().DetachFromDisposeScope();
    private bool _committed;

    /// <summary>Lets the numbers drawn meanwhile count.</summary>
    public void Commit() => _committed = true;

    public void Dispose()
    {
        if (!_committed) set_rng_state(_state);
        _state.Dispose();
    }
}
