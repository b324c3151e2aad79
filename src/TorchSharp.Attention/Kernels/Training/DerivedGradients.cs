using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// In the checked build, the gradients of the feature map and of its channel gate: what libtorch's
/// operations make of each step, added up.
/// </summary>
internal sealed class DerivedGradients : IDisposable
{
    public Tensor? Input { get; private set; }

    public Tensor? Channel { get; private set; }

    /// <summary>
    /// Adds a step's gradients: of the feature map and, where there are two, of the channel gate. They are disposed.
    /// </summary>
    public void Add(Tensor?[]? step)
    {
        if (step is null) return;
        Input = Sum(Input, step[0]);
        if (step.Length > 1) Channel = Sum(Channel, step[1]);
    }

    public void Dispose() => GateAutograd.Dispose(Input, Channel);

    private static Tensor? Sum(Tensor? sum, Tensor? step)
    {
        if (sum is null || step is null) return sum ?? step;
        using IDisposable quiet = no_grad();
        Tensor total = sum.Plus(step).DetachFromDisposeScope();
        GateAutograd.Dispose(sum, step);
        return total;
    }
}
