namespace TorchSharp.Attention;

/// <summary>The part of attentions in a network's cost, each from 0 to 1; 0 where there is nothing to share.</summary>
/// <param name="Parameters">Of the parameters.</param>
/// <param name="MultiplyAccumulates">Of the strict multiply-accumulates.</param>
/// <param name="ElementwiseOperations">Of the element-wise operations that are seen.</param>
/// <param name="BytesMoved">Of the bytes moved.</param>
/// <param name="ActivationBytes">Of the activations.</param>
/// <param name="Milliseconds">Of the time; null where it was not measured.</param>
public sealed record AttentionShare(
    double Parameters, double MultiplyAccumulates, double ElementwiseOperations, double BytesMoved, double ActivationBytes,
    double? Milliseconds);
