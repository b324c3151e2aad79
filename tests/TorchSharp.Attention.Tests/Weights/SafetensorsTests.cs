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
        foreach (bool memoryMap in new[] { false, true }) ComesBack(type, memoryMap);
    }

    private void ComesBack(ScalarType type, bool memoryMap)
    {
        Dictionary<string, Tensor> tensors = new()
        {
            ["värde.0"] = randint(0, 100, [3, 4]).to_type(type),
            ["scalar"] = ones([], type),
            ["empty"] = zeros([0, 7], type),
            ["turned"] = randint(0, 100, [3, 4]).to_type(type).t(),
        };
        using WeightsFile file = WeightsFile.Open(_folder.Safetensors("a.bin", tensors), memoryMap: memoryMap);
        Assert.IsType<SafetensorsFile>(file);
        Assert.Equal(memoryMap, file.IsMemoryMapped);
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

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Rows_are_read_alone(bool memoryMap)
    {
        Tensor table = arange(24, ScalarType.Int16).reshape(4, 3, 2);
        Dictionary<string, Tensor> tensors = new() { ["scalar"] = ones([]), ["table"] = table, ["none"] = zeros([0, 3]), ["flat"] = zeros([3, 0]) };
        using SafetensorsFile file = SafetensorsFile.Open(_folder.Safetensors("a", tensors), memoryMap);
        Assert.Equal([12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23], file.LoadRows("table", 2, 2).data<short>().ToArray());
        Assert.Equal([1, 3, 2], file.LoadRows("table", 0, 1).shape);
        Assert.Equal([0, 3, 2], file.LoadRows("table", 4, 0).shape);
        Assert.Equal([0, 3], file.LoadRows("none", 0, 0).shape);
        Assert.Equal([2, 0], file.LoadRows("flat", 1, 2).shape);
        Assert.Contains("4 rows", Assert.Throws<ArgumentOutOfRangeException>(() => file.LoadRows("table", 5, 0)).Message, StringComparison.Ordinal);
        Assert.Contains("1 rows from row 3 on", Assert.Throws<ArgumentOutOfRangeException>(() => file.LoadRows("table", 3, 2)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => file.LoadRows("table", -1, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => file.LoadRows("table", 1, long.MaxValue));
        Assert.Contains("no rows", Assert.Throws<ArgumentException>(() => file.LoadRows("scalar", 0, 1)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => file.LoadRows("missing", 0, 1));

        // Rows cost themselves, not their tensor: the rest of the file may even be gone.
        if (memoryMap) return;
        using (FileStream writer = new(file.Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) writer.SetLength(writer.Length - 24);
        Assert.Equal([0, 1, 2, 3, 4, 5], file.LoadRows("table", 0, 1).data<short>().ToArray());
        Assert.Throws<WeightsFormatException>(() => file.Load("table"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_closed_file_is_closed_and_its_tensors_live_on(bool memoryMap)
    {
        string path = _folder.Safetensors("a", new Dictionary<string, Tensor> { ["a"] = arange(5, ScalarType.Float32) });
        SafetensorsFile file = SafetensorsFile.Open(path, memoryMap);
        Tensor read = file.Load("a");
        file.Dispose();
        file.Dispose();
        File.Delete(path);
        Assert.Equal([0f, 1, 2, 3, 4], read.data<float>().ToArray());
        Assert.Throws<ObjectDisposedException>(() => file.Load("a"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_is_no_file_is_an_error_of_reading(bool memoryMap)
    {
        Assert.Throws<FileNotFoundException>(() => WeightsFile.Open(_folder.PathOf("none"), memoryMap: memoryMap));
        Assert.Throws<UnauthorizedAccessException>(() => WeightsFile.Open(_folder.Root, memoryMap: memoryMap));
        Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(_folder.Write("empty", []), memoryMap: memoryMap));
        if (!OperatingSystem.IsWindows()) Assert.ThrowsAny<IOException>(() => WeightsFile.Open("/dev/null", memoryMap: memoryMap));
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
        Directory.CreateDirectory(_folder.PathOf("folder"));
        Assert.ThrowsAny<IOException>(() => SafetensorsFile.Write(_folder.PathOf("folder"), new Dictionary<string, Tensor> { ["a"] = zeros(2) }));
        Assert.Single(Directory.GetFiles(_folder.Root));
        Assert.Throws<DirectoryNotFoundException>(() => SafetensorsFile.Write(_folder.PathOf("none/a"), new Dictionary<string, Tensor> { ["a"] = zeros(2) }));
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
    [InlineData("""{"a":{"dtype":"I8","shape":[4,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}""", "65 sizes")]
    [InlineData("""{"__metadata__":{"a":1},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "the metadata 'a' are the number '1'; the format takes texts alone")]
    [InlineData("""{"__metadata__":{"a":null},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "the metadata 'a' are null")]
    [InlineData("""{"__metadata__":["a"],"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "'__metadata__' is a list; it must be an object of texts, or null")]
    public void A_lying_header_is_refused_with_the_reason(string header, string reason)
    {
        string path = _folder.Write("a.safetensors", GoldenFile.Join(header, new byte[4]));
        WeightsFormatException e = Assert.Throws<WeightsFormatException>(() => SafetensorsFile.Open(path));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
        Assert.Contains(path, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Metadata_that_are_null_are_none()
    {
        string path = _folder.Write("a", GoldenFile.Join("""{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", [0, 0, 128, 63]));
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Empty(file.Metadata);
        Assert.Equal(1, file.Load("a").ToSingle());
    }

    [Fact]
    public void What_the_format_cannot_hold_is_an_argument_error_of_ours()
    {
        string path = _folder.Write("a.safetensors", [1]);
        Tensor disposed = zeros(1), two = ones(2, 2);
        disposed.Dispose();
        Refused("a", two.to_sparse(), "'a' is sparse", "to_dense()");
        Refused("a", quantize_per_tensor(two, 0.1, 0, ScalarType.QUInt8), "'a' is quantized", "dequantize()");
        Refused("a", zeros(2, device: META), "'a' is on the device 'meta'", "has no values");
        Refused("a", disposed, "'a' is disposed", "alive");
        Refused("a\ud800", two, "half a character (U+D800) at 1", "whole ones");
        Assert.Contains("metadata text 'k'", Assert.Throws<ArgumentException>(
            () => SafetensorsFile.Write(path, new Dictionary<string, Tensor> { ["a"] = two }, new Dictionary<string, string> { ["k"] = "\udc00" })).Message, StringComparison.Ordinal);
        Assert.Contains("readers of the format take at most 100000000", Assert.Throws<ArgumentException>(
            () => SafetensorsFile.Write(path, new Dictionary<string, Tensor> { ["a"] = two }, new Dictionary<string, string> { ["k"] = new('x', 100_000_000) })).Message, StringComparison.Ordinal);
        Assert.Equal([1], File.ReadAllBytes(path));

        void Refused(string name, Tensor tensor, params string[] words)
        {
            string message = Assert.Throws<ArgumentException>(() => SafetensorsFile.Write(path, new Dictionary<string, Tensor> { [name] = tensor })).Message;
            foreach (string word in words) Assert.Contains(word, message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_conjugated_view_is_written_as_it_shows()
    {
        Tensor z = view_as_complex(tensor(new[] { 1f, 2, 3, 4 }).reshape(2, 2)), conjugated = z.conj();
        using SafetensorsFile file = SafetensorsFile.Open(_folder.Safetensors("a", new Dictionary<string, Tensor> { ["z"] = conjugated, ["part"] = conjugated.imag }));
        Assert.Equal([1f, -2, 3, -4], view_as_real(file.Load("z")).data<float>().ToArray());
        Assert.Equal([-2f, -4], file.Load("part").data<float>().ToArray());
    }

    [Fact]
    public void A_file_of_many_tensors_lists_them_in_order()
    {
        StringBuilder header = new("{");
        for (int i = 0; i < 20_000; i++) header.Append(System.Globalization.CultureInfo.InvariantCulture, $"{(i == 0 ? "" : ",")}\"t{i * 7919 % 20_000}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{i},{i + 1}]}}");
        using SafetensorsFile file = SafetensorsFile.Open(_folder.Write("a", GoldenFile.Join(header.Append('}').ToString(), [.. Enumerable.Range(0, 20_000).Select(i => (byte)i)])));
        Assert.Equal(Enumerable.Range(0, 20_000).Select(i => $"t{i}").Order(StringComparer.Ordinal), file.Entries.Keys);
        Assert.Equal((byte)(19_999 % 256), file.Load($"t{19_999 * 7919 % 20_000}").ToByte());
        Assert.False(file.Entries.ContainsKey("t"));
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
