using System.Text.RegularExpressions;

namespace TorchSharp.Attention;

/// <summary>Patterns for names: <c>*</c> stands for any characters, dots among them, and commas part several patterns.</summary>
internal sealed class NamePatterns
{
    private readonly (string Text, Regex Expression)[] _patterns;

    private NamePatterns((string, Regex)[] patterns) => _patterns = patterns;

    public static NamePatterns Of(string? patterns) => new(
        [.. (patterns ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            .Select(text => (text, Expression(text)))]);

    public bool Match(string name) => Array.Exists(_patterns, pattern => pattern.Expression.IsMatch(name));

    /// <summary>The first pattern that matches none of the names; null where all match something.</summary>
    public string? Idle(IReadOnlyCollection<string> names)
        => Array.Find(_patterns, pattern => !names.Any(pattern.Expression.IsMatch)).Text;

    private static Regex Expression(string pattern) => new(
        $"^{Regex.Escape(pattern).Replace(@"\*", ".*", StringComparison.Ordinal)}$",
        RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
}
