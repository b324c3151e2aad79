namespace TorchSharp.Attention;

/// <summary>
/// A file of weights is damaged, malicious or of an unsupported kind. The message names the file, the problem and the remedy.
/// </summary>
public sealed class WeightsFormatException : IOException
{
    /// <summary>An exception without a message of its own.</summary>
    public WeightsFormatException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What is wrong, and the remedy.</param>
    public WeightsFormatException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and its cause.</summary>
    /// <param name="message">What is wrong, and the remedy.</param>
    /// <param name="innerException">The cause.</param>
    public WeightsFormatException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
