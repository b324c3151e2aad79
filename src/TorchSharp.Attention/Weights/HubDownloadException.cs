using System.Net;

namespace TorchSharp.Attention;

/// <summary>
/// A download failed, or the received data differ from what the server announced. The message names the address, the problem and
/// the remedy. Received data are kept for the next attempt, unless their checksum is wrong.
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
    /// The HTTP status of a refused request, such as 401, 403 or 404. Null if the download failed for another reason.
    /// </summary>
    public HttpStatusCode? StatusCode { get; init; }
}
