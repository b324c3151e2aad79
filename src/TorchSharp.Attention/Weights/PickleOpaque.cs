namespace TorchSharp.Attention;

/// <summary>An object that no weights need: what it is, and nothing of what it holds.</summary>
internal sealed record PickleOpaque(PickleGlobal Class, string? Kind = null)
{
    public static readonly PickleOpaque Set = new(new("builtins", "set"), "a set"), Bytes = new(
        new("builtins", "bytes"), "bytes"),
        LargeInteger = new(new("builtins", "int"), "an integer");

    public string What => Kind is null ? Listing.Short(Class.ToString()) : Kind;

    /// <summary>A tensor of a class or type that TorchSharp lacks.</summary>
    public static PickleOpaque TensorOf(PickleGlobal type)
        => new(type, $"a tensor of {Listing.Short(type.ToString())}, which is not read");
}
