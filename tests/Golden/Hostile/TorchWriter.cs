using System.IO.Compression;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>Writes archives as torch.save does: data.pkl, byteorder, version, and a file a storage. For tests of the reader.</summary>
internal sealed class TorchWriter
{
    /// <summary>The pickle of the magic number that such files start with.</summary>
    public static readonly byte[] LegacyMagic = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, (byte)'.'];

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

    /// <summary>The file of a value as torch.save wrote it before PyTorch 1.6.</summary>
    /// <param name="value">The value.</param>
    /// <param name="elementBytes">Bytes of a value, for each storage.</param>
    /// <param name="littleEndian">What the file says of the machine; the values are little-endian in any case.</param>
    public byte[] ToLegacyBytes(object? value, IReadOnlyList<int> elementBytes, bool littleEndian = true) =>
        Legacy(PickleWriter.Write(value, legacy: true), elementBytes, littleEndian);

    /// <summary>The file of a pickle's bytes as torch.save wrote it before PyTorch 1.6.</summary>
    public byte[] Legacy(byte[] pickle, IReadOnlyList<int> elementBytes, bool littleEndian = true)
    {
        List<byte> bytes = [.. LegacyMagic, .. PickleWriter.Write(1001)];
        bytes.AddRange(PickleWriter.Write(new Dictionary<string, object?> { ["protocol_version"] = 1001, ["little_endian"] = littleEndian }));
        bytes.AddRange(pickle);
        bytes.AddRange(PickleWriter.Write(new List<object?>(Enumerable.Range(0, _storages.Count).Select(i => i.ToString(System.Globalization.CultureInfo.InvariantCulture)))));
        for (int i = 0; i < _storages.Count; i++)
        {
            bytes.AddRange(BitConverter.GetBytes((long)(_storages[i].Length / elementBytes[i])));
            bytes.AddRange(_storages[i]);
        }

        return [.. bytes];
    }

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
