using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Onnx;

/// <summary>A pattern for names of nodes: * for any characters, ? for one.</summary>
internal sealed class NodePattern(string pattern)
{
    // Without backtracking, so that no pattern takes long.
    private readonly Regex _expression = new(
        $@"\A{Translated(pattern)}\z",
        RegexOptions.CultureInvariant | RegexOptions.NonBacktracking | RegexOptions.Singleline);

    public bool IsMatch(string name) => _expression.IsMatch(name);

    private static string Translated(string pattern)
        => Regex.Escape(pattern).Replace(@"\*", ".*", StringComparison.Ordinal).Replace(@"\?", ".", StringComparison.Ordinal);
}
