using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Attentions that <see cref="InsertionExtensions.InsertAttention"/> has inserted into a network, with the method to remove them.
/// They belong to the network, which disposes them. They stay in it if you drop this handle without disposing it.
/// </summary>
public sealed class InsertionHandle : IDisposable
{
    private readonly nn.Module _model;
    private readonly List<(PlannedInsertion Planned, nn.Module Host, HookedModule Spot)> _inserted = [];
    private readonly List<FrozenParameters> _frozen = [];
    private readonly NormGuard? _guard;
    private Action? _removeCheck;
    private bool _removed;

    internal InsertionHandle(nn.Module model, InsertionResolver resolution, bool seen, bool guardNorms)
    {
        _model = model;
        Report = resolution.Report();
        Attentions = [.. resolution.Planned.Select(planned => planned.Attention)];
        List<(PlannedInsertion Planned, nn.Module Host)> registered = [];
        try
        {
            foreach (PlannedInsertion planned in resolution.Planned)
            {
                nn.Module host = planned.Host ?? AttentionContainer.Add((Sequential)model);
                host.register_module(planned.Name, planned.Attention);
                registered.Add((planned, host));
            }

            HashSet<nn.Module> known = new(model.modules(), ReferenceEqualityComparer.Instance);
            if (registered.Find(entry => !known.Contains(entry.Planned.Attention)) is { Planned: { } lost, Host: { } deaf })
            {
                throw new InvalidOperationException(
                    $"The network does not list '{lost.Entry.Key}' after it was registered with {deaf.GetType().Name}. " +
                    "Let the named_modules of " +
                    $"{deaf.GetType().Name} list what register_module was given.");
            }
        }
        catch
        {
            foreach ((PlannedInsertion planned, nn.Module host) in registered) host.register_module(planned.Name, null!);
            if (model is Sequential sequence) AttentionContainer.RemoveEmpty(sequence);
            throw;
        }

        foreach ((PlannedInsertion planned, nn.Module host) in registered)
        {
            _inserted.Add(
                (planned, host, HookedModule.Add(
                    planned.Node.Module, planned.Node.InSequence, planned.Entry.Side, planned.Attention, planned.IsKept)));
        }

        resolution.HandOver();
        if (guardNorms) _guard = new NormGuard(model);
        if (!seen) _removeCheck = ForwardHooks.AfterCall(model, CheckReached);
    }

    /// <summary>What was inserted where, and what it costs.</summary>
    public InsertionReport Report { get; }

    /// <summary>The attentions, in the report's order. They belong to the network.</summary>
    public IReadOnlyList<AttentionModule> Attentions { get; }

    /// <summary>Freezes every parameter except those of this insertion's attentions.</summary>
    /// <returns>
    /// What has been frozen; <see cref="FrozenParameters.Unfreeze"/> lets it train again, and so does <see cref="Remove"/>.
    /// </returns>
    /// <exception cref="ObjectDisposedException">The attentions have been removed, or the network has been disposed.</exception>
    public FrozenParameters FreezeAllButAttention()
    {
        if (_removed)
        {
            throw new ObjectDisposedException(
                nameof(InsertionHandle), "The attentions have been removed; nothing would be left to train. Insert some again.");
        }

        Check.Alive(_model);
        if (Attentions.Any(attention => attention is IPlaced { Place.IsDisposed: true }))
        {
            throw Check.Disposed(_model.GetType().Name);
        }

        FrozenParameters frozen = new(_model, Attentions);
        _frozen.Add(frozen);
        return frozen;
    }

    /// <summary>
    /// Removes and disposes the attentions. Outputs, state-dict keys, children and hooks are then as before the insertion, and
    /// parameters that this handle froze are trained again. Create new optimizers afterwards. A second call does nothing.
    /// </summary>
    public void Remove()
    {
        if (_removed) return;
        _removed = true;
        _removeCheck?.Invoke();
        _guard?.Dispose();
        foreach (FrozenParameters frozen in _frozen) frozen.Unfreeze();
        foreach ((PlannedInsertion planned, nn.Module host, HookedModule spot) in _inserted)
        {
            spot.Remove(planned.Attention);
            host.register_module(planned.Name, null!);
            planned.Attention.Dispose();
        }

        if (_model is Sequential sequence) AttentionContainer.RemoveEmpty(sequence);
    }

    /// <summary>Removes the attentions, as <see cref="Remove"/> does.</summary>
    public void Dispose() => Remove();

    /// <summary>The report as a table.</summary>
    public override string ToString() => Report.ToString();

    /// <summary>Without an example, the network's own calls are what shows whether every submodule is called.</summary>
    private void CheckReached()
    {
        if (_inserted.Find(entry => !entry.Spot.Reached) is { Planned: { } planned })
        {
            throw new InvalidOperationException(InsertionResolver.NotReached(planned.Node));
        }

        // Evaluation and what runs without gradients altogether say nothing about training.
        if (_inserted.Find(entry => entry.Planned.NeedsGradient && !entry.Spot.RanWithGradients) is { Planned: { } untrained })
        {
            if (!_model.training || !is_grad_enabled()) return;
            throw new InvalidOperationException(InsertionTrial.WithoutGradients(untrained.Node));
        }

        _removeCheck?.Invoke();
        _removeCheck = null;
    }
}
