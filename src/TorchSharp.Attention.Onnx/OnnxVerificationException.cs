namespace TorchSharp.Attention.Onnx;

/// <summary>
/// A file computes something else than its network, or it could not be compared: ONNX Runtime does not take it, a dynamic axis
/// along which the network takes no other size, a map that no recorder has. The file was not kept.
/// </summary>
public sealed class OnnxVerificationException : Exception
{
    /// <summary>Describes the failure.</summary>
    /// <param name="message">What was found.</param>
    /// <param name="checks">What was compared.</param>
    public OnnxVerificationException(string message, IReadOnlyList<OnnxCheck> checks)
        : base(message) => Checks = checks;

    /// <summary>What was compared; empty where it did not come to that.</summary>
    public IReadOnlyList<OnnxCheck> Checks { get; }
}
