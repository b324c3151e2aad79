using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Runs a network with stand-ins at the places of a plan and sees what attentions would do there: whether the outputs stay what
/// they are, whether a gradient arrives, and whether somebody keeps the maps that they replace.
/// </summary>
internal sealed class InsertionTrial : IDisposable
{
    private readonly nn.Module _model;
    private readonly Tensor[] _example;
    private readonly List<TrialPlace> _places = [];
    private Tensor[] _outputs = [];
    private bool _hasDifferentiableOutput;

    public InsertionTrial(nn.Module model, Tensor[] example, IEnumerable<(InsertionRule Rule, ModuleNode Node)> chosen)
    {
        _model = model;
        _example = example;
        foreach ((InsertionRule rule, ModuleNode node) in chosen)
        {
            if (Find(node, rule.Side) is { } place) place.NeedsGradient |= rule.NeedsGradient;
            else _places.Add(new TrialPlace(node, rule.Side, rule.NeedsGradient));
        }
    }

    /// <summary>What a user should know though nothing is refused.</summary>
    public string? Note { get; private set; }

    /// <summary>Watches the plain network at the places until the actions are run.</summary>
    public IEnumerable<Action> Watch()
        => _places.DistinctBy(place => place.Node.Module, ReferenceEqualityComparer.Instance).Select(
            place => place.Watch()).OfType<Action>();

    /// <summary>The outputs of the plain network.</summary>
    public void Keep(Tensor[] outputs) => _outputs = Copy(outputs);

    /// <summary>Whether somebody holds on to the maps that an attention at a place replaces.</summary>
    public bool IsKept(ModuleNode node, InsertionSide side) => Find(node, side) is { IsKept: true };

    /// <exception cref="ArgumentException">
    /// An attention at one of the places would change the outputs, or never get a gradient.
    /// </exception>
    public void Run()
    {
        if (Changes(_places))
        {
            if (IsRepeatable()) throw Changing();
            Note = "The network's outputs differ from one run to the next, so that it was not checked whether the insertion " +
                "leaves them as they are.";
        }

        TrialPlace[] open = [.. _places.Where(place => place.MayBeKept)];
        if (open.Length > 0) GC.Collect();
        foreach (TrialPlace place in open) place.SeeWhatIsKept();
        foreach (TrialPlace place in _places.Where(
            place => !place.NeedsGradient && place is { WritesInput: true, Side: InsertionSide.After }))
        {
            if (!Differs(_places.Where(other => other == place).Select(other => other.Spoil())))
            {
                throw Refusal(place, Unused(place));
            }
        }

        if (_places.Exists(place => place.NeedsGradient)) CheckGradients();
    }

    public void Dispose()
    {
        foreach (Tensor output in _outputs) output.Dispose();
        foreach (TrialPlace place in _places) place.Dispose();
    }

    private TrialPlace? Find(ModuleNode node, InsertionSide side)
        => _places.Find(place => ReferenceEquals(place.Node.Module, node.Module) && place.Side == side);

    private static Tensor[] Copy(Tensor[] tensors)
    {
        using IDisposable quiet = no_grad();
        return [.. tensors.Select(tensor => tensor.detach().clone().DetachFromDisposeScope())];
    }

    private bool Changes(IEnumerable<TrialPlace> places) => Differs(places.Select(place => place.StandIn()));

    /// <summary>Whether the outputs are others than the plain network's. The method keeps no map alive.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool Differs(IEnumerable<Action> hooks)
    {
        bool same = false;
        Exception? error = Attempt(hooks, default, (_, outputs) => same = Same(_outputs, outputs));
        foreach (TrialPlace place in _places) place.Restore();
        return error is not null || !same;
    }

    /// <summary>A network that counts its calls, or draws numbers elsewhere, does not repeat itself.</summary>
    private bool IsRepeatable() => !Differs([]) && !Differs([]);

    private Exception? Attempt(IEnumerable<Action> hooks, DryMode mode, Action<Tensor[], Tensor[]> look)
    {
        List<Action> removals = [];
        try
        {
            removals.AddRange(hooks);
            DryForward.Run(_model, _example, mode, look);
            return null;
        }
        catch (Exception e)
        {
            return e is ArgumentException { InnerException: { } inner } ? inner : e;
        }
        finally
        {
            foreach (Action removal in removals) removal();
        }
    }

    private void CheckGradients()
    {
        Exception? error = Backward(training: false);
        bool[] written = [.. _places.Select(place => place.WasWritten())];
        foreach (TrialPlace place in _places) place.Collect();
        if (error is not null)
        {
            if (PlainBackward() is { } own)
            {
                Note = "It was not checked whether gradients arrive, because the network itself does not take a backward pass " +
                    "in evaluation mode: " +
                    FirstLine(own);
                return;
            }

            throw Writing([.. _places.Where((_, i) => written[i])], error);
        }

        if (!_places.Exists(IsMissed)) return;

        // Some networks have gradients, or some of their parts, in training alone.
        _ = Backward(training: true);
        foreach (TrialPlace place in _places) place.Collect();
        foreach (TrialPlace place in _places.Where(IsMissed))
        {
            if (!place.RanWithGradients) throw Refusal(place, WithoutGradients(place.Node));
            if (_hasDifferentiableOutput) throw Refusal(place, Unused(place));
        }

        if (_places.Exists(IsMissed))
        {
            Note = "It was not checked whether gradients arrive, because the network returns no tensor of floating point.";
        }
    }

    private static bool IsMissed(TrialPlace place) => place is { NeedsGradient: true, HasGradient: false };

    private Exception? Backward(bool training)
        => Attempt(_places.Select(place => place.Probe()), new DryMode(training, Gradients: true), (_, outputs) =>
        {
            _hasDifferentiableOutput |= Array.Exists(outputs, output => output.is_floating_point());
            Backward(outputs, [.. _places.SelectMany(place => place.Factors)]);
        });

    /// <summary>The backward pass of the network without anything inserted.</summary>
    private Exception? PlainBackward() => Attempt(
        [],
        new DryMode(Gradients: true, ExampleNeedsGradient: true),
        (inputs, outputs) => Backward(outputs, [.. inputs.Where(input => input.requires_grad)]));

    /// <summary>Gradients for these leaves alone: those that parameters hold stay what they are.</summary>
    private static void Backward(Tensor[] outputs, Tensor[] leaves)
    {
        Tensor[] sums = [
            .. outputs.Where(output => output.requires_grad && output.is_floating_point()).Select(output => output.Total())];
        if (sums.Length > 0 && leaves.Length > 0) autograd.backward(sums, inputs: leaves);
    }

    private ArgumentException Changing()
    {
        TrialPlace[] guilty = [.. _places.Where(place => Changes([place]))];
        if (Array.Find(guilty, place => place is { WritesInput: true, Side: InsertionSide.Before }) is { } before)
        {
            return Refusal(before,
                $"{before.Node.Describe()} works in place on its input, and the network reads that input again afterwards. " +
                "An attention before it would hand it another map, so that the input stays as it was and the outputs change. " +
                $"In the forward of {ParentOf(before.Node)}, go on with what the call returns: " +
                $"write x = {Last(before.Node)}.call(x).");
        }

        TrialPlace first = guilty.FirstOrDefault() ?? _places[0];
        return Refusal(first,
            "The network's outputs change even if nothing but a copy of the map stands there. Something changes a map in place " +
            "(relu_, add_, inplace: true) and reads it again under another name, and the copy separates the two. " +
            "Use what the operation or the call returns, or an operation that is not in place.");
    }

    private static ArgumentException Writing(TrialPlace[] written, Exception error) => new(
        "The backward pass fails with an attention " +
        $"{(written.Length > 0 ? string.Join(", ", written.Select(place => place.Describe())) : "there")}: {FirstLine(error)} " +
        "The attention needs the map that it has read, and the network changes this map in place afterwards (add_, relu_, " +
        "inplace: true). " +
        "Write x = x.add(y) instead of x.add_(y), or insert at another place. For inference alone, add .WithoutGradient() to " +
        "the rule.", "plan", error);

    private static string Unused(TrialPlace place) =>
        place is { WritesInput: true, Side: InsertionSide.After }
            ? $"{place.Node.Describe()} works in place on its input, and the network goes on with that input instead of what " +
                "the call returns. " +
              $"In the forward of {ParentOf(place.Node)}, write x = {Last(place.Node)}.call(x)."
            : "The network has gradients there, but none comes back from its outputs: " +
              $"it does not use the map of {Last(place.Node)}.call, or detaches it on the way (detach, no_grad, argmax). " +
              "Insert where the map is used. " +
              "If the attention serves inference alone or a loss beside the outputs, add .WithoutGradient() to the rule.";

    /// <summary>What to do about a submodule that the network runs without gradients.</summary>
    public static string WithoutGradients(ModuleNode node) =>
        $"{node.Describe()} is run without gradients: no_grad or inference_mode is open around its call, so that the attention " +
        "would never train. " +
        "Freeze the parameters instead (handle.FreezeAllButAttention(), or requires_grad = false) and leave out no_grad " +
        $"around {node.Path}, " +
        "or insert after the part that runs without gradients. For inference alone, add .WithoutGradient() to the rule.";

    private static ArgumentException Refusal(TrialPlace place, string text)
        => new($"An attention {place.Describe()} would not work. {text}", "plan");

    private static string FirstLine(Exception error) => error.Message.Split('\n')[0];

    private static string Last(ModuleNode node) => node.Path.Split('.')[^1];

    private static string ParentOf(ModuleNode node)
        => node.Parent!.Path.Length == 0 ? $"the network ({node.Parent.Module.GetType().Name})" : node.Parent.Describe();

    private static bool Same(Tensor[] expected, Tensor[] actual)
        => expected.Length == actual.Length && expected.Zip(actual).All(pair => Same(pair.First, pair.Second));

    /// <summary>Equal but for what another layout of the same values may round differently.</summary>
    private static bool Same(Tensor expected, Tensor actual)
    {
        if (expected.dtype != actual.dtype || !expected.shape.SequenceEqual(actual.shape)) return false;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        if (!expected.is_floating_point()) return expected.numel() == 0 || expected.eq(actual).all().item<bool>();
        Tensor one = expected.to_type(ScalarType.Float64), other = actual.to_type(ScalarType.Float64);
        if (one.numel() == 0) return true;
        double most = one.nan_to_num(0, 0, 0).abs().max().item<double>();
        double share = expected.dtype is ScalarType.Float16 or ScalarType.BFloat16 ? 0.02 : 1e-4;
        return one.allclose(other, rtol: 0, atol: share * most, equal_nan: true);
    }
}
