namespace TorchSharp.Attention;

/// <summary>Names and shapes in messages.</summary>
internal static class Listing
{
    private const int Shown = 8;

    /// <summary>The first few names, and how many more there are.</summary>
    public static string Of(IEnumerable<string> names) => Of([.. names], name => Short(name));

    /// <summary>The first few things, and how many more there are; the rest is not even put into words.</summary>
    public static string Of<T>(IReadOnlyCollection<T> all, Func<T, string> text, int shown = Shown)
    {
        string first = string.Join(", ", all.Take(shown).Select(text));
        return all.Count > shown ? $"{first} and {all.Count - shown} more" : first;
    }

    /// <summary>A text out of a file in quotation marks, shortened and without control characters.</summary>
    public static string Short(string text)
    {
        return $"'{string.Concat(Cut(text).Select(c => char.IsControl(c) ? '?' : c))}'";
    }

    /// <summary>The start of a long text.</summary>
    public static string Cut(string text)
    {
        const int longest = 80;
        return text.Length > longest ? text[..longest] + "…" : text;
    }

    public static string Shape(IEnumerable<long> shape) => $"[{string.Join(", ", shape.Take(Shown))}]";
}
