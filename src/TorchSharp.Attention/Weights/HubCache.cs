using System.Text.RegularExpressions;

namespace TorchSharp.Attention;

/// <summary>
/// Finds weights that Hugging Face's tools have already fetched, by the model's name. It only looks at files; it never goes to the network.
/// </summary>
public static partial class HubCache
{
    private const int LongestReference = 200;

    private static readonly string[] FileNames = ["model.safetensors", "pytorch_model.bin"];

    /// <summary>The file of a model's weights.</summary>
    /// <param name="name">The model's name on the hub: <c>owner/model</c>, such as <c>timm/seresnet50.a1_in1k</c>.</param>
    /// <param name="folder">
    /// A cache of the hub, or a folder with a folder <c>owner/model</c>. Null for this user's cache: the environment variables
    /// <c>HF_HUB_CACHE</c> or <c>HF_HOME</c>, else <c>.cache/huggingface/hub</c> in the home folder.
    /// </param>
    /// <param name="revision">A branch, a tag or a commit. Default <c>main</c>. A plain folder has none.</param>
    /// <returns>
    /// The path of <c>model.safetensors</c>, else of <c>pytorch_model.bin</c>, for <see cref="WeightsExtensions.LoadWeights"/>.
    /// </returns>
    /// <exception cref="ArgumentException">The name or the revision is not one, or could lead out of the folder.</exception>
    /// <exception cref="FileNotFoundException">There are no such weights; the message says where was looked and how to fetch them.</exception>
    public static string Find(string name, string? folder = null, string revision = "main")
    {
        string[] parts = (name ?? throw new ArgumentNullException(nameof(name))).Split('/');
        if (parts.Length != 2 || !parts.All(IsPart))
        {
            throw new ArgumentException($"name is '{name}'; a model's name is owner/model, such as timm/seresnet50.a1_in1k.", nameof(name));
        }

        if (!(revision ?? throw new ArgumentNullException(nameof(revision))).Split('/').All(IsPart))
        {
            throw new ArgumentException($"revision is '{revision}'; it is a branch, a tag or a commit, such as main.", nameof(revision));
        }

        folder ??= UserCache();
        string model = Path.Combine(folder, $"models--{parts[0]}--{parts[1]}");
        string snapshot = Path.Combine(model, "snapshots", Commit(model, revision)), plain = Path.Combine(folder, parts[0], parts[1]);
        return new[] { snapshot, plain }.SelectMany(place => FileNames.Select(file => Path.Combine(place, file))).FirstOrDefault(File.Exists)
            ?? throw new FileNotFoundException(
                $"There are no weights of '{name}' in '{snapshot}' nor in '{plain}' ({string.Join(", ", FileNames)}). " +
                $"Fetch them with Hugging Face's command: hf download {name}", Path.Combine(snapshot, FileNames[0]));
    }

    /// <summary>The commit that a branch or tag stands for; the revision itself where it is one, or is not known.</summary>
    private static string Commit(string model, string revision)
    {
        string reference = Path.Combine(model, "refs", revision);
        if (!File.Exists(reference) || new FileInfo(reference).Length > LongestReference) return revision;
        string commit = File.ReadAllText(reference).Trim();
        return IsPart(commit) ? commit : revision;
    }

    private static string UserCache()
    {
        if (Environment.GetEnvironmentVariable("HF_HUB_CACHE") is { Length: > 0 } cache) return cache;
        string home = Environment.GetEnvironmentVariable("HF_HOME") is { Length: > 0 } set
            ? set
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache", "huggingface");
        return Path.Combine(home, "hub");
    }

    /// <summary>Whether a text can stand between slashes without leading elsewhere.</summary>
    private static bool IsPart(string text) => Part().IsMatch(text) && text.Trim('.').Length > 0;

    [GeneratedRegex(@"\A[A-Za-z0-9._-]{1,96}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Part();
}
