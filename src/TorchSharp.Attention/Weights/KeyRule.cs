namespace TorchSharp.Attention;

/// <summary>Rewrites the names that a pattern matches.</summary>
/// <param name="Pattern">
/// A regular expression, such as <c>^layer(?&lt;stage&gt;\d+)\.</c>; only named groups capture. Lookarounds and references back
/// are not supported, so that matching takes time in proportion to the name.
/// </param>
/// <param name="Replacement">
/// What stands in place of each match, with groups as <c>${stage}</c>; null drops the tensor: it is
/// read by nobody and is not unexpected.
/// </param>
/// <param name="Reshape">What happens to the shape. Default nothing.</param>
public sealed record KeyRule(string Pattern, string? Replacement, KeyReshape Reshape = KeyReshape.None);
