namespace TorchSharp.Attention.Onnx;

/// <summary>Input shapes that were not compared, because the network does not accept them.</summary>
/// <param name="InputShapes">Shape of each input.</param>
/// <param name="Reason">What the network said.</param>
public sealed record OnnxSkippedCheck(ValueList<ValueList<long>> InputShapes, string Reason)
{
    /// <summary>Shapes and reason.</summary>
    public override string ToString() => $"{string.Join(", ", InputShapes)}: {Reason}";
}
