using System.Reflection;

namespace TorchSharp.Attention;

/// <summary>
/// Every kind of attention that JSON and command lines can name: the library's own, and those that a program registers.
/// </summary>
public static class AttentionCatalog
{
    private static readonly object Gate = new();
    private static readonly SortedDictionary<string, Type> Types = Own();

    /// <summary>The known kinds, sorted.</summary>
    public static IReadOnlyList<string> Kinds
    {
        get
        {
            lock (Gate) return [.. Types.Keys];
        }
    }

    /// <summary>The default settings of a kind.</summary>
    /// <param name="kind">A name out of <see cref="Kinds"/>; case does not matter.</param>
    /// <exception cref="ArgumentException">The kind is unknown; the message lists the known ones.</exception>
    public static AttentionOptions Create(string kind) => (AttentionOptions)Activator.CreateInstance(TypeOf(kind))!;

    /// <summary>
    /// Makes a program's own options record known. It needs <see cref="AttentionKindAttribute"/> and a parameterless constructor.
    /// </summary>
    /// <typeparam name="TOptions">The options record.</typeparam>
    /// <exception cref="ArgumentException">The attribute is missing, or another type has the same kind.</exception>
    public static void Register<TOptions>()
        where TOptions : AttentionOptions, new()
    {
        string kind = KindOf(typeof(TOptions));
        lock (Gate)
        {
            if (Types.TryGetValue(kind, out Type? other) && other != typeof(TOptions))
            {
                throw new ArgumentException(
                    $"The kind '{kind}' is {other.FullName} already; give {typeof(TOptions).FullName} another name.");
            }

            Types[kind] = typeof(TOptions);
        }
    }

    internal static string KindOf(Type type)
        => type.GetCustomAttribute<AttentionKindAttribute>()?.Kind ?? throw new ArgumentException(
        $"{type.FullName} has no kind; put [AttentionKind(\"name\")] on it.", nameof(type));

    internal static Type TypeOf(string kind)
    {
        ArgumentNullException.ThrowIfNull(kind);
        lock (Gate)
        {
            return Types.TryGetValue(kind, out Type? type) ? type : throw new ArgumentException(
                $"There is no attention '{kind}'. Known kinds: {string.Join(", ", Types.Keys)}.", nameof(kind));
        }
    }

    private static SortedDictionary<string, Type> Own()
    {
        SortedDictionary<string, Type> types = new(StringComparer.OrdinalIgnoreCase);
        foreach (Type type in typeof(AttentionCatalog).Assembly.GetTypes())
        {
            if (!type.IsAbstract && type.IsSubclassOf(typeof(AttentionOptions))) types.Add(KindOf(type), type);
        }

        return types;
    }
}
