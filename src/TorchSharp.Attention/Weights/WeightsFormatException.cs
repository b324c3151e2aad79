namespace TorchSharp.Attention;

/// <summary>
/// A file of weights is damaged, hostile, or of a kind that is not read; the message names the
/// file, what is wrong and what would do.
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
