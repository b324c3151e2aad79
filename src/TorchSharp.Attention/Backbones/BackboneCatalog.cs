using System.Reflection;

namespace TorchSharp.Attention;

/// <summary>
/// Every kind of backbone of the library. JSON, messages, export and tests ask here; none of them names a network.
/// </summary>
internal static class BackboneCatalog
{
    private static readonly SortedDictionary<string, Entry> Entries = Own();

    /// <summary>The names in JSON, sorted.</summary>
    public static IEnumerable<string> Kinds => Entries.Keys;

    /// <summary>The network types, sorted by their names in JSON.</summary>
    public static IEnumerable<Type> Networks => Entries.Values.Select(entry => entry.Network);

    /// <summary>The default options of every kind.</summary>
    public static IEnumerable<BackboneOptions> Defaults
        => Entries.Values.Select(entry => (BackboneOptions)Activator.CreateInstance(entry.Options)!);

    /// <summary>The type of the options of a kind; null where the kind is unknown.</summary>
    public static Type? Find(string kind) => Entries.TryGetValue(kind, out Entry? entry) ? entry.Options : null;

    /// <summary>The name of a network's kind in JSON.</summary>
    public static string KindOf(BackboneOptions options) => options.GetType().GetCustomAttribute<BackboneKindAttribute>()!.Kind;

    /// <summary>For messages: the networks with a position, such as <c>MobileNetV2 or ResNet</c>.</summary>
    public static string With(AttentionPosition position)
        => Names(options => options.Sites().Any(site => site.Position == position), "or");

    /// <summary>For messages: the networks that can be pruned.</summary>
    public static string Prunable() => Names(options => options.PruningObstacle is null, "and");

    private static string Names(Func<BackboneOptions, bool> chosen, string last)
    {
        string[] names = [
            .. Entries.Values.Where(entry => chosen((BackboneOptions)Activator.CreateInstance(entry.Options)!)).Select(
                entry => entry.Network.Name)];
        return names.Length < 2 ? string.Concat(names) : $"{string.Join(", ", names[..^1])} {last} {names[^1]}";
    }

    private static SortedDictionary<string, Entry> Own()
    {
        SortedDictionary<string, Entry> entries = new(StringComparer.Ordinal);
        foreach (Type type in typeof(BackboneCatalog).Assembly.GetTypes().Where(
            type => !type.IsAbstract && type.IsSubclassOf(typeof(BackboneOptions))))
        {
            BackboneKindAttribute kind = type.GetCustomAttribute<BackboneKindAttribute>()
                ?? throw new InvalidOperationException($"{type.Name} has no [{nameof(BackboneKindAttribute)}].");
            entries.Add(kind.Kind, new Entry(type, kind.Network));
        }

        return entries;
    }

    private sealed record Entry(Type Options, Type Network);
}
