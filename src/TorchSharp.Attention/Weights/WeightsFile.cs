using System.Buffers.Binary;
using System.Text;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A file of named tensors: a <see cref="SafetensorsFile"/> or a <see cref="TorchArchive"/>. Opening it reads and checks only the
/// description of the tensors. Values are read tensor by tensor, when you load them. Nothing in the file is executed.
/// </summary>
/// <remarks>One file may be read from several threads.</remarks>
public abstract class WeightsFile : IDisposable
{
    private readonly Dictionary<string, WeightsEntry> _entries = new(StringComparer.Ordinal);
    private readonly Lazy<SortedList<string, WeightsEntry>> _sorted;
    private readonly ByteSource _source;

    private protected WeightsFile(ByteSource source)
    {
        _source = source;
        _sorted = new(() => new(_entries, StringComparer.Ordinal));
    }

    /// <summary>The file's path, as it was given.</summary>
    public string Path => _source.Path;

    /// <summary>The tensors by name, in ordinal order of the names.</summary>
    public IReadOnlyDictionary<string, WeightsEntry> Entries => _sorted.Value;

    /// <summary>Metadata of the whole file as texts by key. Empty if the format has none.</summary>
    public virtual IReadOnlyDictionary<string, string> Metadata { get; } = new Dictionary<string, string>();

    /// <summary>
    /// The contents of a PyTorch file other than tensors, each with its place and kind: <c>'epoch': an integer</c>, <c>'args':
    /// 'argparse.Namespace'</c>. They are neither executed nor kept. At most about a thousand are listed. Empty for safetensors.
    /// </summary>
    public virtual IReadOnlyList<string> NotTensors { get; } = [];

    /// <summary>
    /// Whether the file is mapped into memory. False for an empty file, because no operating system can map one.
    /// </summary>
    public bool IsMemoryMapped => IsMapped;

    private protected ByteSource Source => _source;

    private protected virtual bool IsMapped => _source.IsMapped;

    /// <summary>
    /// Opens a file of either format, or an index of shards (<c>model.safetensors.index.json</c>), whose files are then read as
    /// one. The format is recognized by the first bytes, not by the name of the file.
    /// </summary>
    /// <param name="path">The file. The shards of an index lie beside it.</param>
    /// <param name="section">
    /// For PyTorch archives that hold several dictionaries of tensors, which one: the keys that lead to it, joined by
    /// dots. Null for the only one, or the one under <c>state_dict</c>, <c>model_state_dict</c> or <c>model</c>.
    /// Ignored for safetensors, which have one.
    /// </param>
    /// <param name="memoryMap">
    /// Whether the file is mapped into memory instead of read at positions. Only for files that are not shortened meanwhile: that
    /// kills the process, and nothing can catch it. Default false.
    /// </param>
    /// <returns>The file, open; dispose it.</returns>
    /// <exception cref="WeightsFormatException">
    /// The file is neither, or is damaged. For many other kinds of files, the message says what it is and what to do.
    /// </exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read, or is a folder.</exception>
    public static WeightsFile Open(string path, string? section = null, bool memoryMap = false)
        => OpenAny(path, section, memoryMap, mayBeIndex: true);

    private protected static WeightsFile OpenAny(string path, string? section, bool memoryMap, bool mayBeIndex)
    {
        byte[] start;
        long length;
        using (ByteSource source = new(path))
        {
            length = source.Length;
            start = source.Read(0, Math.Min(length, Math.Max(ForeignFile.Start, TorchLegacy.RecognisedBytes)));
        }

        // A safetensors header's length may begin with any byte, also with those of a pickle: this comes first.
        bool hasHeader = start.Length > SafetensorsFile.LengthBytes && start[SafetensorsFile.LengthBytes] == (byte)'{'
            && BinaryPrimitives.ReadUInt64LittleEndian(start) <= (ulong)length;
        if (hasHeader) return SafetensorsFile.Open(path, memoryMap);
        if (ForeignFile.IsJson(start))
        {
            return mayBeIndex ? ShardedWeights.Open(path, section, memoryMap)
                : throw new WeightsFormatException(
                    $"'{path}': this is JSON, and an index of shards names it as a file of weights.");
        }

        if (start.AsSpan().StartsWith("PK"u8) || TorchLegacy.IsOne(start)) return TorchArchive.Open(path, section, memoryMap);
        if (ForeignFile.Describe(start, length) is string foreign) throw new WeightsFormatException($"'{path}': {foreign}");

        // The reader of an unknown pickle says what it is.
        if (TorchLegacy.IsPickle(start)) return TorchArchive.Open(path, section, memoryMap);

        // The old tar format starts with the name of its first member.
        if (Encoding.ASCII.GetString(start).StartsWith("storages", StringComparison.Ordinal) || IsTar(path))
        {
            throw new WeightsFormatException(
                $"'{path}': this is a tar archive, as torch.save wrote before PyTorch 0.2; only its later formats are read. " +
                "No version of PyTorch reads such a file without running what it asks for; do it only if you trust the file: " +
                "torch.save(torch.load(path, weights_only=False), new_path).");
        }

        return SafetensorsFile.Open(path, memoryMap);
    }

    /// <summary>Reads a tensor's values.</summary>
    /// <param name="name">Its name.</param>
    /// <returns>A new contiguous tensor on the CPU, of the entry's type, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The file has no such tensor.</exception>
    /// <exception cref="WeightsFormatException">
    /// The file ends before the values do, or they are of a type that cannot be read.
    /// </exception>
    public Tensor Load(string name)
    {
        WeightsEntry entry = Entry(name);
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        return Read(entry).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Reads a range of rows of a tensor (indices of its first dimension). Only the needed part of the file is read.
    /// </summary>
    /// <param name="name">Its name.</param>
    /// <param name="start">The first row, from 0.</param>
    /// <param name="count">How many; 0 is none.</param>
    /// <returns>A new contiguous tensor on the CPU of shape [count, …], owned by the caller.</returns>
    /// <exception cref="ArgumentException">The file has no such tensor, or it is a single value, which has no rows.</exception>
    /// <exception cref="ArgumentOutOfRangeException">It has no such rows.</exception>
    /// <exception cref="WeightsFormatException">The file ends before the values do.</exception>
    public Tensor LoadRows(string name, long start, long count)
    {
        WeightsEntry entry = Entry(name);
        if (entry.Shape.Count == 0)
        {
            throw new ArgumentException($"'{name}' is a single value and has no rows; use Load.", nameof(name));
        }

        long rows = entry.Shape[0];
        if (start < 0 || start > rows) throw new ArgumentOutOfRangeException(nameof(start), start, $"'{name}' has {rows} rows.");
        if (count < 0 || count > rows - start)
        {
            throw new ArgumentOutOfRangeException(nameof(count), count, $"'{name}' has {rows - start} rows from row {start} on.");
        }

        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        return ReadRows(entry, start, count).MoveToOuterDisposeScope();
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
    /// <exception cref="ArgumentException">
    /// The key map sends two tensors to one name, or an option names no part of the model.
    /// </exception>
    public WeightsReport LoadInto(nn.Module model, KeyMap? keys = null, WeightsLoadOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        options ??= new WeightsLoadOptions();
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        WeightsMatch match = new(model, this, keys ?? KeyMap.Identity, options);
        Check();
        match.Read();
        Check();
        match.Copy();
        return match.Report;

        void Check()
        {
            if (options.Strict && !match.Report.IsComplete) throw new WeightsMismatchException(Path, match.Report);
        }
    }

    /// <summary>Closes the file.</summary>
    public void Dispose()
    {
        Close();
        _source.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Whether the values of a tensor can be read; its type may be one that nobody knows.</summary>
    internal bool CanRead(WeightsEntry entry) => IsReadable(entry);

    private protected virtual bool IsReadable(WeightsEntry entry) => true;

    private protected virtual void Close()
    {
    }

    private protected abstract Tensor Read(WeightsEntry entry);

    private protected abstract Tensor ReadRows(WeightsEntry entry, long start, long count);

    private protected void Add(WeightsEntry entry)
    {
        if (!_entries.TryAdd(entry.Name, entry)) throw _source.Wrong($"the tensor {Listing.Short(entry.Name)} is there twice.");
    }

    private WeightsEntry Entry(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return _entries.TryGetValue(name, out WeightsEntry? entry)
            ? entry
            : throw new ArgumentException(
                $"'{Path}' has no tensor '{name}'; it has {_entries.Count}: {Listing.Of(_entries.Keys)}.", nameof(name));
    }

    private static bool IsTar(string path)
    {
        using ByteSource source = new(path);
        return source.Length >= 512 && source.Read(257, 5).AsSpan().SequenceEqual("ustar"u8);
    }
}
