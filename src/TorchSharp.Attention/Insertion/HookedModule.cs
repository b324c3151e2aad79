using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// What is inserted around one submodule. All of it shares one pair of hooks, so that attentions act in the order of their
/// insertion whatever has been removed meanwhile.
/// </summary>
internal sealed class HookedModule
{
    private static readonly ConditionalWeakTable<nn.Module, HookedModule> Spots = [];

    // The map that the submodule is given instead of its input; it dies with the call.
    private readonly ThreadLocal<Tensor?> _refinedInput = new();
    private readonly nn.Module _module;
    private readonly bool _inSequence;
    private bool _keepsInput, _keepsOutput;
    private AttentionModule[] _before = [];
    private AttentionModule[] _after = [];
    private Action? _removeBefore;
    private Action? _removeAfter;

    private HookedModule(nn.Module module, bool inSequence)
    {
        _module = module;
        _inSequence = inSequence;
    }

    /// <summary>Whether the submodule has been called since the attention came.</summary>
    public bool Reached { get; private set; }

    /// <summary>Whether such a call came while gradients were on.</summary>
    public bool RanWithGradients { get; private set; }

    /// <summary>Puts an attention at the end of those on one side of a submodule.</summary>
    /// <param name="module">The submodule.</param>
    /// <param name="inSequence">
    /// Whether it is the child of a Sequential, which disposes each map as soon as the next is there.
    /// </param>
    /// <param name="side">The side.</param>
    /// <param name="attention">The attention.</param>
    /// <param name="isKept">Whether somebody keeps the maps that an attention on this side replaces.</param>
    public static HookedModule Add(nn.Module module, bool inSequence, InsertionSide side, AttentionModule attention, bool isKept)
    {
        HookedModule spot = Spots.GetValue(module, key => new HookedModule(key, inSequence));
        spot.Reached = spot.RanWithGradients = false;
        spot._keepsOutput |= isKept && side == InsertionSide.After;
        spot._keepsInput |= isKept && side == InsertionSide.Before;
        if (side == InsertionSide.After) spot._after = [.. spot._after, attention];
        else spot._before = [.. spot._before, attention];
        spot._removeAfter ??= ForwardHooks.After(module, spot.Leave);
        if (spot._before.Length > 0)
        {
            spot._removeBefore ??= ForwardHooks.Before((nn.Module<Tensor, Tensor>)module, spot.Enter, spot.End);
        }

        return spot;
    }

    /// <summary>
    /// What stands before and after a submodule, in the order in which it acts; nothing where nothing was inserted.
    /// </summary>
    public static (IReadOnlyList<AttentionModule> Before, IReadOnlyList<AttentionModule> After) Around(nn.Module module)
        => Spots.TryGetValue(module, out HookedModule? spot) ? (spot._before, spot._after) : ([], []);

    /// <summary>Takes an attention away, and the hooks with the last one.</summary>
    public void Remove(AttentionModule attention)
    {
        _before = [.. _before.Where(other => other != attention)];
        _after = [.. _after.Where(other => other != attention)];
        if (_before.Length == 0)
        {
            _removeBefore?.Invoke();
            _removeBefore = null;
        }

        if (_before.Length + _after.Length > 0) return;
        _removeAfter?.Invoke();
        _removeAfter = null;
        Spots.Remove(_module);
    }

    private Tensor Enter(Tensor input)
    {
        Tensor refined = Refine(_before, input);
        _refinedInput.Value = refined;
        return refined;
    }

    private Tensor Leave(Tensor[] inputs, Tensor output)
    {
        Reached = true;
        if (!RanWithGradients) RanWithGradients = is_grad_enabled();
        bool ours = _refinedInput.Value is { } given && ReferenceEquals(output, given);
        if (ours) _refinedInput.Value = null;
        Tensor refined = Refine(_after, output);
        bool held = ours ? _keepsInput : _keepsOutput;
        held |= !ours && (output is Modules.Parameter || Array.Exists(inputs, input => ReferenceEquals(input, output)));
        if (!ReferenceEquals(refined, output) && !held) Release(output);
        return refined;
    }

    private void End()
    {
        if (_refinedInput.Value is { } refined && !_keepsInput) Release(refined);
        _refinedInput.Value = null;
    }

    private static Tensor Refine(AttentionModule[] attentions, Tensor map)
    {
        Tensor refined = map;
        foreach (AttentionModule attention in attentions)
        {
            Tensor next = attention.call(refined);
            if (!ReferenceEquals(refined, map)) refined.Dispose();
            refined = next;
        }

        return refined;
    }

    /// <summary>
    /// Frees a map that the attention has taken the place of, where nobody else would: a dispose scope frees it by itself, but a
    /// Sequential never left it that long. It stays where a dry pass found that somebody keeps it, where the submodule keeps it
    /// now (a parameter, a buffer, a field for a later skip, a closure, a static field) or where other hooks saw it; without a
    /// scope the finaliser has it then, as it had before the insertion.
    /// </summary>
    private void Release(Tensor map)
    {
        if ((_inSequence || CurrentDisposeScope is null) && !IsHeard(_module) && !ReachableTensors.Holds(_module, map))
        {
            map.Dispose();
        }
    }

    /// <summary>Whether hooks of others listen to a submodule or to what is within it.</summary>
    private static bool IsHeard(nn.Module module)
        => module.modules().Prepend(module).Any(listened => Hooks.Count(listened) > OwnHooks(listened));

    private static int OwnHooks(nn.Module module)
        => NormGuard.HooksOn(module)
            + (Spots.TryGetValue(module, out HookedModule? spot)
                ? (spot._removeBefore is null ? 0 : 2) + (spot._removeAfter is null ? 0 : 1)
                : 0);
}
