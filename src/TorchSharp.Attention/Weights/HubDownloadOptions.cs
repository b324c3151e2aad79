namespace TorchSharp.Attention;

/// <summary>
/// What <see cref="HubCache.DownloadAsync"/> downloads, from which server and into which folder. Environment variables provide
/// neither a token nor a server.
/// </summary>
public sealed class HubDownloadOptions
{
    /// <summary>The cache folder to download into. Default null: the user's cache, as in <see cref="HubCache.Find"/>.</summary>
    public string? Folder { get; init; }

    /// <summary>
    /// Address of the server. It must use HTTPS, except for a server on this machine. Default <c>https://huggingface.co</c>.
    /// </summary>
    public Uri Endpoint { get; init; } = new("https://huggingface.co");

    /// <summary>A branch, a tag or a commit. Default <c>main</c>.</summary>
    public string Revision { get; init; } = "main";

    /// <summary>
    /// Path of the file in the repository. Default null: <c>model.safetensors</c>, or <c>pytorch_model.bin</c> if the repository
    /// lacks it.
    /// </summary>
    public string? File { get; init; }

    /// <summary>
    /// An access token, for private and gated models. It is sent only to the server of <see cref="Endpoint"/>, not to servers
    /// that it redirects to. Default null.
    /// </summary>
    public string? Token { get; init; }

    /// <summary>Largest file that is downloaded, in bytes. Default 16 GiB.</summary>
    public long MaximumBytes { get; init; } = 16L << 30;

    /// <summary>
    /// Longest time without data from the server. The time of the whole download is not limited. Default 30 seconds.
    /// </summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// The HTTP client to use, for example with a proxy or your own certificates. It is not disposed. Its handler must not follow
    /// redirects (<c>AllowAutoRedirect = false</c>), because each redirect is checked here, and must not decompress contents.
    /// Default null: a new client.
    /// </summary>
    public HttpClient? HttpClient { get; init; }
}
