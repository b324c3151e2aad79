using System.Text;

namespace TorchSharp.Attention.Tests;

/// <summary>The safetensors format: every type there and back, the bytes that the format asks for, whole files or none.</summary>
public sealed class SafetensorsTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public static TheoryData<ScalarType> Types =>
    [
        ScalarType.Float64, ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16, ScalarType.Int64, ScalarType.Int32, ScalarType.Int16,
        ScalarType.Int8, ScalarType.Byte, ScalarType.Bool, ScalarType.ComplexFloat32,
    ];

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Every_type_and_shape_comes_back(ScalarType type)
    {
        Dictionary<string, Tensor> tensors = new()
        {
            ["värde.0"] = randint(0, 100, [3, 4]).to_type(type),
            ["scalar"] = ones([], type),
            ["empty"] = zeros([0, 7], type),
            ["turned"] = randint(0, 100, [3, 4]).to_type(type).t(),
        };
        using WeightsFile file = WeightsFile.Open(_folder.Safetensors("a.bin", tensors));
        Assert.IsType<SafetensorsFile>(file);
        Assert.Equal(tensors.Keys.Order(StringComparer.Ordinal), file.Entries.Keys);
        foreach ((string name, Tensor tensor) in tensors)
        {
            Tensor read = file.Load(name);
            Assert.Equal(new WeightsEntry(name, type, ValueList.Create<long>(tensor.shape)), file.Entries[name]);
            Assert.Equal((type, true), (read.dtype, read.is_contiguous()));
            Assert.Equal(tensor.shape, read.shape);
            Assert.Equal(WeightsFolder.Bytes(tensor), WeightsFolder.Bytes(read));
        }
    }

    [Fact]
    public void The_bytes_are_what_the_format_asks_for()
    {
        string path = _folder.PathOf("a.safetensors");
        Dictionary<string, Tensor> tensors = new() { ["b"] = tensor(new byte[] { 7 }), ["z"] = tensor(new[] { 1f }), ["a"] = tensor(new[] { 2f }) };
        SafetensorsFile.Write(path, tensors, new Dictionary<string, string> { ["format"] = "pt" });
        string header = """{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}""";
        header = header.PadRight((header.Length + 7) / 8 * 8);
        Assert.Equal([.. BitConverter.GetBytes((long)header.Length), .. Encoding.UTF8.GetBytes(header), 0, 0, 0, 64, 0, 0, 128, 63, 7], File.ReadAllBytes(path));
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Equal("pt", Assert.Single(file.Metadata).Value);
    }

    [Fact]
    public void A_header_of_any_length_is_told_from_a_pickle_and_a_zip()
    {
        // 0x0280: what a pickle of protocol 2 starts with; 0x4b50: what a zip archive starts with.
        foreach (int length in new[] { 0x0280, 0x0480, 0x4b50 })
        {
            string header = """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""".PadRight(length);
            using WeightsFile file = WeightsFile.Open(_folder.Write("a.bin", GoldenFile.Join(header, [0, 0, 128, 63])));
            Assert.Equal(1, file.Load("a").ToSingle());
        }
    }

    [Fact]
    public void A_write_that_fails_leaves_the_old_file_and_nothing_else()
    {
        string path = _folder.Write("a.safetensors", [1, 2, 3]);
        Tensor dead = zeros(2);
        dead.Dispose();
        Assert.ThrowsAny<Exception>(() => SafetensorsFile.Write(path, new Dictionary<string, Tensor> { ["a"] = zeros(2), ["b"] = dead }));
        Assert.Contains("ComplexFloat64", Assert.Throws<ArgumentException>(
            () => SafetensorsFile.Write(path, new Dictionary<string, Tensor> { ["a"] = zeros(2, ScalarType.ComplexFloat64) })).Message, StringComparison.Ordinal);
        Assert.Contains("__metadata__", Assert.Throws<ArgumentException>(
            () => SafetensorsFile.Write(path, new Dictionary<string, Tensor> { ["__metadata__"] = zeros(2) })).Message, StringComparison.Ordinal);
        Assert.Equal([1, 2, 3], File.ReadAllBytes(path));
        Assert.Single(Directory.GetFiles(_folder.Root));
    }

    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}""", "'a' is there twice")]
    [InlineData("""{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}""", "the property 'dtype' twice")]
    [InlineData("""{"__metadata__":{},"__metadata__":{},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "'__metadata__' is there twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"code":"x"}}""", "unknown property 'code'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"I16","shape":[1],"data_offsets":[2,4]}}""", "'b' starts at byte 2")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}""", "offsets [-4, 0]")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}""", "not understood")]
    [InlineData("""{"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}}""", "not understood")]
    [InlineData("""{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}""", "type 'F8_E4M3', which TorchSharp lacks")]
    public void A_lying_header_is_refused_with_the_reason(string header, string reason)
    {
        string path = _folder.Write("a.safetensors", GoldenFile.Join(header, new byte[4]));
        WeightsFormatException e = Assert.Throws<WeightsFormatException>(() => SafetensorsFile.Open(path));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
        Assert.Contains(path, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_shrinks_while_it_is_open_is_an_error_and_no_crash()
    {
        string path = _folder.Safetensors("a.safetensors", new Dictionary<string, Tensor> { ["a"] = zeros(100_000) });
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using (FileStream writer = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) writer.SetLength(1000);
        Assert.Contains("ends at byte 1000", Assert.Throws<WeightsFormatException>(() => file.Load("a")).Message, StringComparison.Ordinal);
        Assert.Contains("has no tensor 'b'", Assert.Throws<ArgumentException>(() => file.Load("b")).Message, StringComparison.Ordinal);
    }
}
