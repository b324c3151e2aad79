using System.Net;

namespace TorchSharp.Attention;

/// <summary>
/// Weights could not be fetched, or what came is not what was announced; the message names the address, what is wrong and what
/// would do. What was received so far stays for the next attempt, unless its checksum is wrong.
/// </summary>
public sealed class HubDownloadException : IOException
{
    /// <summary>An exception without a message of its own.</summary>
    public HubDownloadException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What is wrong, and the remedy.</param>
    public HubDownloadException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and its cause.</summary>
    /// <param name="message">What is wrong, and the remedy.</param>
    /// <param name="innerException">The cause.</param>
    public HubDownloadException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }

    /// <summary>
    /// The server's answer where it was a refusal, such as 401, 403 or 404; null where the failure was another.
    /// </summary>
    public HttpStatusCode? StatusCode { get; init; }
}
