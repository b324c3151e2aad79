using System.Text;
using TorchSharp.Attention.Golden;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>What torch.save wrote before PyTorch 1.6: pickles and values one after the other. The files come from a writer that shares nothing with the reader.</summary>
public sealed class TorchLegacyTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(TorchArchiveTests.Types), MemberType = typeof(TorchArchiveTests))]
    public void Every_type_is_read(ScalarType type)
    {
        Tensor values = randint(0, 100, [3, 4]).to_type(type), scalar = ones([], type), none = zeros([0, 7], type);
        TorchWriter writer = new();
        PickledState state = writer.State(new Dictionary<string, Tensor> { ["b"] = values, ["a"] = scalar, ["c"] = none });
        int size = (int)values.element_size();
        string path = _folder.Write("a.pth", writer.ToLegacyBytes(state, [size, size, size]));
        foreach (bool memoryMap in new[] { false, true })
        {
            using WeightsFile file = WeightsFile.Open(path, memoryMap: memoryMap);
            Assert.IsType<TorchArchive>(file);
            Assert.Equal(memoryMap, file.IsMemoryMapped);
            Assert.Equal(["a", "b", "c"], file.Entries.Keys);
            Assert.Equal(new WeightsEntry("b", type, [3, 4]), file.Entries["b"]);
            Assert.Equal(WeightsFolder.Bytes(values), WeightsFolder.Bytes(file.Load("b")));
            Assert.Equal(WeightsFolder.Bytes(values.narrow(0, 1, 2)), WeightsFolder.Bytes(file.LoadRows("b", 1, 2)));
            Assert.Equal(WeightsFolder.Bytes(scalar), WeightsFolder.Bytes(file.Load("a")));
            Assert.Equal([0, 7], file.Load("c").shape);
        }
    }

    [Fact]
    public void Views_of_one_storage_are_read_whatever_their_strides_offset_and_part()
    {
        TorchWriter writer = new();
        string first = writer.Storage(new byte[12]), key = writer.Storage(WeightsFolder.Bytes(arange(24, ScalarType.Float32)));
        PickledTensor all = new("FloatStorage", key, 24, 0, [4, 6], [6, 1]);
        Dictionary<string, object?> state = new()
        {
            ["first"] = new PickledTensor("ByteStorage", first, 12, 0, [12], [1]),
            ["whole"] = all,
            ["tied"] = all with { IsParameter = true },
            ["turned"] = all with { Shape = [6, 4], Strides = [1, 6] },
            ["column"] = all with { Shape = [4], Strides = [6], Offset = 5 },
            ["part"] = all with { Shape = [2, 2], Strides = [2, 1], Offset = 1, View = ("x", 7, 5) },
        };
        Tensor expected = arange(24, ScalarType.Float32).reshape(4, 6);
        string path = _folder.Write("a.pt", writer.ToLegacyBytes(state, [1, 4]));
        using (TorchArchive file = TorchArchive.Open(path))
        {
            Assert.True(file.Load("whole").equal(expected).all().ToBoolean());
            Assert.True(file.Load("tied").equal(expected).all().ToBoolean());
            Assert.True(file.Load("turned").equal(expected.t()).all().ToBoolean());
            Assert.Equal([5f, 11, 17, 23], file.Load("column").data<float>().ToArray());
            Assert.Equal([8f, 9, 10, 11], file.Load("part").data<float>().ToArray());
        }

        state["part"] = all with { Shape = [5], Strides = [1], Offset = 1, View = ("x", 7, 5) };
        Assert.Contains("does not fit its storage of 5 values", Refusal(writer.ToLegacyBytes(state, [1, 4])), StringComparison.Ordinal);
        state["part"] = all with { View = ("x", 7, 18) };
        Assert.Contains("a part of a storage that the storage does not have", Refusal(writer.ToLegacyBytes(state, [1, 4])), StringComparison.Ordinal);
    }

    [Fact]
    public void Values_are_little_endian_whatever_the_machine()
    {
        TorchWriter writer = new();
        byte[] bytes = writer.ToLegacyBytes(new Dictionary<string, object?> { ["a"] = writer.Tensor(tensor(new[] { 1.5f, -3 })) }, [4], littleEndian: false);
        using TorchArchive file = TorchArchive.Open(_folder.Write("a.pt", bytes));
        Assert.Equal([1.5f, -3], file.Load("a").data<float>().ToArray());
        TorchWriter complex = new();
        Dictionary<string, object?> state = new() { ["a"] = complex.Tensor(ones([2], ScalarType.ComplexFloat32)) };
        Assert.Contains("big-endian", Refusal(complex.ToLegacyBytes(state, [8], littleEndian: false)), StringComparison.Ordinal);
    }

    [Fact]
    public void What_Python_2_and_old_PyTorch_wrote_is_read()
    {
        // OrderedDict([['w', _rebuild_tensor(…)]]) with byte strings, and Variable(…) around a tensor that is built with attributes.
        const string Storage = "((U\u0007storagectorch\nFloatStorage\nU\u00010U\u0006cuda:0K\u0002NtQK\0K\u0002\u0085K\u0001\u0085t";
        const string Tensor = "ctorch._utils\n_rebuild_tensor\n" + Storage + "R";
        const string Pickle = "\u0080\u0002ccollections\nOrderedDict\n](](U\u0001w" + Tensor + "e](T\u0001\0\0\0vctorch.autograd.variable\nVariable\n" + Tensor
            + "\u0085R(\u0089\u0089ccollections\nOrderedDict\n)Rtbee\u0085R}U\u0009_metadata}sb.";
        TorchWriter writer = new();
        writer.Storage(WeightsFolder.Bytes(tensor(new[] { 2f, 5 })));
        using TorchArchive file = TorchArchive.Open(_folder.Write("a.pt", writer.Legacy(Encoding.Latin1.GetBytes(Pickle), [4])));
        Assert.Equal(["v", "w"], file.Entries.Keys);
        Assert.Equal([2f, 5], file.Load("w").data<float>().ToArray());
        Assert.Equal([2f, 5], file.Load("v").data<float>().ToArray());
    }

    [Fact]
    public void A_file_that_is_cut_off_or_too_long_is_refused_everywhere()
    {
        TorchWriter writer = new();
        byte[] whole = writer.ToLegacyBytes(new Dictionary<string, object?> { ["a"] = writer.Tensor(ones(3)), ["b"] = writer.Tensor(ones(2)) }, [4, 4]);
        for (int length = 0; length < whole.Length; length++)
        {
            string path = _folder.Write("a.pt", whole[..length]);
            Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(path));
            Assert.Null(HostileRun.Judge(path, length, memoryMap: length % 2 == 0, out bool isRead));
            Assert.False(isRead);
        }

        Assert.Contains("It is cut off", Refusal(whole[..^1]), StringComparison.Ordinal);
        Assert.Contains("several objects were saved into one file", Refusal([.. whole, .. whole]), StringComparison.Ordinal);
        Assert.Contains($"the values end at byte {whole.Length}; the file has {whole.Length + 1}", Refusal([.. whole, 0]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(-1L)]
    [InlineData(4L)]
    [InlineData(long.MaxValue)]
    [InlineData(long.MinValue)]
    public void Another_count_of_values_than_the_tensors_need_is_refused(long count)
    {
        TorchWriter writer = new();
        byte[] whole = writer.ToLegacyBytes(new Dictionary<string, object?> { ["a"] = writer.Tensor(ones(3)) }, [4]);
        BitConverter.TryWriteBytes(whole.AsSpan(whole.Length - 20), count);
        Assert.Contains($"has 3 values according to the tensors and {count} at byte {whole.Length - 20}", Refusal(whole), StringComparison.Ordinal);
    }

    [Fact]
    public void Enormous_counts_allocate_nothing()
    {
        foreach (long count in new[] { 1L << 40, 1L << 62, long.MaxValue })
        {
            PickledTensor tensor = new("FloatStorage", "0", count, 0, [1], [1]);
            TorchWriter writer = new();
            writer.Storage(new byte[16]);
            byte[] bytes = writer.ToLegacyBytes(new Dictionary<string, object?> { ["a"] = tensor }, [4]);
            BitConverter.TryWriteBytes(bytes.AsSpan(bytes.Length - 24), count);
            string path = _folder.Write("a.pt", bytes);
            Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(path));
            Assert.Null(HostileRun.Judge(path, bytes.Length, memoryMap: false, out _));
        }
    }

    [Fact]
    public void Storages_that_do_not_agree_are_refused()
    {
        Tensor one = ones(3);
        Assert.Contains("are missing", Refusal(Built(writer => new() { ["a"] = writer.Tensor(one) with { Key = "7" } }, "")), StringComparison.Ordinal);
        Assert.Contains("one that no tensor uses", Refusal(Built(writer => new() { ["a"] = writer.Tensor(one) with { Key = "7" } }, null)), StringComparison.Ordinal);
        Assert.Contains("12 bytes in one place and 24 in another", Refusal(Built(writer =>
        {
            PickledTensor tensor = writer.Tensor(one);
            return new() { ["a"] = tensor, ["b"] = tensor with { StorageClass = "DoubleStorage" } };
        }, null)), StringComparison.Ordinal);
        Assert.Contains("no storage of a known type", Refusal(Built(writer => new() { ["a"] = writer.Tensor(one) with { StorageClass = "Size" } }, null)), StringComparison.Ordinal);

        static byte[] Built(Func<TorchWriter, Dictionary<string, object?>> state, string? keys)
        {
            TorchWriter writer = new();
            byte[] pickle = PickleWriter.Write(state(writer), legacy: true);
            return keys is null ? writer.Legacy(pickle, [4]) : new TorchWriter().Legacy(pickle, []);
        }
    }

    [Fact]
    public void Another_kind_of_pickle_is_refused_with_the_way_out()
    {
        string bare = Refusal(PickleWriter.Write(new Dictionary<string, object?> { ["a"] = 1 }));
        Assert.Contains("this is a bare pickle", bare, StringComparison.Ordinal);
        Assert.Contains("torch.save(", bare, StringComparison.Ordinal);
        Assert.Contains("another one than 1001", Refusal([.. TorchWriter.LegacyMagic, .. PickleWriter.Write(1000)]), StringComparison.Ordinal);
        Assert.Contains("the version, at byte 15", Refusal(TorchWriter.LegacyMagic), StringComparison.Ordinal);
        string zero = Refusal("L119547037146038801333356L\n.I1001\n.(dp0\nV"u8.ToArray());
        Assert.Contains("protocol 0", zero, StringComparison.Ordinal);
        Assert.Contains("Save it anew", zero, StringComparison.Ordinal);
    }

    [Fact]
    public void Released_names_of_DataParallel_are_loaded_through_a_key_map()
    {
        TorchWriter writer = new();
        Tensor weight = randn(2, 3), bias = randn(2);
        Dictionary<string, object?> checkpoint = new()
        {
            ["epoch"] = 89,
            ["state_dict"] = writer.State(new Dictionary<string, Tensor> { ["module.weight"] = weight, ["module.bias"] = bias }),
            ["best_prec1"] = new PickledCall("numpy.core.multiarray", "scalar"),
        };
        using Linear linear = nn.Linear(3, 2);
        WeightsReport report = linear.LoadWeights(_folder.Write("a.pth", writer.ToLegacyBytes(checkpoint, [4, 4])), KeyMaps.DataParallel);
        Assert.True(report.IsComplete);
        Assert.Equal(["'epoch': an integer", "'best_prec1': 'numpy.core.multiarray.scalar'"], report.NotTensors);
        Assert.Equal(WeightsFolder.Bytes(weight), WeightsFolder.Bytes(linear.weight!));
        Assert.Equal(WeightsFolder.Bytes(bias), WeightsFolder.Bytes(linear.bias!));
    }

    private string Refusal(byte[] bytes)
    {
        string path = _folder.Write("refused.pt", bytes), message = Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(path)).Message;
        Assert.Contains(path, message, StringComparison.Ordinal);
        return message;
    }
}
