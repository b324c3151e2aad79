using System.Text.RegularExpressions;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>The reference's names of parameters and buffers as ours. The first rule that matches acts; without one, names are the same.</summary>
internal sealed class KeyMap(params KeyMap.Rule[] rules)
{
    /// <summary>Both use the same names.</summary>
    public static KeyMap Same { get; } = new();

    /// <summary>Our name of the reference's <paramref name="name"/>.</summary>
    public string Name(string name) => Find(name) is { } rule ? rule.Pattern.Replace(name, rule.Replacement) : name;

    /// <summary>A reference's tensor in our shape: where a rule says so, a linear weight [a, b] becomes a 1×1 convolution's.</summary>
    public Tensor Value(string name, Tensor tensor) =>
        Find(name) is { LinearToConvolution: true } && tensor.dim() == 2 ? tensor.unsqueeze(-1).unsqueeze(-1) : tensor.alias();

    private Rule? Find(string name) => Array.Find(rules, rule => rule.Pattern.IsMatch(name));

    /// <summary>A pattern from the start of a name, its replacement, and whether a linear weight becomes a convolution's.</summary>
    /// <param name="Text">The pattern.</param>
    /// <param name="Replacement">Our name; groups of the pattern as <c>${name}</c>.</param>
    /// <param name="LinearToConvolution">Whether [a, b] becomes [a, b, 1, 1].</param>
    internal sealed record Rule(string Text, string Replacement, bool LinearToConvolution = false)
    {
        public Regex Pattern { get; } = new(Text, RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture);
    }
}
