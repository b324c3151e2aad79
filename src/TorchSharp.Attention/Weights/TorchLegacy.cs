using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;

namespace TorchSharp.Attention;

/// <summary>
/// The format of torch.save before PyTorch 1.6: pickles one after the other (a magic number, a version, facts about the machine,
/// the object itself, the list of storage keys), then each storage as its number of values and the values.
/// </summary>
internal sealed class TorchLegacy : TorchLayout
{
    /// <summary>How many bytes of a file <see cref="IsOne"/> and <see cref="IsPickle"/> look at.</summary>
    public const int RecognisedBytes = 32;

    private const long Protocol = 1001, LongestPickle = 100_000_000;

    private static readonly BigInteger Magic = BigInteger.Parse(
        "1950a86a20f9469cfc6c", NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    private readonly Dictionary<string, (long Offset, long Size)> _places = new(StringComparer.Ordinal);
    private readonly ByteSource _source;
    private long _at;

    public TorchLegacy(ByteSource source)
    {
        _source = source;
        if (Next("its first pickle").Value is not BigInteger magic || magic != Magic)
        {
            throw source.Wrong(
                "this is a bare pickle, which pickle.dump writes; torch.save writes a magic number first. " +
                "In Python, load it and save the weights as " +
                "tensors: torch.save({name: torch.as_tensor(value) for name, value in weights.items()}, new_path)");
        }

        if (Next("the version").Value is not Protocol)
        {
            throw source.Wrong(
                $"the version of the format is another one than {Protocol}. In Python: torch.save(torch.load(path), new_path)");
        }

        bool isBig = Next("the facts about the machine").Value is PickleDictionary facts
            && facts.Items.Any(fact => fact is { Key: "little_endian", Value: false });
        PickleResult whole = Next("the weights' pickle");
        Value = whole.Value;
        Place(whole.Storages, isBig);
    }

    public override object? Value { get; }

    /// <summary>PyTorch writes the values of this format in little-endian order on every machine.</summary>
    public override bool IsBigEndian => false;

    /// <summary>Whether a file begins with the magic number of this format, in a pickle of protocol 1 or later.</summary>
    /// <param name="start">The file's first bytes, <see cref="RecognisedBytes"/> or more.</param>
    public static bool IsOne(ReadOnlySpan<byte> start)
    {
        if (start.StartsWith("L119547037146038801333356L\n."u8)) return true;
        if (!IsPickle(start)) return false;

        // A frame's mark and length may stand before the number; its bytes are the lowest first.
        ReadOnlySpan<byte> number = start.Length > 11 && start[2] == 0x95 ? start[11..] : start[2..];
        return number.StartsWith((ReadOnlySpan<byte>)[0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]);
    }

    /// <summary>Whether a file begins as a pickle of protocol 2 or later does, or as one of this format.</summary>
    /// <param name="start">The file's first bytes, <see cref="RecognisedBytes"/> or more.</param>
    public static bool IsPickle(ReadOnlySpan<byte> start)
        => (start.Length > 1 && start[0] == 0x80 && start[1] is >= 2 and < 6) || start.StartsWith("L119547037"u8);

    public override (long Offset, long Size) Locate(PickleStorage storage) => _places[storage.Key];

    private PickleResult Next(string what)
    {
        try
        {
            PickleResult result = PickleReader.Read(_source, _at, Math.Min(_source.Length, _at + LongestPickle));
            _at = result.End;
            return result;
        }
        catch (PickleException e)
        {
            throw _source.Wrong($"{what}, at byte {_at}: {e.Message}.", e);
        }
    }

    /// <summary>Finds where the storages lie. All of the file must be used, and by nothing twice.</summary>
    private void Place(IReadOnlyDictionary<string, PickleStorage> storages, bool isBig)
    {
        if (Next("the list of storage keys").Value is not PickleList { Items: { } keys })
        {
            throw _source.Wrong("the list of storage keys is none; the file is damaged.");
        }

        foreach (object? key in keys)
        {
            if (key is not string name || !storages.TryGetValue(name, out PickleStorage? storage))
            {
                throw _source.Wrong("the list of storage keys has one that no tensor uses; the file is damaged.");
            }

            if (isBig && storage.Type is { } type && SafetensorsTypes.IsComplex(type))
            {
                throw _source.Wrong(
                    "it has complex values from a big-endian machine, whose order in this format is not certain. " +
                    "Save it anew on that machine with PyTorch 1.6 or later.");
            }

            long count = BinaryPrimitives.ReadInt64LittleEndian(_source.Read(_at, sizeof(long)));
            if (count != storage.Count)
            {
                throw _source.Wrong(
                    $"the storage {Listing.Short(name)} has {storage.Count} values according to the tensors and {count} at " +
                    $"byte {_at}.");
            }

            _at += sizeof(long);
            if (storage.Bytes > _source.Length - _at)
            {
                throw _source.Wrong(
                    $"the storage {Listing.Short(name)} needs {storage.Bytes} bytes at byte {_at}; " +
                    $"the file has {_source.Length} bytes. It is cut off: fetch it again.");
            }

            if (!_places.TryAdd(name, (_at, storage.Bytes)))
            {
                throw _source.Wrong($"the storage {Listing.Short(name)} is there twice.");
            }

            _at += storage.Bytes;
        }

        if (storages.Keys.FirstOrDefault(key => !_places.ContainsKey(key)) is { } missing)
        {
            throw _source.Wrong($"the values of the storage {Listing.Short(missing)} are missing.");
        }

        if (_at != _source.Length)
        {
            throw _source.Wrong(
                $"the values end at byte {_at}; the file has {_source.Length} bytes. " +
                "Perhaps several objects were saved into one file: save each into its own.");
        }
    }
}
