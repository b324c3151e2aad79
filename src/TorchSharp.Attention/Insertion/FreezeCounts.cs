using System.Runtime.CompilerServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// How many freezes hold each parameter of the networks that are alive, so that freezes may overlap and end in any order.
/// </summary>
internal static class FreezeCounts
{
    private static readonly ConditionalWeakTable<nn.Module, Dictionary<string, int>> Counts = [];
    private static readonly object Gate = new();

    /// <summary>Every parameter of a network at each module that it belongs to.</summary>
    public static IEnumerable<(OwnedParameter Place, Parameter Parameter)> Places(nn.Module model)
    {
        HashSet<nn.Module> owners = new(ReferenceEqualityComparer.Instance);
        HashSet<Parameter> listed = new(ReferenceEqualityComparer.Instance);
        foreach (nn.Module owner in model.modules().Prepend(model))
        {
            if (!owners.Add(owner)) continue;
            foreach ((string name, Parameter parameter) in owner.named_parameters(recurse: false))
            {
                listed.Add(parameter);
                yield return (new OwnedParameter(owner, name), parameter);
            }
        }

        // A class may list its parameters as it likes.
        foreach ((string name, Parameter parameter) in model.named_parameters())
        {
            if (listed.Add(parameter)) yield return (new OwnedParameter(model, name), parameter);
        }
    }

    public static bool IsHeld(OwnedParameter place)
    {
        lock (Gate) return Counts.TryGetValue(place.Owner, out Dictionary<string, int>? counts)
            && counts.GetValueOrDefault(place.Name) > 0;
    }

    public static void Add(OwnedParameter place, int number)
    {
        lock (Gate)
        {
            Dictionary<string, int> counts = Counts.GetOrCreateValue(place.Owner);
            counts[place.Name] = counts.GetValueOrDefault(place.Name) + number;
        }
    }
}
