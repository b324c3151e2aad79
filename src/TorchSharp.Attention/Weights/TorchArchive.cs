using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A file that <c>torch.save</c> wrote (<c>.pt</c>, <c>.pth</c>): a zip archive of a pickle and the values (PyTorch 1.6 and
/// later), or pickles and values one after the other (PyTorch 0.2 to 1.5). Its content decides which, not its name. It is read
/// without executing anything: objects that are no tensors are skipped by name (<see cref="WeightsFile.NotTensors"/>), and a
/// pickle that would run programs in Python is refused by name.
/// </summary>
/// <remarks>
/// The file may be a state dict, or a checkpoint whose dictionaries hold one. Tensors that share a storage, or that are views
/// with any strides and offset, are read as contiguous copies.
/// </remarks>
public sealed class TorchArchive : WeightsFile
{
    private readonly TorchLayout _layout;
    private readonly Dictionary<string, PickleTensor> _tensors = new(StringComparer.Ordinal);

    private TorchArchive(ByteSource source, string? section)
        : base(source)
    {
        try
        {
            _layout = TorchLayout.Of(source);
            StateDictionary state = StateDictionary.Find(_layout.Value, section);
            Section = state.Path;
            NotTensors = state.NotTensors;
            foreach ((string name, PickleTensor tensor) in state.Tensors) Take(name, tensor);
        }
        catch (Exception e) when (e is PickleException or OverflowException)
        {
            throw source.Wrong($"its pickle: {e.Message}.", e);
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> NotTensors { get; }

    /// <summary>
    /// The dictionary in the file that the tensors come from, as its keys joined by dots. Empty for the outermost dictionary.
    /// </summary>
    public string Section { get; }

    /// <summary>Opens an archive and reads its directory and pickle, but no values.</summary>
    /// <param name="path">The file.</param>
    /// <param name="section">
    /// Which dictionary of tensors, as in <see cref="WeightsFile.Open"/>; null for the one that is meant.
    /// </param>
    /// <param name="memoryMap">
    /// Whether the file is mapped into memory instead of read at positions. Only for files that are not shortened meanwhile: that
    /// kills the process, and nothing can catch it. Default false.
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
        ScalarType type = view.Type;
        long start = _layout.Locate(view.Storage).Offset + (view.Offset * SafetensorsTypes.Size(type));
        Tensor values = empty([view.Span], dtype: type, device: CPU);
        Source.Fill(values, start);
        if (_layout.IsBigEndian) Swap(values, type);
        return view.IsContiguous
            ? values.reshape(view.Shape)
            : values.as_strided(view.Shape, view.Strides).contiguous();
    }

    private void Take(string name, PickleTensor tensor)
    {
        long bytes = _layout.Locate(tensor.Storage).Size, needed = tensor.Storage.Bytes;
        if (bytes != needed)
        {
            throw Source.Wrong(
                $"{Listing.Short(name)} has {tensor.Storage.Count} values of {tensor.Type}, {needed} bytes; " +
                $"its file has {bytes}.");
        }

        Add(new WeightsEntry(name, tensor.Type, ValueList.Create<long>(tensor.Shape)));
        _tensors.Add(name, tensor);
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
