namespace TorchSharp.Attention;

/// <summary>
/// Registers a kind of backbone. It stands on the options record, and <see cref="BackboneCatalog"/> finds it there.
/// </summary>
/// <param name="kind">The name in JSON, in camel case: <c>resNet</c>.</param>
/// <param name="network">The network that the options build.</param>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
internal sealed class BackboneKindAttribute(string kind, Type network) : Attribute
{
    /// <summary>The name in JSON.</summary>
    public string Kind { get; } = kind;

    /// <summary>The network that the options build.</summary>
    public Type Network { get; } = network;
}
