namespace TorchSharp.Attention.Onnx;

/// <summary>A node that stays in float.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Operator">Its operator.</param>
/// <param name="Reason">Why.</param>
public sealed record FloatNode(string Name, string Operator, string Reason)
{
    /// <summary>Name, operator, reason.</summary>
    public override string ToString() => $"{Name} ({Operator}): {Reason}";
}
