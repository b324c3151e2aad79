using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Values in the archive, all of one type.</summary>
internal sealed record PickleStorage(PickleGlobal Class, string Key, long Count)
{
    /// <summary>Type of the values; null where TorchSharp has none.</summary>
    public ScalarType? Type => Class.Storage;

    public long Bytes => checked(Count * Class.StorageBytes);

    /// <summary>The first value that is meant, where it is a part of the storage.</summary>
    public long Start { get; init; }

    /// <summary>How many values are meant.</summary>
    public long Size { get; init; } = Count;
}
