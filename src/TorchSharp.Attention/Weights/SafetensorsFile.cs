using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A safetensors file: 8 bytes for the length of the header, the header as JSON, then the values. When it is opened, everything
/// in the header is checked: lengths, offsets, types and shapes, that each byte of the values belongs to exactly one tensor, and
/// that no name occurs twice.
/// </summary>
/// <remarks>
/// Types that TorchSharp lacks are listed too, with their name as <see cref="WeightsEntry.ForeignType"/>. Loading such a tensor
/// widens its values, exactly: U16 to int32; U32 and U64 to int64; F8_E4M3, F8_E5M2, F8_E4M3FNUZ, F8_E5M2FNUZ, F8_E8M0 and F4 to
/// float32. A value of U64 beyond int64, values of F6_E2M3 and F6_E3M2, whose bytes no specification describes, and values of
/// unknown types are a <see cref="WeightsFormatException"/> when they are loaded.
/// </remarks>
public sealed class SafetensorsFile : WeightsFile
{
    internal const int LengthBytes = 8;
    internal const string MetadataKey = "__metadata__";

    /// <summary>The reference implementation's limit: more would be an attack, not a model.</summary>
    internal const long LongestHeader = 100_000_000;

    private readonly Dictionary<string, (long Start, long End)> _ranges = new(StringComparer.Ordinal);
    private readonly Dictionary<string, ForeignType> _foreign = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);
    private readonly List<long> _numbers = [];
    private readonly long _dataStart;

    private SafetensorsFile(ByteSource source)
        : base(source)
    {
        if (source.Length < LengthBytes)
        {
            throw source.Wrong($"the file has {source.Length} bytes; a safetensors file has at least {LengthBytes}.");
        }

        ulong header = BinaryPrimitives.ReadUInt64LittleEndian(source.Read(0, LengthBytes));
        if (header > (ulong)(source.Length - LengthBytes) || header > LongestHeader)
        {
            throw source.Wrong(
                $"the header is said to have {header} bytes; the file has {source.Length - LengthBytes} after its length. " +
                "It is cut off, or no safetensors file.");
        }

        _dataStart = LengthBytes + (long)header;
        ReadHeader(source.Read(LengthBytes, (long)header));
        CheckCoverage();
    }

    /// <summary>The texts of <c>__metadata__</c>.</summary>
    public override IReadOnlyDictionary<string, string> Metadata => _metadata;

    private long DataLength => Source.Length - _dataStart;

    /// <summary>Opens a file and checks its header.</summary>
    /// <param name="path">The file.</param>
    /// <param name="memoryMap">
    /// Whether the file is mapped into memory instead of read at positions. Only for files that are not shortened meanwhile: that
    /// kills the process, and nothing can catch it. Default false.
    /// </param>
    /// <returns>The file, open; dispose it.</returns>
    /// <exception cref="WeightsFormatException">It is not a valid safetensors file; the message says where.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static SafetensorsFile Open(string path, bool memoryMap = false)
    {
        ByteSource source = new(path, memoryMap);
        try
        {
            return new SafetensorsFile(source);
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Writes tensors to a file, completely or not at all: the file is written under a temporary name and then renamed. The same
    /// tensors always give the same bytes.
    /// </summary>
    /// <param name="path">The file; an older one is replaced.</param>
    /// <param name="tensors">
    /// The tensors by name. They are neither changed nor disposed; they may be anywhere and of any strides.
    /// </param>
    /// <param name="metadata">Texts about the whole file; null for none.</param>
    /// <exception cref="ArgumentException">A name is not usable, or a tensor's type is unknown to the format.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(
        string path, IReadOnlyDictionary<string, Tensor> tensors, IReadOnlyDictionary<string, string>? metadata = null) =>
        SafetensorsWriter.Write(path, tensors, metadata);

    private protected override Tensor Read(WeightsEntry entry) => Read(entry, [.. entry.Shape], 0);

    private protected override bool IsReadable(WeightsEntry entry)
        => !_foreign.TryGetValue(entry.Name, out ForeignType? type) || type.Widened is not null;

    private protected override Tensor ReadRows(WeightsEntry entry, long start, long count)
    {
        long[] row = [.. entry.Shape.Skip(1)];
        return Read(entry, [count, .. row], start == 0 ? 0 : start * SafetensorsTypes.Count(row));
    }

    private Tensor Read(WeightsEntry entry, long[] shape, long skipped)
    {
        long offset = _dataStart + _ranges[entry.Name].Start;

        // Any byte but 0 is true, as in Python; in memory, libtorch takes no byte but 1 for it.
        bool isBool = entry.Type == ScalarType.Bool;
        Tensor tensor = empty(shape, dtype: isBool ? ScalarType.Byte : entry.Type, device: CPU);
        if (_foreign.TryGetValue(entry.Name, out ForeignType? type))
        {
            if (type.Widened is null) throw Source.Wrong($"{Listing.Short(entry.Name)} {type.Unreadable()}.");
            type.Fill(Source, offset, skipped, tensor);
            return tensor;
        }

        Source.Fill(tensor, offset + (skipped * SafetensorsTypes.Size(entry.Type)));
        return isBool ? tensor.ne(Scalars.Zero) : tensor;
    }

    private void ReadHeader(byte[] json)
    {
        if (json.Length == 0 || json[0] != (byte)'{')
        {
            throw Source.Wrong("the header is not a JSON object; this is no safetensors file.");
        }

        try
        {
            Utf8JsonReader reader = new(json);
            reader.Read();
            bool hasMetadata = false;
            while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
            {
                string name = reader.GetString()!;
                reader.Read();
                if (name != MetadataKey) ReadEntry(name, ref reader);
                else if (hasMetadata) throw Source.Wrong($"'{MetadataKey}' is there twice.");
                else
                {
                    ReadMetadata(ref reader);
                    hasMetadata = true;
                }
            }

            // Only white space may follow: anything else throws.
            reader.Read();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or OverflowException)
        {
            throw Source.Wrong($"the header is not understood: {e.Message}", e);
        }
    }

    private void ReadMetadata(ref Utf8JsonReader reader)
    {
        // Some writers say so that there are none; the reference implementation reads it, too.
        if (reader.TokenType == JsonTokenType.Null) return;
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Source.Wrong($"'{MetadataKey}' is {Kind(reader)}; it must be an object of texts, or null.");
        }

        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            string name = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
            {
                throw Source.Wrong(
                    $"the metadata {Listing.Short(name)} are {Kind(reader)}; the format takes texts alone. " +
                    "Write it as a text in Python: save_file(tensors, path, metadata={name: str(value)}).");
            }

            if (!_metadata.TryAdd(name, reader.GetString()!))
            {
                throw Source.Wrong($"the metadata have {Listing.Short(name)} twice.");
            }
        }
    }

    private void ReadEntry(string name, ref Utf8JsonReader reader)
    {
        string? type = null;
        long[]? shape = null, offsets = null;
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new FormatException($"{Listing.Short(name)} is {Kind(reader)}, no object");
        }

        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            string property = reader.GetString()!;
            reader.Read();
            bool isNew = property switch
            {
                "dtype" => Set(ref type, reader.GetString()),
                "shape" => Set(ref shape, Integers(ref reader)),
                "data_offsets" => Set(ref offsets, Integers(ref reader)),
                _ => throw Source.Wrong($"{Listing.Short(name)} has the unknown property {Listing.Short(property)}."),
            };
            if (!isNew) throw Source.Wrong($"{Listing.Short(name)} has the property '{property}' twice.");
        }

        if (type is null || shape is null || offsets is null)
        {
            throw Source.Wrong($"the header is not understood: {Listing.Short(name)} needs 'dtype', 'shape' and 'data_offsets'.");
        }

        ForeignType? foreign = SafetensorsTypes.ByName.TryGetValue(type, out ScalarType scalar) ? null : ForeignType.Of(type);
        if (shape.AsSpan().IndexOfAnyInRange(long.MinValue, -1) >= 0 || shape.Length > SafetensorsTypes.MostDimensions)
        {
            throw Source.Wrong(
                $"{Listing.Short(name)} has {shape.Length} sizes {Listing.Shape(shape)}; " +
                $"at most {SafetensorsTypes.MostDimensions}, none negative, are possible.");
        }

        if (offsets is not [long start, long end] || start < 0 || end < start || end > DataLength)
        {
            throw Source.Wrong($"{Listing.Short(name)} has offsets {Listing.Shape(offsets)}; the data has {DataLength} bytes.");
        }

        int bits = foreign?.Bits ?? (8 * SafetensorsTypes.Size(scalar));
        long needed = checked(SafetensorsTypes.Count(shape) * bits);
        if (needed % 8 != 0)
        {
            throw Source.Wrong(
                $"{Listing.Short(name)} of type {type} and shape {Listing.Shape(shape)} needs {needed} bits, which are no " +
                "whole bytes.");
        }

        // The size of an unknown type is unknown; that its bytes belong to it alone is still checked.
        if (bits > 0 && needed / 8 != end - start)
        {
            throw Source.Wrong(
                $"{Listing.Short(name)} of type {type} and shape {Listing.Shape(shape)} needs {needed / 8} bytes and has " +
                $"{end - start}.");
        }

        WeightsEntry read = new(
            name, foreign is null ? scalar : foreign.Widened ?? ScalarType.Float32, ValueList.Create<long>(shape));
        Add(foreign is null ? read : read with { ForeignType = type });
        if (foreign is not null) _foreign.Add(name, foreign);
        _ranges.Add(name, (start, end));
    }

    private static string Kind(in Utf8JsonReader reader) => reader.TokenType switch
    {
        JsonTokenType.Number => $"the number {Listing.Short(Encoding.UTF8.GetString(reader.ValueSpan))}",
        JsonTokenType.StartArray => "a list",
        JsonTokenType.StartObject => "an object",
        JsonTokenType.String => "a text",
        JsonTokenType.Null => "null",
        _ => "true or false",
    };

    private void CheckCoverage()
    {
        long at = 0;
        foreach ((string name, (long start, long end)) in _ranges.OrderBy(range => range.Value.Start).ThenBy(
            range => range.Value.End))
        {
            if (start != at)
            {
                throw Source.Wrong(
                    $"{Listing.Short(name)} starts at byte {start} of the data; the tensor before it ends at {at}.");
            }

            at = end;
        }

        if (at != DataLength) throw Source.Wrong($"the tensors end at byte {at} of the data, which has {DataLength}.");
    }

    private long[] Integers(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw new FormatException($"{Kind(reader)} stands where a list of whole numbers is needed");
        }

        _numbers.Clear();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray) _numbers.Add(reader.GetInt64());
        return [.. _numbers];
    }

    private static bool Set<T>(ref T? target, T? value)
        where T : class
    {
        bool isNew = target is null;
        target = value;
        return isNew;
    }
}
