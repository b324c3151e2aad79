using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Runs a network for what can be seen on the way, and leaves it as it was: the training mode of every module, libtorch's random
/// numbers and the network's buffers are put back. Insertion, cost, ONNX export and activation maps run networks in this scope.
/// </summary>
internal sealed class DryRunScope : IDisposable
{
    private readonly nn.Module _model;
    private readonly TrainingModes _modes;
    private readonly RandomStateScope _random;
    private readonly BufferStateScope _buffers;

    /// <summary>Notes the state of a network and sets its mode.</summary>
    public DryRunScope(nn.Module model, bool training = false)
    {
        _model = model;
        _modes = new TrainingModes(model);
        _random = new RandomStateScope();
        _buffers = new BufferStateScope(model);
        try
        {
            TrainingModes.Set(model, training);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>
    /// Starts a pass, whose tensors are freed when it ends, except those that the network made for
    /// later, such as a table of positions.
    /// </summary>
    public Pass StartPass() => new(_model);

    public void Dispose()
    {
        _buffers.Dispose();
        _random.Dispose();
        _modes.Dispose();
    }

    /// <summary>One pass of a network in a dispose scope of its own.</summary>
    public sealed class Pass(nn.Module model) : IDisposable
    {
        private readonly DisposeScope _scope = NewDisposeScope();
        private readonly ReachableTensors _held = new(model);

        public void Dispose()
        {
            _held.Dispose();
            _scope.Dispose();
        }
    }
}
