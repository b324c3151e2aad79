namespace TorchSharp.Attention;

/// <summary>
/// What <see cref="HubCache.DownloadAsync"/> fetches, from where and to where. No environment variable gives a token or a server.
/// </summary>
public sealed class HubDownloadOptions
{
    /// <summary>The cache of the hub that is written to. Default null: this user's, as in <see cref="HubCache.Find"/>.</summary>
    public string? Folder { get; init; }

    /// <summary>The server. HTTPS, except on this machine. Default <c>https://huggingface.co</c>.</summary>
    public Uri Endpoint { get; init; } = new("https://huggingface.co");

    /// <summary>A branch, a tag or a commit. Default <c>main</c>.</summary>
    public string Revision { get; init; } = "main";

    /// <summary>
    /// The file in the repository. Default null: <c>model.safetensors</c>, or <c>pytorch_model.bin</c> where there is none.
    /// </summary>
    public string? File { get; init; }

    /// <summary>
    /// An access token, for private and gated models. It is sent to the server of <see cref="Endpoint"/> alone, not
    /// to where that redirects. Default null.
    /// </summary>
    public string? Token { get; init; }

    /// <summary>The largest file that is fetched, in bytes. Default 16 GiB.</summary>
    public long MaximumBytes { get; init; } = 16L << 30;

    /// <summary>How long the server may be silent. It does not limit the whole download. Default 30 seconds.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// The client to use, for a proxy or certificates of your own; it stays open. Its handler must not follow redirects
    /// (<c>AllowAutoRedirect = false</c>), since each is checked here, nor unpack contents. Default null: one of its own.
    /// </summary>
    public HttpClient? HttpClient { get; init; }
}
