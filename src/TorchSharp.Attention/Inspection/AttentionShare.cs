namespace TorchSharp.Attention;

/// <summary>
/// The share of attentions in the cost of a network, each number from 0 to 1. It is 0 if the network has no such cost.
/// </summary>
/// <param name="Parameters">Of the parameters.</param>
/// <param name="MultiplyAccumulates">Of the strict multiply-accumulates.</param>
/// <param name="ElementwiseOperations">Of the element-wise operations that are seen.</param>
/// <param name="BytesMoved">Of the bytes moved.</param>
/// <param name="ActivationBytes">Of the activations.</param>
/// <param name="Milliseconds">Of the time; null where it was not measured.</param>
public sealed record AttentionShare(
    double Parameters, double MultiplyAccumulates, double ElementwiseOperations, double BytesMoved, double ActivationBytes,
    double? Milliseconds);
