using System.Buffers.Binary;
using System.Text.Json.Nodes;

namespace TorchSharp.Attention.TestSupport;

/// <summary>A safetensors file that a test reads, changes and writes: written apart from the reader under test.</summary>
public sealed class GoldenFile
{
    private readonly JsonObject _header;
    private byte[] _data;

    public GoldenFile(string kind, string source, string? arguments)
    {
        _header = new JsonObject { ["__metadata__"] = new JsonObject { ["kind"] = kind, ["source"] = source } };
        if (arguments is not null) Metadata["arguments"] = arguments;
        _data = [];
    }

    private GoldenFile(byte[] bytes)
    {
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(bytes);
        _header = JsonNode.Parse(bytes.AsSpan(8, header))!.AsObject();
        _data = bytes[(8 + header)..];
    }

    public JsonObject Metadata => _header["__metadata__"]!.AsObject();

    public static string PathOf(string fixture) => Path.Combine(AppContext.BaseDirectory, "fixtures", fixture + ".safetensors");

    public static GoldenFile Read(string fixture) => new(File.ReadAllBytes(PathOf(fixture)));

    /// <summary>Sets an argument of the constructor.</summary>
    public GoldenFile With(string argument, JsonNode? value)
    {
        JsonObject arguments = JsonNode.Parse((string)Metadata["arguments"]!)!.AsObject();
        arguments[argument] = value;
        Metadata["arguments"] = arguments.ToJsonString();
        return this;
    }

    /// <summary>Changes the first value of a float32 tensor.</summary>
    public GoldenFile Corrupt(string tensor, Func<float, float> change)
    {
        Span<byte> value = _data.AsSpan((int)_header[tensor]!["data_offsets"]![0]!.GetValue<long>(), 4);
        BinaryPrimitives.WriteSingleLittleEndian(value, change(BinaryPrimitives.ReadSingleLittleEndian(value)));
        return this;
    }

    public GoldenFile Rename(string tensor, string name)
    {
        JsonNode entry = _header[tensor]!;
        _header.Remove(tensor);
        _header[name] = entry;
        return this;
    }

    public GoldenFile Add(string name, Tensor tensor)
    {
        using Tensor values = tensor.detach().contiguous();
        _header[name] = new JsonObject
        {
            ["dtype"] = values.dtype switch { ScalarType.Float32 => "F32", ScalarType.Float64 => "F64", _ => "I64" },
            ["shape"] = new JsonArray([.. values.shape.Select(size => JsonValue.Create(size))]),
            ["data_offsets"] = new JsonArray(_data.Length, _data.Length + values.bytes.Length),
        };
        _data = [.. _data, .. values.bytes];
        return this;
    }

    public byte[] ToBytes() => Join(_header.ToJsonString(), _data);

    /// <summary>A file of a header and data, valid or not.</summary>
    public static byte[] Join(string header, byte[] data)
    {
        byte[] json = System.Text.Encoding.UTF8.GetBytes(header), length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        return [.. length, .. json, .. data];
    }
}
