namespace TorchSharp.Attention.Onnx;

/// <summary>An axis that was asked to be dynamic needs the example's size.</summary>
internal sealed class FixedAxisException(ulong axes, string reason) : Exception(reason)
{
    public ulong Axes { get; } = axes;
}
