using System.Buffers.Binary;
using System.Text.Json;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Types of the format and of TorchSharp, and their sizes.</summary>
internal static class SafetensorsTypes
{
    /// <summary>What libtorch's operations take.</summary>
    public const int MostDimensions = 64;

    public static IReadOnlyDictionary<string, ScalarType> ByName { get; } = new Dictionary<string, ScalarType>(StringComparer.Ordinal)
    {
        ["F64"] = ScalarType.Float64,
        ["F32"] = ScalarType.Float32,
        ["F16"] = ScalarType.Float16,
        ["BF16"] = ScalarType.BFloat16,
        ["I64"] = ScalarType.Int64,
        ["I32"] = ScalarType.Int32,
        ["I16"] = ScalarType.Int16,
        ["I8"] = ScalarType.Int8,
        ["U8"] = ScalarType.Byte,
        ["BOOL"] = ScalarType.Bool,
        ["C64"] = ScalarType.ComplexFloat32,
    };

    public static string? NameOf(ScalarType type) => ByName.Where(pair => pair.Value == type).Select(pair => pair.Key).FirstOrDefault();

    /// <summary>Bytes of one value.</summary>
    public static int Size(ScalarType type) => type switch
    {
        ScalarType.ComplexFloat64 => 16,
        ScalarType.Float64 or ScalarType.Int64 or ScalarType.ComplexFloat32 => 8,
        ScalarType.Float32 or ScalarType.Int32 => 4,
        ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Int16 => 2,
        _ => 1,
    };

    public static bool IsFloatingPoint(ScalarType type) =>
        type is ScalarType.Float64 or ScalarType.Float32 or ScalarType.Float16 or ScalarType.BFloat16;

    public static bool IsComplex(ScalarType type) => type is ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64;

    /// <summary>Whether an integer type has every value of another type, bool among them.</summary>
    public static bool Holds(ScalarType integer, ScalarType other) => !IsFloatingPoint(other) && !IsComplex(other) && other switch
    {
        ScalarType.Bool => true,
        _ when integer is ScalarType.Bool or ScalarType.Byte => other == integer,
        ScalarType.Byte => Size(integer) > 1,
        _ => Size(integer) >= Size(other),
    };

    /// <summary>How many values a shape holds.</summary>
    /// <exception cref="OverflowException">More than a long counts.</exception>
    public static long Count(IEnumerable<long> shape)
    {
        // An empty tensor may have absurd other sizes, whose product no library can form.
        long count = 1;
        foreach (long size in shape) count = checked(count * Math.Max(size, 1));
        return shape.Any(size => size == 0) ? 0 : count;
    }
}

/// <summary>Writes the format: types with the widest values first, then names in ordinal order; the header ends on a multiple of eight.</summary>
internal static class SafetensorsWriter
{
    private const int ChunkBytes = 1 << 24;

    public static void Write(string path, IReadOnlyDictionary<string, Tensor> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        (string Name, Tensor Tensor, string Type)[] ordered =
        [
            .. tensors.Select(pair => (pair.Key, pair.Value, Type(pair.Key, pair.Value)))
                .OrderByDescending(item => SafetensorsTypes.Size(item.Value.dtype))
                .ThenBy(item => item.Item3, StringComparer.Ordinal).ThenBy(item => item.Key, StringComparer.Ordinal),
        ];
        byte[] header = Header(ordered, metadata);
        AtomicFile.Write(path, stream =>
        {
            byte[] length = new byte[SafetensorsFile.LengthBytes];
            BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
            stream.Write(length);
            stream.Write(header);
            foreach ((_, Tensor tensor, _) in ordered) WriteValues(stream, tensor);
        });
    }

    private static string Type(string name, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (name == SafetensorsFile.MetadataKey)
        {
            throw new ArgumentException($"A tensor is called '{name}', which the format keeps for metadata; rename it.", nameof(name));
        }

        return SafetensorsTypes.NameOf(tensor.dtype) ?? throw new ArgumentException(
            $"'{name}' is {tensor.dtype}, which safetensors lacks; it has {string.Join(", ", SafetensorsTypes.ByName.Values)}.", nameof(tensor));
    }

    private static byte[] Header(IEnumerable<(string Name, Tensor Tensor, string Type)> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        using MemoryStream json = new();
        using (Utf8JsonWriter writer = new(json))
        {
            writer.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                writer.WriteStartObject(SafetensorsFile.MetadataKey);
                foreach ((string name, string text) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal)) writer.WriteString(name, text);
                writer.WriteEndObject();
            }

            long at = 0;
            foreach ((string name, Tensor tensor, string type) in tensors)
            {
                writer.WriteStartObject(name);
                writer.WriteString("dtype", type);
                WriteIntegers(writer, "shape", tensor.shape);
                WriteIntegers(writer, "data_offsets", [at, at += tensor.numel() * tensor.element_size()]);
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        while (json.Length % SafetensorsFile.LengthBytes != 0) json.WriteByte((byte)' ');
        return json.ToArray();
    }

    private static void WriteIntegers(Utf8JsonWriter writer, string name, long[] numbers)
    {
        writer.WriteStartArray(name);
        foreach (long number in numbers) writer.WriteNumberValue(number);
        writer.WriteEndArray();
    }

    private static void WriteValues(Stream stream, Tensor tensor)
    {
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        TensorBytes.Visit(tensor.detach().cpu().contiguous(), ChunkBytes, bytes => stream.Write(bytes));
    }
}
