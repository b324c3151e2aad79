using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Parameters that do not train for now: <c>requires_grad</c> is false, and their gradients are gone. Running statistics of norms are no
/// parameters and follow the data in training mode as before.
/// </summary>
public sealed class FrozenParameters : IDisposable
{
    private readonly nn.Module _model;
    private readonly HashSet<string> _names = [];

    internal FrozenParameters(nn.Module model, IEnumerable<nn.Module> trained)
    {
        _model = model;
        HashSet<Parameter> kept = new(trained.SelectMany(module => module.parameters()), ReferenceEqualityComparer.Instance);
        foreach ((string name, Parameter parameter) in model.named_parameters())
        {
            if (!parameter.requires_grad || kept.Contains(parameter)) continue;
            parameter.requires_grad = false;
            using (Tensor? gradient = parameter.grad)
            {
                if (gradient is not null) parameter.grad = null;
            }

            _names.Add(name);
        }

        Count = _names.Count;
    }

    /// <summary>Number of parameter tensors that this has frozen; those that did not train anyway do not count.</summary>
    public int Count { get; }

    /// <summary>Lets exactly these parameters train again. A second call does nothing.</summary>
    public void Unfreeze()
    {
        // By name, because a conversion of the network replaces its parameters.
        foreach ((string name, Parameter parameter) in _model.named_parameters())
        {
            if (_names.Contains(name) && !parameter.IsInvalid) parameter.requires_grad = true;
        }

        _names.Clear();
    }

    /// <summary>The same as <see cref="Unfreeze"/>.</summary>
    public void Dispose() => Unfreeze();
}
