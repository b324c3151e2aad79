using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Whether somebody listens to a layer's calls: then the layer must be called.</summary>
internal static class Hooks
{
    private static readonly ConditionalWeakTable<Type, FieldInfo[]> _listsOf = [];

    private static readonly FieldInfo[] _lists =
    [
        .. typeof(nn.HookableModule<
                Func<nn.Module<Tensor, Tensor>, Tensor, Tensor>, Func<nn.Module<Tensor, Tensor>, Tensor, Tensor, Tensor>>)
            .GetFields(BindingFlags.Instance | BindingFlags.NonPublic)
            .Where(field => field.Name.EndsWith("_hooks", StringComparison.Ordinal)),
    ];

    public static bool Any(nn.Module<Tensor, Tensor> layer)
    {
        // A TorchSharp whose fields have other names keeps its hooks to itself: then every layer is called.
        if (_lists.Length == 0) return true;
        foreach (FieldInfo list in _lists)
        {
            if (list.GetValue(layer) is not ICollection { Count: 0 }) return true;
        }

        return false;
    }

    /// <summary>
    /// Number of hooks on a module of whatever inputs and outputs; beyond counting where a TorchSharp keeps them elsewhere.
    /// </summary>
    public static int Count(nn.Module module)
    {
        if (_lists.Length == 0) return int.MaxValue;
        return _listsOf.GetValue(
            module.GetType(), ListsOf).Sum(list => list.GetValue(module) is ICollection hooks ? hooks.Count : 0);
    }

    /// <summary>Whether somebody listens to a module's layers, of whatever depth.</summary>
    public static bool AnyWithin(nn.Module module)
    {
        foreach (nn.Module child in module.modules())
        {
            if (child is nn.Module<Tensor, Tensor> layer && Any(layer)) return true;
        }

        return false;
    }

    private static FieldInfo[] ListsOf(Type module)
        => [
            .. ModuleHooks.Hookable(module)?.GetFields(BindingFlags.Instance | BindingFlags.NonPublic).Where(
                field => field.Name.EndsWith("_hooks", StringComparison.Ordinal)) ?? []];
}
