using System.Text.Json;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Several files read as one: an index, <c>model.safetensors.index.json</c>, says in <c>weight_map</c> which file beside it has
/// which tensor. Tensors of these files that the index does not name belong to it too.
/// </summary>
internal sealed class ShardedWeights : WeightsFile
{
    private const long LongestIndex = 100_000_000;
    private const int MostShards = 10_000;

    private readonly Dictionary<string, WeightsFile> _shards = new(StringComparer.Ordinal), _owners = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);

    private ShardedWeights(ByteSource source)
        : base(source)
    {
    }

    public override IReadOnlyDictionary<string, string> Metadata => _metadata;

    private protected override bool IsMapped => _shards.Values.Any(shard => shard.IsMemoryMapped);

    public static new ShardedWeights Open(string path, string? section, bool memoryMap)
    {
        ShardedWeights file = new(new ByteSource(path));
        try
        {
            file.OpenShards(section, memoryMap);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private void OpenShards(string? section, bool memoryMap)
    {
        List<(string Tensor, string Shard)> map = ReadMap();
        foreach (string shard in map.Select(item => item.Shard).Distinct()) Take(shard, section, memoryMap);
        foreach ((string tensor, string shard) in map)
        {
            if (!_shards[shard].Entries.ContainsKey(tensor))
            {
                throw Source.Wrong(
                    $"the index says that {Listing.Short(tensor)} lies in {Listing.Short(shard)}, which does not have it. " +
                    "Index and files belong to different versions: fetch all of them again.");
            }
        }
    }

    private protected override void Close()
    {
        foreach (WeightsFile shard in _shards.Values) shard.Dispose();
    }

    private protected override bool IsReadable(WeightsEntry entry) => _owners[entry.Name].CanRead(entry);

    private protected override Tensor Read(WeightsEntry entry) => _owners[entry.Name].Load(entry.Name);

    private protected override Tensor ReadRows(WeightsEntry entry, long start, long count)
        => _owners[entry.Name].LoadRows(entry.Name, start, count);

    private void Take(string shard, string? section, bool memoryMap)
    {
        string path = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path))!, shard);
        if (!File.Exists(path))
        {
            throw Source.Wrong(
                $"the index names the file {Listing.Short(shard)}, which is not beside it. " +
                "Fetch all files of the model into one folder.");
        }

        WeightsFile file = OpenAny(path, section, memoryMap, mayBeIndex: false);
        _shards.Add(shard, file);
        foreach (WeightsEntry entry in file.Entries.Values)
        {
            if (_owners.TryGetValue(entry.Name, out WeightsFile? other))
            {
                throw Source.Wrong(
                    $"the tensor {Listing.Short(entry.Name)} is in two files, " +
                    $"{Listing.Short(System.IO.Path.GetFileName(other.Path))} and {Listing.Short(shard)}.");
            }

            _owners.Add(entry.Name, file);
            Add(entry);
        }
    }

    private List<(string Tensor, string Shard)> ReadMap()
    {
        if (Source.Length > LongestIndex)
        {
            throw Source.Wrong(
                $"the file begins as JSON and has {Source.Length} bytes; an index of shards has at most {LongestIndex}.");
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(
                Source.Read(0, Source.Length).AsMemory(ForeignFile.ByteOrderMark(Source)));
            JsonElement root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("weight_map", out JsonElement map)
                || map.ValueKind != JsonValueKind.Object)
            {
                throw Source.Wrong(
                    "this is JSON without the object 'weight_map', so no index of shards; it may be a configuration. " +
                    "Open the weights themselves, such as model.safetensors.");
            }

            if (root.TryGetProperty("metadata", out JsonElement metadata) && metadata.ValueKind == JsonValueKind.Object)
            {
                foreach (JsonProperty text in metadata.EnumerateObject())
                {
                    _metadata[text.Name] = text.Value.ValueKind == JsonValueKind.String
                        ? text.Value.GetString()!
                        : text.Value.GetRawText();
                }
            }

            return Pairs(map);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw Source.Wrong($"the file begins as JSON and is none: {e.Message}", e);
        }
    }

    private List<(string Tensor, string Shard)> Pairs(JsonElement map)
    {
        List<(string, string)> pairs = [];
        HashSet<string> names = new(StringComparer.Ordinal), shards = new(StringComparer.Ordinal);
        foreach (JsonProperty pair in map.EnumerateObject())
        {
            string? shard = pair.Value.ValueKind == JsonValueKind.String ? pair.Value.GetString() : null;
            if (shard is null || !IsFileName(shard))
            {
                throw Source.Wrong(
                    $"the index says that {Listing.Short(pair.Name)} lies in {Listing.Short(pair.Value.ToString())}, which is " +
                    "no name of a file beside it.");
            }

            if (!names.Add(pair.Name)) throw Source.Wrong($"the index has the tensor {Listing.Short(pair.Name)} twice.");
            if (shards.Add(shard) && shards.Count > MostShards)
            {
                throw Source.Wrong($"the index names more than {MostShards} files.");
            }

            pairs.Add((pair.Name, shard));
        }

        return pairs;
    }

    /// <summary>A name without a folder: an index from strangers opens no other files than those beside it.</summary>
    private static bool IsFileName(string name) =>
        name.Length > 0 && name is not ("." or "..") && name.AsSpan().IndexOfAny("/\\:\0") < 0 && !name.Any(char.IsControl);
}
