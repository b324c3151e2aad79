namespace TorchSharp.Attention;

/// <summary>Names a kind of attention for JSON and command lines. Put it on the options record.</summary>
/// <param name="kind">The name, in lower case with hyphens: <c>cbam</c>.</param>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class AttentionKindAttribute(string kind) : Attribute
{
    /// <summary>The name, in lower case with hyphens.</summary>
    public string Kind { get; } = kind;
}
