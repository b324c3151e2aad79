using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Parameters that do not train for now: <c>requires_grad</c> is false, and their gradients are gone. Running statistics of norms
/// are no parameters and follow the data in training mode as before. Freezes may overlap, and end in any order: a parameter
/// trains again when the last freeze that holds it has ended.
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
    /// Number of parameter tensors that this holds frozen, alone or together with other freezes; those
    /// that did not train anyway do not count.
    /// </summary>
    public int Count { get; }

    /// <summary>
    /// Lets these parameters train again, but for those that another freeze still holds. A second call does nothing.
    /// </summary>
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

    /// <summary>Lets the parameters train again, as <see cref="Unfreeze"/> does.</summary>
    public void Dispose() => Unfreeze();

    private static void Freeze(Parameter parameter)
    {
        parameter.requires_grad = false;
        using Tensor? gradient = parameter.grad;
        if (gradient is not null) parameter.grad = null;
    }
}
