using System.Text;

namespace TorchSharp.Attention.Tests;

/// <summary>An index and its files are one file; one that lies is refused with the reason.</summary>
public sealed class ShardedWeightsTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_files_are_read_as_one(bool memoryMap)
    {
        using Modules.Linear linear = nn.Linear(2, 2), loaded = nn.Linear(2, 2);
        _folder.Safetensors("m-1.safetensors", new Dictionary<string, Tensor> { ["weight"] = linear.weight!, ["extra"] = ones(1) });
        _folder.Torch("m-2.bin", new Dictionary<string, Tensor> { ["bias"] = linear.bias! });
        string path = Index("""{"weight":"m-1.safetensors","bias":"m-2.bin"}""", "\uFEFF \n");
        using WeightsFile file = WeightsFile.Open(path, memoryMap: memoryMap);
        Assert.Equal(["bias", "extra", "weight"], file.Entries.Keys);
        Assert.Equal("20", file.Metadata["total_size"]);
        Assert.Equal(memoryMap, file.IsMemoryMapped);
        Assert.Equal(WeightsFolder.Bytes(linear.weight!)[8..], WeightsFolder.Bytes(file.LoadRows("weight", 1, 1)));
        Assert.Equal(["extra"], loaded.LoadWeights(path, options: new WeightsLoadOptions { AllowUnexpected = true, MemoryMap = memoryMap }).Skipped);
        Assert.Equal(WeightsFolder.Snapshot(linear), WeightsFolder.Snapshot(loaded));
        long before = LiveTensors.OfThread;
        file.Load("weight").Dispose();
        Assert.Equal(before, LiveTensors.OfThread);
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.Load("weight"));
        File.Delete(_folder.PathOf("m-1.safetensors"));
        File.Delete(_folder.PathOf("m-2.bin"));
    }

    [Fact]
    public void A_foreign_type_is_widened_in_a_shard_too()
    {
        _folder.Write("a.safetensors", GoldenFile.Join("""{"a":{"dtype":"U16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[2,5]}}""", new byte[5]));
        using WeightsFile file = WeightsFile.Open(Index("""{"a":"a.safetensors","b":"a.safetensors"}"""));
        Assert.Equal(("U16", 0), (file.Entries["a"].ForeignType, file.Load("a").ToInt32()));
        Assert.Throws<WeightsFormatException>(() => file.Load("b"));
    }

    [Theory]
    [InlineData("""{"a":"none.safetensors"}""", "the index names the file 'none.safetensors', which is not beside it")]
    [InlineData("""{"b":"a.safetensors"}""", "says that 'b' lies in 'a.safetensors', which does not have it")]
    [InlineData("""{"a":"../a.safetensors"}""", "'../a.safetensors', which is no name of a file beside it")]
    [InlineData("""{"a":"/etc/passwd"}""", "no name of a file beside it")]
    [InlineData("""{"a":"sub\\a.safetensors"}""", "no name of a file beside it")]
    [InlineData("""{"a":"C:a.safetensors"}""", "no name of a file beside it")]
    [InlineData("""{"a":".."}""", "no name of a file beside it")]
    [InlineData("""{"a":""}""", "no name of a file beside it")]
    [InlineData("""{"a":3}""", "lies in '3', which is no name")]
    [InlineData("""{"a":"a.safetensors","a":"b.safetensors"}""", "the index has the tensor 'a' twice")]
    [InlineData("""{"a":"a.safetensors","c":"b.safetensors"}""", "the tensor 'a' is in two files, 'a.safetensors' and 'b.safetensors'")]
    [InlineData("""{"a":"model.safetensors.index.json"}""", "an index of shards names it as a file of weights")]
    public void A_lying_index_is_refused_with_the_reason(string map, string reason)
    {
        _folder.Safetensors("a.safetensors", new Dictionary<string, Tensor> { ["a"] = ones(1) });
        _folder.Safetensors("b.safetensors", new Dictionary<string, Tensor> { ["a"] = ones(1), ["c"] = ones(1) });
        string path = Index(map);
        Assert.Contains(reason, Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(path)).Message, StringComparison.Ordinal);

        // No file stays open: on Windows, deleting would fail.
        foreach (string file in Directory.GetFiles(_folder.Root)) File.Delete(file);
    }

    [Theory]
    [InlineData("""{"architecture":"resnet18"}""", "JSON without the object 'weight_map'")]
    [InlineData("""{"weight_map":[1]}""", "JSON without the object 'weight_map'")]
    [InlineData("""{"weight_map":{"a":""", "begins as JSON and is none")]
    public void Other_json_is_named(string json, string reason) => Assert.Contains(
        reason, Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(_folder.Write("config.json", Encoding.UTF8.GetBytes(json)))).Message, StringComparison.Ordinal);

    private string Index(string map, string before = "") => _folder.Write(
        "model.safetensors.index.json", Encoding.UTF8.GetBytes(before + "{\"metadata\":{\"total_size\":20},\"weight_map\":" + map + "}"));
}
