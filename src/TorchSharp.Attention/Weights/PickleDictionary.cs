namespace TorchSharp.Attention;

/// <summary>A dictionary in the order of the file. Keys are not hashed: any value may be one.</summary>
internal sealed class PickleDictionary
{
    public List<KeyValuePair<object?, object?>> Items { get; } = [];
}
