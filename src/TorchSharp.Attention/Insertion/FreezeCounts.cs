using System.Runtime.CompilerServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A parameter by the module that it belongs to and its name there, which a conversion of the network does not change.</summary>
internal readonly record struct ParameterPlace(nn.Module Owner, string Name);

/// <summary>How many freezes hold each parameter of the networks that are alive, so that freezes may overlap and end in any order.</summary>
internal static class FreezeCounts
{
    private static readonly ConditionalWeakTable<nn.Module, Dictionary<string, int>> Counts = [];
    private static readonly object Gate = new();

    /// <summary>Every parameter of a network at each module that it belongs to.</summary>
    public static IEnumerable<(ParameterPlace Place, Parameter Parameter)> Places(nn.Module model)
    {
        HashSet<nn.Module> owners = new(ReferenceEqualityComparer.Instance);
        HashSet<Parameter> listed = new(ReferenceEqualityComparer.Instance);
        foreach (nn.Module owner in model.modules().Prepend(model))
        {
            if (!owners.Add(owner)) continue;
            foreach ((string name, Parameter parameter) in owner.named_parameters(recurse: false))
            {
                listed.Add(parameter);
                yield return (new ParameterPlace(owner, name), parameter);
            }
        }

        // A class may list its parameters as it likes.
        foreach ((string name, Parameter parameter) in model.named_parameters())
        {
            if (listed.Add(parameter)) yield return (new ParameterPlace(model, name), parameter);
        }
    }

    public static bool IsHeld(ParameterPlace place)
    {
        lock (Gate) return Counts.TryGetValue(place.Owner, out Dictionary<string, int>? counts) && counts.GetValueOrDefault(place.Name) > 0;
    }

    public static void Add(ParameterPlace place, int number)
    {
        lock (Gate)
        {
            Dictionary<string, int> counts = Counts.GetOrCreateValue(place.Owner);
            counts[place.Name] = counts.GetValueOrDefault(place.Name) + number;
        }
    }
}
