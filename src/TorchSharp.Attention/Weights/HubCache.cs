using System.Diagnostics.CodeAnalysis;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention;

/// <summary>
/// Finds and downloads weights by the name of a model on Hugging Face's hub. <see cref="Find"/> only looks at local files. Only
/// <see cref="DownloadAsync"/> uses the network, and nothing in this library calls it.
/// </summary>
public static partial class HubCache
{
    private static readonly string[] FileNames = ["model.safetensors", "pytorch_model.bin"];

    /// <summary>Finds the file with the weights of a model in the local cache.</summary>
    /// <param name="name">The model's name on the hub: <c>owner/model</c>, such as <c>timm/seresnet50.a1_in1k</c>.</param>
    /// <param name="folder">
    /// A cache of the hub, or a folder with a folder <c>owner/model</c>. Null for this user's cache, which is found as Hugging
    /// Face's tools find it: the environment variables <c>HF_HUB_CACHE</c>, <c>HUGGINGFACE_HUB_CACHE</c>, <c>HF_HOME</c> (its
    /// folder <c>hub</c>) and <c>XDG_CACHE_HOME</c> (its folder <c>huggingface/hub</c>), the first that is set, else
    /// <c>.cache/huggingface/hub</c> in the home folder.
    /// </param>
    /// <param name="revision">A branch, a tag or a commit. Default <c>main</c>. A plain folder has none.</param>
    /// <returns>
    /// The path of <c>model.safetensors</c>, else of <c>pytorch_model.bin</c>, for <see cref="WeightsExtensions.LoadWeights"/>.
    /// </returns>
    /// <exception cref="ArgumentException">The name or the revision is not one, or could lead out of the folder.</exception>
    /// <exception cref="FileNotFoundException">
    /// There are no such weights; the message says where was looked and how to fetch them.
    /// </exception>
    public static string Find(string name, string? folder = null, string revision = "main")
    {
        string model = ModelFolder(name, revision, ref folder), snapshot = Path.Combine(
            model, "snapshots", Commit(model, revision));
        string plain = Path.Combine([folder, .. name.Split('/')]);
        return new[] { snapshot, plain }.SelectMany(place => FileNames.Select(file => Path.Combine(place, file))).FirstOrDefault(
            HubFiles.IsThere)
            ?? throw new FileNotFoundException(
                $"There are no weights of '{name}' in '{snapshot}' nor in '{plain}' ({string.Join(", ", FileNames)}). " +
                $"Fetch them with HubCache.DownloadAsync, or with Hugging Face's command: hf download {name}",
                Path.Combine(snapshot, FileNames[0]));
    }

    /// <summary>
    /// Downloads the weights of a model from the hub by HTTPS into a cache, where <see cref="Find"/> and Hugging Face's tools
    /// find them. A file that exists already is not downloaded again, and an interrupted download is continued. The contents are
    /// compared with the checksum of the server (SHA-256, or git's SHA-1) before the file gets its name. If the revision is a
    /// commit, an existing file is compared with the checksum in the name of its blob, without any request to the server. A
    /// damaged, incomplete or missing file is downloaded again. A complete cache can be read-only. Several processes can download
    /// into one cache.
    /// </summary>
    /// <param name="name">The model's name on the hub: <c>owner/model</c>, such as <c>timm/seresnet50.a1_in1k</c>.</param>
    /// <param name="options">From where, to where and which file. Null: the defaults.</param>
    /// <param name="progress">Receives the progress of the download. Default null.</param>
    /// <param name="cancellationToken">Cancels the download. Received data are kept, and the next call continues there.</param>
    /// <returns>The file's path, for <see cref="WeightsExtensions.LoadWeights"/>.</returns>
    /// <exception cref="ArgumentException">
    /// A name or an option is not one, could lead out of the folder, or is a plain http address.
    /// </exception>
    /// <exception cref="HubDownloadException">
    /// There is no network or no such file, the server refuses (<see cref="HubDownloadException.StatusCode"/>) or is silent, or
    /// the contents have another checksum or size than announced; the message names both checksums.
    /// </exception>
    /// <exception cref="IOException">The cache cannot be written, as when the disk is full. What was received stays.</exception>
    /// <exception cref="UnauthorizedAccessException">The file must be fetched, and the cache may not be written.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static async Task<string> DownloadAsync(
        string name, HubDownloadOptions? options = null, IProgress<HubDownloadProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        options ??= new HubDownloadOptions();
        string? folder = options.Folder;
        string model = ModelFolder(name, options.Revision, ref folder);
        if (options.File is { } file && !file.Split('/').All(IsPart))
        {
            throw new ArgumentException(
                $"File is '{file}'; it is a path in the repository, such as model.safetensors.", nameof(options));
        }

        using HubDownload download = new(name, folder, model, options, progress, cancellationToken);
        return await download.RunAsync(options.File is null ? FileNames : [options.File]).ConfigureAwait(false);
    }

    /// <summary>
    /// The folder of a model in a cache, this user's where none is given. Nothing but checked names gets into a path.
    /// </summary>
    private static string ModelFolder(string name, string revision, [NotNull] ref string? folder)
    {
        string[] parts = (name ?? throw new ArgumentNullException(nameof(name))).Split('/');
        if (parts.Length != 2 || !parts.All(IsPart))
        {
            throw new ArgumentException(
                $"name is '{name}'; a model's name is owner/model, such as timm/seresnet50.a1_in1k.", nameof(name));
        }

        if (!(revision ?? throw new ArgumentNullException(nameof(revision))).Split('/').All(IsPart))
        {
            throw new ArgumentException(
                $"revision is '{revision}'; it is a branch, a tag or a commit, such as main.", nameof(revision));
        }

        folder ??= UserCache();
        return Path.Combine(folder, $"models--{parts[0]}--{parts[1]}");
    }

    /// <summary>The commit that a branch or tag stands for; the revision itself where it is one, or is not known.</summary>
    private static string Commit(string model, string revision)
    {
        return HubFiles.ReadReference(Path.Combine(model, "refs", revision)) is { } commit && IsPart(commit) ? commit : revision;
    }

    /// <summary>Where Hugging Face's tools keep what they fetch.</summary>
    /// <param name="variable">An environment variable's value; null or empty where it is not set.</param>
    /// <param name="user">The user's home folder.</param>
    internal static string UserCache(Func<string, string?> variable, string user)
    {
        return Set("HF_HUB_CACHE") ?? Set("HUGGINGFACE_HUB_CACHE")
            ?? Path.Combine(
                Set("HF_HOME") ?? Path.Combine(Set("XDG_CACHE_HOME") ?? Path.Combine(user, ".cache"), "huggingface"), "hub");

        // The tools put the home folder and other variables in too.
        string? Set(string name)
        {
            if (variable(name) is not { Length: > 0 } value) return null;
            if (value == "~" || value.StartsWith("~/", StringComparison.Ordinal)) value = user + value[1..];
            return Variable().Replace(value, match => variable(match.Groups["name"].Value) ?? match.Value);
        }
    }

    private static string UserCache()
        => UserCache(Environment.GetEnvironmentVariable, Environment.GetFolderPath(Environment.SpecialFolder.UserProfile));

    /// <summary>Whether a text can stand between slashes without leading elsewhere.</summary>
    private static bool IsPart(string text) => Part().IsMatch(text) && text.Trim('.').Length > 0;

    [GeneratedRegex(@"\$(?:\{(?<name>\w+)\}|(?<name>\w+))", RegexOptions.CultureInvariant)]
    private static partial Regex Variable();

    [GeneratedRegex(@"\A[A-Za-z0-9._-]{1,96}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Part();
}
