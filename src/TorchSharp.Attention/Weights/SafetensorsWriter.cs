using System.Buffers.Binary;
using System.Text.Json;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Writes the format: types with the widest values first, then names in ordinal order; the header ends on a multiple of eight.
/// </summary>
internal static class SafetensorsWriter
{
    private const int ChunkBytes = 1 << 24;

    public static void Write(
        string path, IReadOnlyDictionary<string, Tensor> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        (string Name, Tensor Tensor, string Type)[] ordered =
        [
            .. tensors.Select(pair => (pair.Key, pair.Value, Type(pair.Key, pair.Value)))
                .OrderByDescending(item => SafetensorsTypes.Size(item.Value.dtype))
                .ThenBy(item => item.Item3, StringComparer.Ordinal).ThenBy(item => item.Key, StringComparer.Ordinal),
        ];
        byte[] header = Header(ordered, metadata);
        if (header.Length > SafetensorsFile.LongestHeader)
        {
            throw new ArgumentException(
                $"The names, shapes and metadata of {ordered.Length} tensors take {header.Length} bytes; " +
                "readers of the format take at most " +
                $"{SafetensorsFile.LongestHeader}. Write several files, or shorter metadata.", nameof(tensors));
        }

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
        CheckText(name, "The name of a tensor");
        if (tensor.IsInvalid) throw new ArgumentException($"'{name}' is disposed; write tensors that are alive.", nameof(tensor));
        if (tensor.is_sparse)
        {
            throw new ArgumentException(
                $"'{name}' is sparse; safetensors holds dense tensors alone. Write its to_dense() instead.", nameof(tensor));
        }

        if (tensor.is_quantized())
        {
            throw new ArgumentException(
                $"'{name}' is quantized; safetensors has no scales. Write its dequantize() instead.", nameof(tensor));
        }

        if (tensor.device_type == DeviceType.META)
        {
            throw new ArgumentException(
                $"'{name}' is on the device 'meta' and has no values; write one that has.", nameof(tensor));
        }

        if (name == SafetensorsFile.MetadataKey)
        {
            throw new ArgumentException(
                $"A tensor is called '{name}', which the format keeps for metadata; rename it.", nameof(name));
        }

        return SafetensorsTypes.NameOf(tensor.dtype) ?? throw new ArgumentException(
            $"'{name}' is {tensor.dtype}, which safetensors lacks; it has {string.Join(", ", SafetensorsTypes.ByName.Values)}.",
            nameof(tensor));
    }

    /// <summary>Half of a character of two halves has no bytes: another text would stand in the file.</summary>
    private static void CheckText(string text, string what)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (!char.IsSurrogate(text[i])) continue;
            if (i + 1 < text.Length && char.IsSurrogatePair(text[i], text[i + 1])) i++;
            else throw new ArgumentException(
                $"{what} has half a character (U+{(int)text[i]:X4}) at {i}; give whole ones.", nameof(text));
        }
    }

    private static byte[] Header(
        IEnumerable<(string Name, Tensor Tensor, string Type)> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        using MemoryStream json = new();
        using (Utf8JsonWriter writer = new(json))
        {
            writer.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                writer.WriteStartObject(SafetensorsFile.MetadataKey);
                foreach ((string name, string text) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                {
                    ArgumentNullException.ThrowIfNull(text, name);
                    CheckText(name, "A name in the metadata");
                    CheckText(text, $"The metadata text '{name}'");
                    writer.WriteString(name, text);
                }

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

        // A conjugated or negated view shows other values than its memory holds.
        TensorBytes.Visit(
            tensor.detach().resolve_conj().resolve_neg().cpu().contiguous(), ChunkBytes, bytes => stream.Write(bytes));
    }
}
