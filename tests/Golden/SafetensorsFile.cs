using System.Buffers.Binary;
using System.Text.Json;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>
/// A safetensors file in memory: 8 bytes for the header's length, the header as JSON, the data. Everything is validated before
/// anything is used: lengths, offsets, types, shapes, no hole and no overlap.
/// </summary>
internal sealed class SafetensorsFile
{
    private const int LengthBytes = 8;

    private static readonly Dictionary<string, (ScalarType Type, int Size)> Types = new(StringComparer.Ordinal)
    {
        ["F64"] = (ScalarType.Float64, 8),
        ["F32"] = (ScalarType.Float32, 4),
        ["F16"] = (ScalarType.Float16, 2),
        ["BF16"] = (ScalarType.BFloat16, 2),
        ["I64"] = (ScalarType.Int64, 8),
        ["I32"] = (ScalarType.Int32, 4),
    };

    private readonly byte[] _bytes;
    private readonly int _dataStart;
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);

    private SafetensorsFile(byte[] bytes)
    {
        _bytes = bytes;
        if (bytes.Length < LengthBytes)
        {
            throw new InvalidDataException($"the file has {bytes.Length} bytes; a safetensors file has at least 8");
        }

        ulong header = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        if (header > (ulong)(bytes.Length - LengthBytes))
        {
            throw new InvalidDataException($"the header is said to have {header} bytes; the file has {bytes.Length - LengthBytes} after its length");
        }

        _dataStart = LengthBytes + (int)header;
        ReadHeader(bytes.AsMemory(LengthBytes, (int)header));
        CheckCoverage();
    }

    private int DataLength => _bytes.Length - _dataStart;

    /// <summary>The tensors' names.</summary>
    public IReadOnlyCollection<string> Names => _entries.Keys;

    /// <summary>The texts of <c>__metadata__</c>.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <summary>Reads and validates a file.</summary>
    /// <exception cref="InvalidDataException">The file is not a valid safetensors file; the message says where.</exception>
    public static SafetensorsFile Read(string path)
    {
        if (!BitConverter.IsLittleEndian) throw new PlatformNotSupportedException("safetensors files are little-endian; this machine is not.");
        return new SafetensorsFile(File.ReadAllBytes(path));
    }

    /// <summary>A tensor's values as a new tensor, owned by the caller.</summary>
    public Tensor Load(string name)
    {
        Entry entry = _entries[name];
        Tensor tensor = empty(entry.Shape, dtype: entry.Type, device: CPU);
        if (entry.End > entry.Start) _bytes.AsSpan(_dataStart + entry.Start, entry.End - entry.Start).CopyTo(tensor.bytes);
        return tensor;
    }

    private void ReadHeader(ReadOnlyMemory<byte> json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json, new JsonDocumentOptions { AllowDuplicateProperties = false });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw new InvalidDataException("the header is not a JSON object");
            }

            foreach (JsonProperty property in document.RootElement.EnumerateObject())
            {
                if (property.Name == "__metadata__") ReadMetadata(property.Value);
                else _entries.Add(property.Name, ReadEntry(property.Name, property.Value));
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or KeyNotFoundException or OverflowException)
        {
            throw new InvalidDataException($"the header is not understood: {e.Message}", e);
        }
    }

    private void ReadMetadata(JsonElement metadata)
    {
        foreach (JsonProperty text in metadata.EnumerateObject()) _metadata.Add(text.Name, text.Value.GetString() ?? "");
    }

    private Entry ReadEntry(string name, JsonElement entry)
    {
        string type = entry.GetProperty("dtype").GetString() ?? "null";
        if (!Types.TryGetValue(type, out (ScalarType Type, int Size) known))
        {
            throw new InvalidDataException($"'{name}' has type {type}; known types: {string.Join(", ", Types.Keys)}");
        }

        long[] shape = [.. entry.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64())];
        long[] offsets = [.. entry.GetProperty("data_offsets").EnumerateArray().Select(offset => offset.GetInt64())];
        if (shape.Any(size => size < 0)) throw new InvalidDataException($"'{name}' has shape [{string.Join(", ", shape)}]");
        if (offsets is not [long start, long end] || start < 0 || end < start || end > DataLength)
        {
            throw new InvalidDataException($"'{name}' has offsets [{string.Join(", ", offsets)}]; the data has {DataLength} bytes");
        }

        long needed = shape.Aggregate((long)known.Size, (bytes, size) => checked(bytes * size));
        return needed == end - start
            ? new Entry(known.Type, shape, (int)start, (int)end)
            : throw new InvalidDataException($"'{name}' of type {type} and shape [{string.Join(", ", shape)}] needs {needed} bytes and has {end - start}");
    }

    private void CheckCoverage()
    {
        int at = 0;
        foreach ((string name, Entry entry) in _entries.OrderBy(pair => pair.Value.Start).ThenBy(pair => pair.Value.End))
        {
            if (entry.Start != at)
            {
                throw new InvalidDataException(
                    $"'{name}' starts at byte {entry.Start} of the data; the tensor before it ends at {at}");
            }

            at = entry.End;
        }

        if (at != DataLength) throw new InvalidDataException($"the tensors end at byte {at} of the data, which has {DataLength}");
    }

    private sealed record Entry(ScalarType Type, long[] Shape, int Start, int End);
}
