using System.Buffers.Binary;
using System.Text;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>What a file says of one tensor, before its values are read.</summary>
/// <param name="Name">Its name in the file.</param>
/// <param name="Type">The type of its values.</param>
/// <param name="Shape">Its sizes; empty for a single value.</param>
public sealed record WeightsEntry(string Name, ScalarType Type, ValueList<long> Shape);

/// <summary>
/// A file of named tensors: a <see cref="SafetensorsFile"/> or a <see cref="TorchArchive"/>. Opening reads and checks only what the file
/// says about itself; values are read tensor by tensor, when asked for. Reading executes nothing that the file holds.
/// </summary>
/// <remarks>One file may be read from several threads.</remarks>
public abstract class WeightsFile : IDisposable
{
    private readonly SortedDictionary<string, WeightsEntry> _entries = new(StringComparer.Ordinal);
    private readonly ByteSource _source;

    private protected WeightsFile(ByteSource source) => _source = source;

    /// <summary>The file's path, as it was given.</summary>
    public string Path => _source.Path;

    /// <summary>The tensors by name, in ordinal order of the names.</summary>
    public IReadOnlyDictionary<string, WeightsEntry> Entries => _entries;

    /// <summary>Texts about the whole file; empty where the format has none.</summary>
    public virtual IReadOnlyDictionary<string, string> Metadata { get; } = new Dictionary<string, string>();

    private protected ByteSource Source => _source;

    /// <summary>Opens a file of either format; its first bytes decide, not its name.</summary>
    /// <param name="path">The file.</param>
    /// <param name="section">
    /// For PyTorch archives that hold several dictionaries of tensors, which one: the keys that lead to it, joined by dots. Null for the
    /// only one, or the one under <c>state_dict</c>, <c>model_state_dict</c> or <c>model</c>. Ignored for safetensors, which have one.
    /// </param>
    /// <returns>The file, open; dispose it.</returns>
    /// <exception cref="WeightsFormatException">The file is neither, or is damaged.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static WeightsFile Open(string path, string? section = null)
    {
        byte[] start;
        long length;
        using (ByteSource source = new(path))
        {
            length = source.Length;
            start = source.Read(0, Math.Min(length, 10));
        }

        // A safetensors header's length may begin with any byte, also with those of a pickle: this comes first.
        bool hasHeader = start.Length > SafetensorsFile.LengthBytes && start[SafetensorsFile.LengthBytes] == (byte)'{'
            && BinaryPrimitives.ReadUInt64LittleEndian(start) <= (ulong)length;
        if (hasHeader) return SafetensorsFile.Open(path);
        if (start.AsSpan().StartsWith("PK"u8)) return TorchArchive.Open(path, section);
        string remedy = "In Python, load it and write it anew: torch.save(torch.load(path, weights_only=True), new_path), or safetensors.torch.save_file.";
        if (start.Length > 1 && start[0] == 0x80 && start[1] < 6)
        {
            throw new WeightsFormatException($"'{path}': this is a bare pickle, as torch.save wrote before PyTorch 1.6; only the zip format is read. {remedy}");
        }

        // The old tar format starts with the name of its first member.
        if (Encoding.ASCII.GetString(start).StartsWith("storages", StringComparison.Ordinal) || IsTar(path))
        {
            throw new WeightsFormatException($"'{path}': this is a tar archive, as torch.save wrote before PyTorch 0.2; only the zip format is read. {remedy}");
        }

        return SafetensorsFile.Open(path);
    }

    /// <summary>Reads a tensor's values.</summary>
    /// <param name="name">Its name.</param>
    /// <returns>A new contiguous tensor on the CPU, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The file has no such tensor.</exception>
    /// <exception cref="WeightsFormatException">The file ends before the values do.</exception>
    public Tensor Load(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (!_entries.TryGetValue(name, out WeightsEntry? entry))
        {
            throw new ArgumentException($"'{Path}' has no tensor '{name}'; it has {_entries.Count}: {Listing.Of(_entries.Keys)}.", nameof(name));
        }

        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        return Read(entry).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Loads the tensors into a model, as <see cref="WeightsExtensions.LoadWeights"/> does from a path.
    /// </summary>
    /// <param name="model">The model: a network or a single module.</param>
    /// <param name="keys">The file's names as the model's; null for the same names.</param>
    /// <param name="options">What else is allowed; null for nothing. Its section is not used: this file's is chosen.</param>
    /// <returns>What was loaded and what was not.</returns>
    /// <exception cref="WeightsMismatchException">Something does not fit, and loading is strict.</exception>
    /// <exception cref="WeightsFormatException">The file ends before the values do.</exception>
    /// <exception cref="ArgumentException">The key map sends two tensors to one name, or an option names no part of the model.</exception>
    public WeightsReport LoadInto(nn.Module model, KeyMap? keys = null, WeightsLoadOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        options ??= new WeightsLoadOptions();
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        WeightsMatch match = new(model, this, keys ?? KeyMap.Identity, options);
        if (options.Strict && !match.Report.IsComplete) throw new WeightsMismatchException(Path, match.Report);
        match.Copy();
        return match.Report;
    }

    /// <summary>Closes the file.</summary>
    public void Dispose()
    {
        _source.Dispose();
        GC.SuppressFinalize(this);
    }

    private protected abstract Tensor Read(WeightsEntry entry);

    private protected void Add(WeightsEntry entry)
    {
        if (!_entries.TryAdd(entry.Name, entry)) throw _source.Wrong($"the tensor '{entry.Name}' is there twice.");
    }

    private static bool IsTar(string path)
    {
        using ByteSource source = new(path);
        return source.Length >= 512 && source.Read(257, 5).AsSpan().SequenceEqual("ustar"u8);
    }
}

/// <summary>Names and shapes in messages.</summary>
internal static class Listing
{
    private const int Shown = 8;

    /// <summary>The first few names, and how many more there are.</summary>
    public static string Of(IEnumerable<string> names)
    {
        string[] all = [.. names];
        string text = string.Join(", ", all.Take(Shown).Select(Short));
        return all.Length > Shown ? $"{text} and {all.Length - Shown} more" : text;
    }

    /// <summary>A text out of a file in quotation marks, shortened and without control characters.</summary>
    public static string Short(string text)
    {
        const int longest = 80;
        string cut = text.Length > longest ? text[..longest] + "…" : text;
        return $"'{string.Concat(cut.Select(c => char.IsControl(c) ? '?' : c))}'";
    }

    public static string Shape(IEnumerable<long> shape) => $"[{string.Join(", ", shape.Take(Shown))}]";
}
