namespace TorchSharp.Attention.Onnx;

/// <summary>
/// The exported file computes something else than the network, or the two could not be compared. Reasons for the latter: ONNX
/// Runtime cannot run the file, the network accepts only one size of a dynamic axis, or a map is one that no
/// <see cref="AttentionRecorder"/> records. The file was deleted.
/// </summary>
public sealed class OnnxVerificationException : Exception
{
    /// <summary>Describes the failure.</summary>
    /// <param name="message">What was found.</param>
    /// <param name="checks">What was compared.</param>
    public OnnxVerificationException(string message, IReadOnlyList<OnnxCheck> checks)
        : base(message) => Checks = checks;

    /// <summary>The comparisons that were made. Empty if verification failed before the first one.</summary>
    public IReadOnlyList<OnnxCheck> Checks { get; }
}
