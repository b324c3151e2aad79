using System.IO.Compression;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>Writes archives as torch.save does: data.pkl, byteorder, version, and a file a storage. For tests of the reader.</summary>
internal sealed class TorchWriter
{
    private readonly List<byte[]> _storages = [];

    /// <summary>Name of the folder in the archive.</summary>
    public string Root { get; init; } = "archive";

    /// <summary>What the record <c>byteorder</c> says; null for none. The values are the caller's business.</summary>
    public string? ByteOrder { get; init; } = "little";

    public CompressionLevel Compression { get; init; } = CompressionLevel.NoCompression;

    /// <summary>Whether the zip archive ends in the 64-bit form, as PyTorch's do; its members too where <see cref="WideMembers"/>.</summary>
    public bool Zip64End { get; init; } = true;

    /// <summary>Whether sizes and places of the members stand in 64-bit fields, as in archives of more than four gigabytes.</summary>
    public bool WideMembers { get; init; }

    /// <summary>Adds a storage; returns its key.</summary>
    public string Storage(byte[] values)
    {
        _storages.Add(values);
        return (_storages.Count - 1).ToString(System.Globalization.CultureInfo.InvariantCulture);
    }

    /// <summary>Adds a tensor's values as a storage of their own; returns the whole of it.</summary>
    public PickledTensor Tensor(Tensor tensor, bool isParameter = false)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor values = tensor.detach().contiguous();
        string key = Storage(values.numel() == 0 ? [] : values.bytes.ToArray());
        return new PickledTensor(StorageClass(tensor.dtype), key, tensor.numel(), 0, tensor.shape, values.stride(), isParameter);
    }

    /// <summary>Adds tensors as a state dict.</summary>
    public PickledState State(IEnumerable<KeyValuePair<string, Tensor>> tensors) =>
        new([.. tensors.Select(pair => new KeyValuePair<string, object?>(pair.Key, Tensor(pair.Value)))]);

    /// <summary>The archive of a value.</summary>
    public byte[] ToBytes(object? value) => Archive(PickleWriter.Write(value));

    /// <summary>The archive of a pickle's bytes.</summary>
    public byte[] Archive(byte[] pickle)
    {
        using MemoryStream stream = new();
        using (ZipArchive archive = new(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            Add("data.pkl", pickle);
            if (ByteOrder is not null) Add("byteorder", System.Text.Encoding.ASCII.GetBytes(ByteOrder));
            for (int i = 0; i < _storages.Count; i++) Add($"data/{i}", _storages[i]);
            Add("version", "3\n"u8.ToArray());

            void Add(string name, byte[] bytes)
            {
                using Stream entry = archive.CreateEntry($"{Root}/{name}", Compression).Open();
                entry.Write(bytes);
            }
        }

        return Zip64End ? Zip64.From(stream.ToArray(), WideMembers) : stream.ToArray();
    }

    public static string StorageClass(ScalarType type) => type switch
    {
        ScalarType.Float64 => "DoubleStorage",
        ScalarType.Float32 => "FloatStorage",
        ScalarType.Float16 => "HalfStorage",
        ScalarType.BFloat16 => "BFloat16Storage",
        ScalarType.Int64 => "LongStorage",
        ScalarType.Int32 => "IntStorage",
        ScalarType.Int16 => "ShortStorage",
        ScalarType.Int8 => "CharStorage",
        ScalarType.Byte => "ByteStorage",
        ScalarType.Bool => "BoolStorage",
        ScalarType.ComplexFloat32 => "ComplexFloatStorage",
        ScalarType.ComplexFloat64 => "ComplexDoubleStorage",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "There is no storage class of this type."),
    };
}
