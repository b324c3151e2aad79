namespace TorchSharp.Attention;

internal sealed class PickleList
{
    /// <summary>Whether a dictionary was made of it.</summary>
    public bool IsTaken { get; set; }

    public List<object?> Items { get; } = [];
}
