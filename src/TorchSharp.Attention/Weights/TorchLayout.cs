namespace TorchSharp.Attention;

/// <summary>One of the formats of torch.save: where in the file its pickle and its storages lie.</summary>
internal abstract class TorchLayout
{
    /// <summary>What the pickle describes.</summary>
    public abstract object? Value { get; }

    /// <summary>Whether the values' bytes are in big-endian order.</summary>
    public abstract bool IsBigEndian { get; }

    /// <summary>Where the values of a storage start, and how many bytes the file has of them.</summary>
    /// <exception cref="WeightsFormatException">The file has no such storage.</exception>
    public abstract (long Offset, long Size) Locate(PickleStorage storage);

    /// <summary>The layout of a file.</summary>
    /// <exception cref="WeightsFormatException">It is damaged, or of another kind.</exception>
    /// <exception cref="PickleException">Its pickle is damaged, or asks for something that is not done.</exception>
    public static TorchLayout Of(ByteSource source)
    {
        byte[] start = source.Read(0, Math.Min(source.Length, TorchLegacy.RecognisedBytes));
        return TorchLegacy.IsPickle(start) ? new TorchLegacy(source) : new TorchZip(source);
    }
}
