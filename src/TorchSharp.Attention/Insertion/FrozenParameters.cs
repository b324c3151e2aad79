using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Parameters that are temporarily not trained: <c>requires_grad</c> is false, and their gradients are removed. Running
/// statistics of norms are not parameters and are still updated in training mode. Several freezes can overlap and end in any
/// order. A parameter is trained again when the last freeze that includes it has ended.
/// </summary>
public sealed class FrozenParameters : IDisposable
{
    private readonly nn.Module _model;
    private readonly HashSet<OwnedParameter> _places = [];

    internal FrozenParameters(nn.Module model, IEnumerable<nn.Module> trained)
    {
        _model = model;
        HashSet<Parameter> kept = new(trained.SelectMany(module => module.parameters()), ReferenceEqualityComparer.Instance);
        HashSet<Parameter> frozen = new(ReferenceEqualityComparer.Instance);

        // A parameter that two modules share is looked at as it was before this freeze.
        foreach ((OwnedParameter place, Parameter parameter) in FreezeCounts.Places(model).ToArray())
        {
            if (kept.Contains(parameter)
                || !(parameter.requires_grad || frozen.Contains(parameter) || FreezeCounts.IsHeld(place)))
            {
                continue;
            }

            _places.Add(place);
            FreezeCounts.Add(place, 1);
            if (frozen.Add(parameter)) Freeze(parameter);
        }

        Count = frozen.Count;
    }

    /// <summary>
    /// Number of parameter tensors that this freeze includes, alone or together with other freezes. Parameters that were not
    /// trained before do not count.
    /// </summary>
    public int Count { get; }

    /// <summary>Trains these parameters again, except those that another freeze includes. A second call does nothing.</summary>
    public void Unfreeze()
    {
        if (_places.Count == 0) return;
        foreach (OwnedParameter place in _places) FreezeCounts.Add(place, -1);

        // By the place, because a conversion of the network replaces its parameters. One that two
        // modules share may be held at the other one.
        (OwnedParameter Place, Parameter Parameter)[] all = [
            .. FreezeCounts.Places(_model).Where(entry => !entry.Parameter.IsInvalid)];
        HashSet<Parameter> held = new(
            all.Where(entry => FreezeCounts.IsHeld(entry.Place)).Select(entry => entry.Parameter),
            ReferenceEqualityComparer.Instance);
        foreach ((OwnedParameter place, Parameter parameter) in all)
        {
            if (_places.Contains(place) && !held.Contains(parameter)) parameter.requires_grad = true;
        }

        _places.Clear();
    }

    /// <summary>Trains these parameters again, as <see cref="Unfreeze"/> does.</summary>
    public void Dispose() => Unfreeze();

    private static void Freeze(Parameter parameter)
    {
        parameter.requires_grad = false;
        using Tensor? gradient = parameter.grad;
        if (gradient is not null) parameter.grad = null;
    }
}
