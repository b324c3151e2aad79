using System.Text;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A file that <c>torch.save</c> wrote (<c>.pt</c>, <c>.pth</c>; PyTorch 1.6 and later): a zip archive of a pickle and the values.
/// It is read without executing anything: a pickle that asks for more than numbers, texts, lists, dictionaries and tensors is refused,
/// and the message says for what it asked.
/// </summary>
/// <remarks>
/// The file may be a state dict, or a checkpoint whose dictionaries hold one. Tensors that share a storage, or that are views with any
/// strides and offset, are read as contiguous copies.
/// </remarks>
public sealed class TorchArchive : WeightsFile
{
    private const string PickleName = "data.pkl";

    /// <summary>A pickle of weights takes some hundred bytes a tensor.</summary>
    private const long LongestPickle = 100_000_000;

    private readonly ZipDirectory _files;
    private readonly string _root;
    private readonly bool _bigEndian;
    private readonly Dictionary<string, PickleTensor> _tensors = new(StringComparer.Ordinal);

    private TorchArchive(ByteSource source, string? section)
        : base(source)
    {
        try
        {
            _files = new ZipDirectory(source);
            _root = FindRoot();
            if (_files.Contains(_root + "constants.pkl"))
            {
                throw source.Wrong(
                    "this is a TorchScript archive, a program with its weights. Save the weights alone in Python: " +
                    "torch.save(torch.jit.load(path).state_dict(), new_path)");
            }

            _bigEndian = ReadByteOrder();
            StateDictionary state = StateDictionary.Find(PickleReader.Read(ReadPickle()), section);
            Section = state.Path;
            foreach ((string name, PickleTensor tensor) in state.Tensors) Take(name, tensor);
        }
        catch (Exception e) when (e is PickleException or OverflowException)
        {
            throw source.Wrong($"{PickleName}: {e.Message}.", e);
        }
    }

    /// <summary>Which of the file's dictionaries the tensors come from: its keys joined by dots; empty for the outermost.</summary>
    public string Section { get; }

    /// <summary>Opens an archive and reads its directory and pickle, but no values.</summary>
    /// <param name="path">The file.</param>
    /// <param name="section">Which dictionary of tensors, as in <see cref="WeightsFile.Open"/>; null for the one that is meant.</param>
    /// <param name="memoryMap">
    /// Whether the file is mapped into memory instead of read at positions. Only for files that nobody shortens meanwhile: that kills the
    /// process, and nothing can catch it. Default false.
    /// </param>
    /// <returns>The file, open; dispose it.</returns>
    /// <exception cref="WeightsFormatException">
    /// The archive is damaged, asks for something that is not done, or holds no dictionary of tensors or several.
    /// </exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static new TorchArchive Open(string path, string? section = null, bool memoryMap = false)
    {
        ByteSource source = new(path, memoryMap);
        try
        {
            return new TorchArchive(source, section);
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    private protected override Tensor Read(WeightsEntry entry) => Read(_tensors[entry.Name]);

    private protected override Tensor ReadRows(WeightsEntry entry, long start, long count)
    {
        PickleTensor whole = _tensors[entry.Name];
        PickleTensor rows = whole with { Shape = [count, .. whole.Shape.Skip(1)] };

        // Nothing is read of an empty one, whose strides may point anywhere.
        return Read(rows.Span == 0 ? rows : rows with { Offset = whole.Offset + (start * whole.Strides[0]) });
    }

    private Tensor Read(PickleTensor view)
    {
        ScalarType type = view.Storage.Type;
        long start = _files.Locate(FileOf(view.Storage)).Offset + (view.Offset * SafetensorsTypes.Size(type));
        Tensor values = empty([view.Span], dtype: type, device: CPU);
        Source.Fill(values, start);
        if (_bigEndian) Swap(values, type);
        return view.IsContiguous
            ? values.reshape(view.Shape)
            : values.as_strided(view.Shape, view.Strides).contiguous();
    }

    private void Take(string name, PickleTensor tensor)
    {
        long bytes = _files.Locate(FileOf(tensor.Storage)).Size, needed = checked(tensor.Storage.Count * SafetensorsTypes.Size(tensor.Storage.Type));
        if (bytes != needed)
        {
            throw Source.Wrong($"{Listing.Short(name)} has {tensor.Storage.Count} values of {tensor.Storage.Type}, {needed} bytes; its file has {bytes}.");
        }

        Add(new WeightsEntry(name, tensor.Storage.Type, ValueList.Create<long>(tensor.Shape)));
        _tensors.Add(name, tensor);
    }

    private string FileOf(PickleStorage storage) => $"{_root}data/{storage.Key}";

    private string FindRoot()
    {
        string[] pickles = [.. _files.Names.Where(name => name == PickleName || name.EndsWith("/" + PickleName, StringComparison.Ordinal))];
        return pickles is [string pickle]
            ? pickle[..^PickleName.Length]
            : throw Source.Wrong(ForeignFile.DescribeArchive([.. _files.Names]) ?? $"the archive has {pickles.Length} files '{PickleName}'; torch.save writes one. It is no PyTorch archive.");
    }

    private byte[] ReadPickle()
    {
        string name = _root + PickleName;
        long size = _files.Locate(name).Size;
        return size <= LongestPickle ? _files.Read(name) : throw Source.Wrong($"{PickleName} has {size} bytes; at most {LongestPickle} are read.");
    }

    private bool ReadByteOrder()
    {
        string name = _root + "byteorder";
        if (!_files.Contains(name)) return false;
        string order = Encoding.ASCII.GetString(_files.Read(name));
        return order switch
        {
            "little" => false,
            "big" => true,
            _ => throw Source.Wrong($"its byte order is {Listing.Short(order)}; 'little' and 'big' are known."),
        };
    }

    private static void Swap(Tensor values, ScalarType type)
    {
        int size = SafetensorsTypes.Size(type) / (SafetensorsTypes.IsComplex(type) ? 2 : 1);
        TensorBytes.Visit(values, 1 << 28, bytes =>
        {
            for (int at = 0; at + size <= bytes.Length; at += size) bytes.Slice(at, size).Reverse();
        });
    }
}
