using System.Reflection;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Holds an optimizer's parameters against a network's.</summary>
internal static class OptimizerParameters
{
    private const int MostNames = 5;

    // What an optimizer knows about each parameter, by the parameter's handle. The list of parameters
    // itself may be one that follows the network.
    private static readonly FieldInfo? States = typeof(OptimizerHelper).GetField(
        "_state", BindingFlags.Instance | BindingFlags.NonPublic);
    private static readonly FieldInfo? Owner = typeof(OptimizerState).GetField(
        "_parameter", BindingFlags.Instance | BindingFlags.NonPublic);

    public static void Check(nn.Module model, optim.Optimizer optimizer)
    {
        (string name, Parameter parameter)[] all = [.. model.named_parameters()];
        const string remedy = "Make the optimizer, and schedulers of its learning rate, after InsertAttention, Remove, to and " +
            "whatever else changes parameters: " +
            "optim.AdamW(model.parameters().Where(p => p.requires_grad)).";
        Parameter[] listed = [.. optimizer.parameters()];
        int disposed = listed.Count(parameter => parameter.IsInvalid);
        if (disposed > 0)
        {
            throw new InvalidOperationException(
                $"The optimizer ({optimizer.GetType().Name}) holds {disposed} parameters that have been disposed since it was " +
                "made, " +
                $"by a removal or a conversion. {remedy}");
        }

        HashSet<nint> known = [
            .. listed.Where(parameter => HasState(optimizer, parameter)).Select(parameter => parameter.Handle)];
        string[] missing = [
            .. all.Where(entry => entry.parameter.requires_grad && !known.Contains(entry.parameter.Handle)).Select(
                entry => entry.name)];
        if (missing.Length == 0) return;
        throw new InvalidOperationException(
            $"The optimizer ({optimizer.GetType().Name}) does not train {missing.Length} of the " +
            $"{all.Count(entry => entry.parameter.requires_grad)} parameters of " +
            $"{ModuleNode.NameOf(model)} whose requires_grad is true: " +
            $"{string.Join(", ", missing.Take(MostNames))}{(missing.Length > MostNames ? ", …" : "")}. " +
            $"It was made before they were there. {remedy}");
    }

    private static bool HasState(optim.Optimizer optimizer, Parameter parameter)
    {
        if (optimizer is not OptimizerHelper
            || States?.GetValue(optimizer) is not IDictionary<nint, OptimizerState> { Count: > 0 } states)
        {
            return true;
        }

        return states.TryGetValue(parameter.Handle, out OptimizerState? state)
            && (Owner?.GetValue(state) is not Parameter owner || ReferenceEquals(owner, parameter));
    }
}
