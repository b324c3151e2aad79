using System.Reflection;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>One side of one submodule, and what dry passes have seen there.</summary>
internal sealed class TrialPlace(ModuleNode node, InsertionSide side, bool needsGradient) : IDisposable
{
    private readonly List<Tensor> _factors = [];
    private readonly List<MemoryStamp> _read = [];
    private readonly Stack<MemoryStamp> _watched = [];
    private readonly List<WeakReference> _replaced = [];
    private readonly List<(Tensor Input, Tensor Values)> _spoiled = [];
    private bool _writesInput = WorksInPlace(node.Module);

    public ModuleNode Node => node;

    public InsertionSide Side => side;

    /// <summary>Whether an attention here is to get a gradient.</summary>
    public bool NeedsGradient { get; set; } = needsGradient;

    /// <summary>Whether the submodule works in place on its input, whatever the values.</summary>
    public bool WritesInput => _writesInput;

    /// <summary>Whether a call came while gradients were on.</summary>
    public bool RanWithGradients { get; private set; }

    /// <summary>Whether a gradient has reached what stood here.</summary>
    public bool HasGradient { get; private set; }

    public string Describe() => $"{(side == InsertionSide.After ? "after" : "before")} {node.Describe()}";

    /// <summary>Watches whether the submodule writes its input.</summary>
    public Action? Watch()
    {
        if (node.Module is not nn.Module<Tensor, Tensor> module) return null;
        return ForwardHooks.Before(
            module,
            input =>
            {
                _watched.Push(new MemoryStamp(input));
                return input;
            },
            () =>
            {
                using MemoryStamp stamp = _watched.Pop();
                _writesInput |= stamp.IsWritten();
            });
    }

    /// <summary>
    /// Lets a copy of the map stand where the attention would. Where the submodule works in place, the attention
    /// before it would leave the submodule's own input behind; that one is spoiled after the call, so that the
    /// outputs show whether the network reads it again.
    /// </summary>
    public Action StandIn() => Replace(
        map =>
        {
            Tensor copy = map.clone();
            _replaced.Add(new WeakReference(side == InsertionSide.After ? map : copy));
            return copy;
        },
        input =>
        {
            if (!_writesInput || input is not { IsInvalid: false } || !input.is_floating_point()) return;
            using IDisposable quiet = no_grad();
            using DisposeScope scope = NewDisposeScope();
            _spoiled.Add((input, input.clone().DetachFromDisposeScope()));
            input.copy_(input.mul(Scalars.Spoil).Plus(Scalars.One));
        });

    /// <summary>Gives what <see cref="StandIn"/> has spoiled its values back, where it outlives the pass.</summary>
    public void Restore()
    {
        using IDisposable quiet = no_grad();
        foreach ((Tensor input, Tensor values) in _spoiled)
        {
            if (!input.IsInvalid) input.copy_(values);
            values.Dispose();
        }

        _spoiled.Clear();
    }

    /// <summary>Lets a map that has nothing of the real one stand where the attention would.</summary>
    public Action Spoil() => Replace(map => full_like(map, Scalars.Spoil), _ => { });

    /// <summary>
    /// Lets the map times a leaf of one stand where the attention would: the leaf gets a gradient where the attention would.
    /// </summary>
    public Action Probe() => Replace(Multiply, _ => { });

    /// <summary>The leaves of the calls.</summary>
    public IEnumerable<Tensor> Factors => _factors;

    /// <summary>Whether a map was written after an attention would have read it.</summary>
    public bool WasWritten()
    {
        bool[] written = [.. _read.Select(stamp => stamp.IsWritten())];
        return written.Contains(true);
    }

    /// <summary>Looks at the leaves' gradients and lets everything of the last pass go.</summary>
    public void Collect()
    {
        foreach (Tensor factor in _factors)
        {
            using Tensor? gradient = factor.grad;
            HasGradient |= gradient is not null;
        }

        Dispose();
    }

    /// <summary>Whether somebody holds on to a map that the attention replaces.</summary>
    public bool IsKept { get; private set; }

    /// <summary>Only a class of the user's can keep a map.</summary>
    public bool MayBeKept => node.Module.modules().Prepend(node.Module).Any(part => part.GetType().Assembly is { } assembly
        && assembly != typeof(nn.Module).Assembly && assembly != typeof(TrialPlace).Assembly);

    /// <summary>Looks after a garbage collection which of the replaced maps are still reachable.</summary>
    public void SeeWhatIsKept() => IsKept = _replaced.Exists(map => map.IsAlive);

    public void Dispose()
    {
        foreach (Tensor factor in _factors) factor.Dispose();
        foreach (MemoryStamp stamp in _read.Concat(_watched)) stamp.Dispose();
        _factors.Clear();
        _read.Clear();
        _watched.Clear();
    }

    private Tensor Multiply(Tensor map)
    {
        if (!is_grad_enabled() || is_inference_mode_enabled() || !map.is_floating_point()) return map.clone();
        RanWithGradients = true;
        _read.Add(new MemoryStamp(map));
        Tensor factor = ones([], dtype: map.dtype, device: map.device, requires_grad: true).DetachFromDisposeScope();
        _factors.Add(factor);
        return map.mul(factor);
    }

    private Action Replace(Func<Tensor, Tensor> replacement, Action<Tensor> after)
    {
        if (side == InsertionSide.After) return ForwardHooks.After(node.Module, (_, output) => replacement(output));
        Stack<Tensor> given = new();
        return ForwardHooks.Before(
            (nn.Module<Tensor, Tensor>)node.Module,
            input =>
            {
                given.Push(input);
                return replacement(input);
            },
            () => after(given.Pop()));
    }

    /// <summary>Dropout works in place in training alone, and says so; so do TorchSharp's activations.</summary>
    private static bool WorksInPlace(nn.Module module)
    {
        if (module.GetType() == typeof(Sequential)) return module.children().FirstOrDefault() is { } first && WorksInPlace(first);
        Type type = module.GetType();
        if (type.Assembly != typeof(nn.Module).Assembly) return false;
        const BindingFlags any = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;
        return (type.GetProperty("inplace", any)?.GetValue(module) ?? type.GetField("inplace", any)?.GetValue(module)) is true;
    }

    private static class Scalars
    {
        public static readonly Scalar Spoil = (-1.7f).ToScalar(), One = 1f.ToScalar();
    }
}
