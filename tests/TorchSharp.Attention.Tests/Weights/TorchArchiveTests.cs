using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using TorchSharp.Attention.Golden;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>What torch.save writes, read without executing anything. The files come from a writer that shares nothing with the reader.</summary>
public sealed class TorchArchiveTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public static TheoryData<ScalarType> Types => [.. SafetensorsTests.Types.Select(row => row.Data), ScalarType.ComplexFloat64];

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Every_type_is_read(ScalarType type)
    {
        foreach (bool memoryMap in new[] { false, true }) ReadsEveryShape(type, memoryMap);
    }

    private void ReadsEveryShape(ScalarType type, bool memoryMap)
    {
        Tensor values = randint(0, 100, [3, 4]).to_type(type), scalar = ones([], type), none = zeros([0, 7], type);
        using WeightsFile file = WeightsFile.Open(_folder.Torch("a.pth", new Dictionary<string, Tensor> { ["b"] = values, ["a"] = scalar, ["c"] = none }), memoryMap: memoryMap);
        Assert.Equal(memoryMap, file.IsMemoryMapped);
        Assert.Equal(["a", "b", "c"], file.Entries.Keys);
        Assert.Equal(new WeightsEntry("b", type, [3, 4]), file.Entries["b"]);
        Assert.Equal(WeightsFolder.Bytes(values), WeightsFolder.Bytes(file.Load("b")));
        Assert.Equal(WeightsFolder.Bytes(scalar), WeightsFolder.Bytes(file.Load("a")));
        Assert.Equal([0, 7], file.Load("c").shape);
    }

    [Fact]
    public void Views_of_one_storage_are_read_whatever_their_strides_and_offset()
    {
        TorchWriter writer = new();
        string key = writer.Storage(WeightsFolder.Bytes(arange(24, ScalarType.Float32)));
        PickledTensor all = new("FloatStorage", key, 24, 0, [4, 6], [6, 1]);
        Dictionary<string, object?> state = new()
        {
            ["whole"] = all,
            ["tied"] = all with { IsParameter = true },
            ["turned"] = all with { Shape = [6, 4], Strides = [1, 6] },
            ["column"] = all with { Shape = [4], Strides = [6], Offset = 5 },
            ["part"] = all with { Shape = [2, 3], Strides = [6, 1], Offset = 8 },
            ["same"] = all with { Shape = [5], Strides = [0], Offset = 23 },
        };
        Tensor expected = arange(24, ScalarType.Float32).reshape(4, 6);
        using TorchArchive file = TorchArchive.Open(_folder.Write("a.pt", writer.ToBytes(state)));
        Assert.True(file.Load("whole").equal(expected).all().ToBoolean());
        Assert.True(file.Load("tied").equal(expected).all().ToBoolean());
        Assert.True(file.Load("turned").equal(expected.t()).all().ToBoolean());
        Assert.Equal([5f, 11, 17, 23], file.Load("column").data<float>().ToArray());
        Assert.Equal([8f, 9, 10, 14, 15, 16], file.Load("part").data<float>().ToArray());
        Assert.Equal([23f, 23, 23, 23, 23], file.Load("same").data<float>().ToArray());
        Assert.True(file.Load("turned").is_contiguous());
        foreach ((string name, WeightsEntry entry) in file.Entries)
        {
            for (long start = 0; start <= entry.Shape[0]; start++)
            {
                for (long count = 0; count <= entry.Shape[0] - start; count++)
                {
                    Tensor rows = file.LoadRows(name, start, count), slice = file.Load(name).narrow(0, start, count);
                    Assert.Equal(slice.shape, rows.shape);
                    Assert.Equal(WeightsFolder.Bytes(slice), WeightsFolder.Bytes(rows));
                }
            }
        }
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Archives_of_any_width_are_read(bool zip64, bool wideMembers)
    {
        TorchWriter writer = new() { Zip64End = zip64, WideMembers = wideMembers };
        byte[] bytes = writer.ToBytes(writer.State(new Dictionary<string, Tensor> { ["a"] = arange(6, ScalarType.Float32), ["b"] = ones(3) }));
        using TorchArchive file = TorchArchive.Open(_folder.Write("a.pt", bytes));
        Assert.Equal([0f, 1, 2, 3, 4, 5], file.Load("a").data<float>().ToArray());
        Assert.Equal([1f, 1, 1], file.Load("b").data<float>().ToArray());
    }

    [Fact]
    public void Big_endian_values_are_turned()
    {
        TorchWriter writer = new() { ByteOrder = "big", Root = "weights_3" };
        byte[] numbers = new byte[8], halves = [0x3c, 0, 0xc0, 0], flags = [1, 0, 1];
        BinaryPrimitives.WriteSingleBigEndian(numbers, 1.5f);
        BinaryPrimitives.WriteSingleBigEndian(numbers.AsSpan(4), -3);
        Dictionary<string, object?> state = new()
        {
            ["single"] = new PickledTensor("FloatStorage", writer.Storage(numbers), 2, 0, [2], [1]),
            ["complex"] = new PickledTensor("ComplexFloatStorage", writer.Storage(numbers), 1, 0, [1], [1]),
            ["half"] = new PickledTensor("HalfStorage", writer.Storage(halves), 2, 0, [2], [1]),
            ["flag"] = new PickledTensor("BoolStorage", writer.Storage(flags), 3, 0, [3], [1]),
        };
        using TorchArchive file = TorchArchive.Open(_folder.Write("a.pt", writer.ToBytes(state)));
        Assert.Equal([1.5f, -3], file.Load("single").data<float>().ToArray());
        Assert.Equal((1.5f, -3f), file.Load("complex").data<(float, float)>()[0]);
        Assert.Equal([1f, -2], file.Load("half").to_type(ScalarType.Float32).data<float>().ToArray());
        Assert.Equal([true, false, true], file.Load("flag").data<bool>().ToArray());
    }

    [Theory]
    [InlineData("state_dict", null)]
    [InlineData("model", null)]
    [InlineData("net", null)]
    [InlineData("state.inner", "state.inner")]
    public void A_state_dict_is_found_in_a_checkpoint(string place, string? section)
    {
        TorchWriter writer = new();
        object? value = writer.State(new Dictionary<string, Tensor> { ["fc.weight"] = ones(2) });
        foreach (string key in place.Split('.').Reverse()) value = new Dictionary<string, object?> { [key] = value };
        Dictionary<string, object?> checkpoint = (Dictionary<string, object?>)value!;
        checkpoint["epoch"] = 70_000;
        checkpoint["loss"] = 0.25;
        checkpoint["seed"] = 1L << 40;
        checkpoint["milestones"] = new List<object?> { 30, -1, null, true };
        checkpoint["size"] = new PickledCall("torch", "Size", (object)new object?[] { 3, 224, 224 });
        checkpoint["device"] = new PickledCall("torch", "device", "cuda", 0);
        checkpoint["optimizer"] = new Dictionary<string, object?> { ["param_groups"] = new List<object?> { new Dictionary<string, object?> { ["lr"] = 0.1 } } };
        string path = _folder.Write("a.pt", writer.ToBytes(checkpoint));
        using TorchArchive file = TorchArchive.Open(path, section);
        Assert.Equal((place, "fc.weight"), (file.Section, Assert.Single(file.Entries).Key));
        using TorchArchive chosen = TorchArchive.Open(path, place);
        Assert.Equal([1f, 1f], chosen.Load("fc.weight").data<float>().ToArray());
        Assert.Contains(place, Assert.Throws<WeightsFormatException>(() => TorchArchive.Open(path, "missing")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Of_several_dictionaries_one_must_be_named()
    {
        TorchWriter writer = new();
        Dictionary<string, object?> two = new()
        {
            ["generator"] = writer.State(new Dictionary<string, Tensor> { ["a"] = ones(2) }),
            ["critic"] = writer.State(new Dictionary<string, Tensor> { ["b"] = ones(2) }),
        };
        string path = _folder.Write("a.pt", writer.ToBytes(two));
        Assert.Contains("say which section: 'generator', 'critic'", Refusal(path), StringComparison.Ordinal);
        using WeightsFile critic = WeightsFile.Open(path, "critic");
        Assert.Equal("b", Assert.Single(critic.Entries).Key);
        Assert.Contains("no dictionary of tensors", Refusal(_folder.Write("b.pt", writer.ToBytes(new Dictionary<string, object?>()))), StringComparison.Ordinal);
        Assert.Contains("holds no dictionary", Refusal(_folder.Write("c.pt", writer.ToBytes(3))), StringComparison.Ordinal);
    }

    [Fact]
    public void A_thousand_dictionaries_under_one_long_key_take_no_memory_for_their_paths()
    {
        // key → { key → {}, key → {}, … }: a byte or two name a million characters again. Joined, the paths would take four gigabytes.
        byte[] key = [(byte)'X', .. BitConverter.GetBytes(1_000_000), .. Enumerable.Repeat((byte)'k', 1_000_000), (byte)'q', 0];
        byte[] inner = [.. Enumerable.Repeat<byte[]>([(byte)'h', 0, (byte)'}'], 1000).SelectMany(bytes => bytes)];
        byte[] pickle = [0x80, 2, (byte)'}', .. key, (byte)'}', (byte)'(', .. inner, (byte)'u', (byte)'s', (byte)'.'];
        string path = _folder.Write("a.pt", new TorchWriter().Archive(pickle));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Contains("no dictionary of tensors", Refusal(path), StringComparison.Ordinal);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 20_000_000);
    }

    [Theory]
    [InlineData("a", "weight", true)]
    [InlineData("a.b", "weight", true)]
    [InlineData("b", "weight", false)]
    [InlineData("a.b.c", "weight", false)]
    [InlineData("a.", "weight", false)]
    [InlineData(".b", "weight", false)]
    [InlineData("", "weight", false)]
    public void A_section_is_the_keys_that_lead_to_it(string section, string name, bool isThere)
    {
        TorchWriter writer = new();
        PickledTensor one = writer.Tensor(ones(1));
        Dictionary<string, object?> nested = new() { ["a"] = new Dictionary<string, object?> { [name] = one, ["b"] = new Dictionary<string, object?> { [name] = one } } };
        string path = _folder.Write("a.pt", writer.ToBytes(nested));
        if (!isThere)
        {
            Assert.Contains($"no dictionary of tensors '{section}'; it has 'a', 'a.b'", Assert.Throws<WeightsFormatException>(() => TorchArchive.Open(path, section)).Message, StringComparison.Ordinal);
            return;
        }

        using TorchArchive file = TorchArchive.Open(path, section);
        Assert.Equal((section, name), (file.Section, Assert.Single(file.Entries).Key));
    }

    [Theory]
    [InlineData("os", "system")]
    [InlineData("os.path", "join")]
    [InlineData("posix", "system")]
    [InlineData("nt", "system")]
    [InlineData("builtins", "eval")]
    [InlineData("builtins", "eval.x")]
    [InlineData("__builtin__", "exec")]
    [InlineData("subprocess", "Popen")]
    [InlineData("torch", "load")]
    [InlineData("torch.hub", "load")]
    [InlineData("collections", "OrderedDict.__class__")]
    public void What_would_run_something_in_Python_is_refused_by_name(string module, string name)
    {
        foreach (bool legacy in new[] { false, true })
        {
            TorchWriter writer = new();
            Dictionary<string, object?> evil = new() { ["weight"] = writer.Tensor(ones(2)), ["x"] = new PickledCall(module, name, "touch /tmp/owned") };
            string message = Refusal(_folder.Write("a.pt", legacy ? writer.ToLegacyBytes(evil, [4]) : writer.ToBytes(evil)));
            Assert.Contains($"'{module}.{name}'", message, StringComparison.Ordinal);
            Assert.Contains("nothing was run", message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("torch.nn.modules.conv", "Conv2d")]
    [InlineData("argparse", "Namespace")]
    [InlineData("mycode.models", "Net")]
    public void A_file_of_other_objects_alone_is_refused_with_their_names(string module, string name)
    {
        foreach (bool legacy in new[] { false, true })
        {
            TorchWriter writer = new();
            foreach (object value in new object[] { new PickledCall(module, name), new Dictionary<string, object?> { ["net"] = new PickledCall(module, name) } })
            {
                string message = Refusal(_folder.Write("a.pt", legacy ? writer.ToLegacyBytes(value, []) : writer.ToBytes(value)));
                Assert.Contains($"'{module}.{name}'", message, StringComparison.Ordinal);
                Assert.Contains("torch.save(model.state_dict(), path)", message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void Objects_beside_the_weights_are_skipped_and_listed()
    {
        TorchWriter writer = new();
        Dictionary<string, object?> checkpoint = new()
        {
            ["model"] = new Dictionary<string, object?> { ["weight"] = writer.Tensor(ones(2, 3)), ["bias"] = writer.Tensor(ones(2)), ["_extra_state"] = null, ["count"] = 3 },
            ["args"] = new PickledCall("argparse", "Namespace"),
            ["epoch"] = 7,
            ["scheduler"] = new Dictionary<string, object?> { ["lambda"] = new PickledCall("functools", "partial", new PickledCall("some.thing", "Evil")) },
        };
        string path = _folder.Write("a.pt", writer.ToBytes(checkpoint));
        string[] expected = ["'model._extra_state': None", "'model.count': an integer", "'args': 'argparse.Namespace'", "'epoch': an integer", "'scheduler': a dictionary"];
        using (WeightsFile file = WeightsFile.Open(path)) Assert.Equal(expected, file.NotTensors);
        using Linear linear = nn.Linear(3, 2);
        WeightsReport report = linear.LoadWeights(path);
        Assert.True(report.IsComplete);
        Assert.Equal(expected, report.NotTensors);
        Assert.Contains("no tensors, so not read: 'model._extra_state': None, 'model.count': an integer, 'args': 'argparse.Namespace'", report.ToString(), StringComparison.Ordinal);
        Assert.Equal([1f, 1, 1, 1, 1, 1], linear.weight!.data<float>().ToArray());
    }

    [Fact]
    public void A_tensor_of_a_type_that_TorchSharp_lacks_is_listed_and_missed_where_it_is_needed()
    {
        foreach (bool legacy in new[] { false, true })
        {
            TorchWriter writer = new();
            PickledTensor weight = writer.Tensor(ones(2, 3)), bias = new("QInt8Storage", writer.Storage([1, 2]), 2, 0, [2], [1]);
            Dictionary<string, object?> state = new() { ["weight"] = weight, ["bias"] = bias };
            string path = _folder.Write("a.pt", legacy ? writer.ToLegacyBytes(state, [4, 1]) : writer.ToBytes(state));
            using Linear whole = nn.Linear(3, 2), part = nn.Linear(3, 2, hasBias: false);
            WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => whole.LoadWeights(path));
            Assert.Equal(["bias"], e.Report.Missing);
            Assert.Contains("'bias': a tensor of 'torch.QInt8Storage', which is not read", e.Message, StringComparison.Ordinal);
            Assert.True(part.LoadWeights(path).IsComplete);
        }
    }

    [Fact]
    public void What_is_listed_of_a_hostile_checkpoint_takes_little_memory()
    {
        // {key: {'a': tensor, key: None, key: None, …}} with a key of a million letters, which the memo repeats in two bytes.
        TorchWriter writer = new();
        string key = writer.Storage(new byte[4]);
        byte[] letters = [(byte)'X', .. BitConverter.GetBytes(1_000_000), .. Enumerable.Repeat((byte)'k', 1_000_000), (byte)'q', 9];
        byte[] tensor = PickleWriter.Write(new PickledTensor("FloatStorage", key, 1, 0, [1], [1]))[2..^1];
        byte[] nones = [.. Enumerable.Repeat<byte[]>([(byte)'h', 9, (byte)'N'], 20_000).SelectMany(bytes => bytes)];
        byte[] pickle = [0x80, 2, (byte)'}', .. letters, (byte)'}', (byte)'(', (byte)'X', 1, 0, 0, 0, (byte)'a', .. tensor, .. nones, (byte)'u', (byte)'s', (byte)'.'];
        string path = _folder.Write("a.pt", writer.Archive(pickle));
        long before = GC.GetAllocatedBytesForCurrentThread();
        using WeightsFile file = WeightsFile.Open(path);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 20_000_000);
        Assert.InRange(file.NotTensors.Count, 1, 1002);
        Assert.All(file.NotTensors, other => Assert.InRange(other.Length, 1, 300));
    }

    [Fact]
    public void A_name_put_together_on_the_stack_is_refused_too()
    {
        byte[] pickle = [0x80, 4, 0x8c, 2, .. "os"u8, 0x94, 0x8c, 6, .. "system"u8, 0x94, 0x93, 0x94, 0x8c, 2, .. "ls"u8, 0x85, (byte)'R', (byte)'.'];
        Assert.Contains("'os.system'", Refusal(_folder.Write("a.pt", new TorchWriter().Archive(pickle))), StringComparison.Ordinal);
        Assert.Contains("TorchScript", Refusal(_folder.Write("b.pt", new TorchWriter().Archive([0x80, 2, .. "c__torch__.Net\nNet\n."u8]))), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("i", "a name does not end")]
    [InlineData("ios\nsystem\n", "'os.system'")]
    [InlineData("o", "a mark is missing")]
    [InlineData("(o", "a value is missing")]
    [InlineData("0", "a value is missing")]
    [InlineData("N\u0081", "a value is missing")]
    [InlineData("NN\u0081", "is no function")]
    [InlineData("NNN\u0092", "is no function")]
    [InlineData("\u0097", "0x97")]
    [InlineData("\u0082", "0x82")]
    [InlineData("p0\n", "protocol 0")]
    [InlineData("Lx\n", "'x' is no whole number")]
    [InlineData("C\u0005ab", "asks for 5 bytes; 2 are left")]
    [InlineData("\u008e\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u007fa", "asks for 9223372036854775807 bytes")]
    [InlineData("N(\u0090.", "what is no set")]
    [InlineData("Nb.", "a value is missing")]
    [InlineData("NNb.", "on what has none")]
    [InlineData("ccollections\nOrderedDict\n](NNe\u0085R.", "something else than pairs")]
    [InlineData("ccollections\nOrderedDict\nq\0]q\u0001\u0085R0h\0h\u0001\u0085R.", "made of one list")]
    [InlineData("(((((", "asks for 1 bytes; 0 are left")]
    [InlineData("X\u00ff\u00ff\u00ff\u00ffa", "asks for 4294967295 bytes")]
    [InlineData("\u008d\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u007fa", "asks for 9223372036854775807 bytes")]
    [InlineData("\u008b\u00ff\u00ff\u00ff\u00ff", "asks for -1 bytes")]
    [InlineData("h\u0007.", "memo 7 was never set")]
    [InlineData(".", "0 values are left")]
    [InlineData("NN.", "2 values are left")]
    [InlineData("ctorch._utils\n_rebuild_tensor_v2\n((X\u0007\0\0\0storagectorch\nComplexFloatStorage\nX\u0001\0\0\00X\u0003\0\0\0cpuK\u0001tQK\0K\u0001\u0085K\u0001\u0085\u0089N}X\u0004\0\0\0conj\u0088stR.", "conjugated or negated")]
    [InlineData("Nt.", "a mark is missing")]
    [InlineData("(R", "a value is missing")]
    [InlineData("NNs.", "a value is missing")]
    [InlineData("NNNs.", "what is no dictionary")]
    [InlineData("NNa.", "what is no list")]
    [InlineData("NQ.", "no storage of a known type")]
    [InlineData("N)R.", "is no function")]
    [InlineData("ctorch\nFloatStorage\n)R.", "calls 'torch.FloatStorage'")]
    [InlineData("}q\u0000X\u0001\0\0\0ah\u0000s.", "no dictionary of tensors")]
    [InlineData("X\u0001\0\0\0\u00ff.", "not understood")]
    public void A_damaged_pickle_is_refused_with_the_reason(string pickle, string reason)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(pickle);
        Assert.Contains(reason, Refusal(_folder.Write("a.pt", new TorchWriter().Archive(bytes))), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, new long[] { 5 }, new long[] { 1 }, "does not fit its storage of 4 values")]
    [InlineData(1, new long[] { 4 }, new long[] { 1 }, "does not fit")]
    [InlineData(-1, new long[] { 4 }, new long[] { 1 }, "cannot be")]
    [InlineData(0, new long[] { -4 }, new long[] { 1 }, "cannot be")]
    [InlineData(3, new long[] { 4 }, new long[] { -1 }, "cannot be")]
    [InlineData(0, new long[] { 2, 2 }, new long[] { 1 }, "cannot be")]
    [InlineData(0, new long[] { 1L << 40 }, new long[] { 0 }, "repeats values")]
    [InlineData(0, new long[] { 1L << 62, 1L << 62 }, new long[] { 0, 0 }, "not understood")]
    [InlineData(0, new long[] { 1L << 62, 8 }, new long[] { 8, 1 }, "not understood")]
    [InlineData(9, new long[] { 0 }, new long[] { 1 }, "does not fit")]
    public void A_view_outside_its_storage_is_refused(long offset, long[] shape, long[] strides, string reason)
    {
        TorchWriter writer = new();
        PickledTensor tensor = new("FloatStorage", writer.Storage(new byte[16]), 4, offset, shape, strides);
        Assert.Contains(reason, Refusal(_folder.Write("a.pt", writer.ToBytes(new Dictionary<string, object?> { ["a"] = tensor }))), StringComparison.Ordinal);
    }

    [Fact]
    public void A_storage_that_is_not_as_said_is_refused()
    {
        TorchWriter writer = new();
        PickledTensor tensor = new("FloatStorage", writer.Storage(new byte[16]), 5, 0, [5], [1]);
        Assert.Contains("5 values of Float32, 20 bytes; its file has 16", Refusal(State(tensor)), StringComparison.Ordinal);
        Assert.Contains("lacks 'archive/data/7'", Refusal(State(tensor with { Key = "7" })), StringComparison.Ordinal);
        Assert.Contains("no storage of a known type", Refusal(State(tensor with { StorageClass = "Size" })), StringComparison.Ordinal);
        writer = new TorchWriter { ByteOrder = "middle" };
        Assert.Contains("byte order is 'middle'", Refusal(_folder.Write("b.pt", writer.ToBytes(new Dictionary<string, object?>()))), StringComparison.Ordinal);
        TorchWriter twice = new();
        PickledTensor once = twice.Tensor(ones(1));
        PickledState state = new([new("a", once), new("a", once)]);
        Assert.Contains("'a' is there twice", Refusal(_folder.Write("c.pt", twice.ToBytes(state))), StringComparison.Ordinal);

        string State(PickledTensor view) => _folder.Write("a.pt", writer.ToBytes(new Dictionary<string, object?> { ["a"] = view }));
    }

    [Fact]
    public void Other_formats_are_refused_with_the_way_out()
    {
        TorchWriter bomb = new() { Compression = CompressionLevel.Optimal };
        PickledTensor zeros = new("ByteStorage", bomb.Storage(new byte[10_000_000]), 10_000_000, 0, [10_000_000], [1]);
        Assert.Contains("compressed", Refusal(_folder.Write("bomb.pt", bomb.ToBytes(new Dictionary<string, object?> { ["a"] = zeros }))), StringComparison.Ordinal);
        Assert.Contains("its first pickle", Refusal(_folder.Write("old.pt", [0x80, 2, 0x8a, 10, 1, 2, 3])), StringComparison.Ordinal);
        byte[] tar = new byte[1024];
        "ustar"u8.CopyTo(tar.AsSpan(257));
        string older = Refusal(_folder.Write("older.pt", tar));
        Assert.Contains("tar archive", older, StringComparison.Ordinal);
        Assert.Contains("torch.save(torch.load(path, weights_only=False), new_path)", older, StringComparison.Ordinal);
        byte[] whole = new TorchWriter().ToBytes(new Dictionary<string, object?>());
        Assert.Contains("cut off", Refusal(_folder.Write("cut.pt", whole[..^5])), StringComparison.Ordinal);
        Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(_folder.Write("empty.pt", [])));
        Assert.Throws<FileNotFoundException>(() => WeightsFile.Open(_folder.PathOf("none.pt")));
    }

    [Fact]
    public void Nothing_stays_open_and_no_tensor_alive()
    {
        string path = _folder.Torch("a.pth", new Dictionary<string, Tensor> { ["a"] = randn(10, 10) });
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 100; i++)
        {
            using WeightsFile file = WeightsFile.Open(path, memoryMap: i % 2 == 1);
            file.Load("a").Dispose();
            Assert.Null(HostileRun.Judge(_folder.Write("b.pth", File.ReadAllBytes(path)[..^(i + 1)]), 10_000, memoryMap: i % 2 == 0, out bool isRead));
            Assert.False(isRead);
        }

        Assert.Equal(before, LiveTensors.OfThread);
        using FileStream alone = new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
    }

    private static string Refusal(string path)
    {
        string message = Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(path)).Message;
        Assert.Contains(path, message, StringComparison.Ordinal);
        return message;
    }
}
