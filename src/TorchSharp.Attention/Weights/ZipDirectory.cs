using System.Buffers.Binary;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// Where the files inside a zip archive lie. Only uncompressed ones, which is how PyTorch writes them: so values are read
/// straight from their place, and nothing can unpack to more than the archive's own size.
/// </summary>
internal sealed class ZipDirectory
{
    private const int EndBytes = 22, LocatorBytes = 20, End64Bytes = 56, HeaderBytes = 46, LocalBytes = 30;
    private const uint EndMark = 0x06054b50, LocatorMark = 0x07064b50, End64Mark = 0x06064b50, HeaderMark = 0x02014b50,
        LocalMark = 0x04034b50;

    private readonly Dictionary<string, Member> _members = new(StringComparer.Ordinal);
    private readonly ByteSource _source;

    /// <exception cref="WeightsFormatException">The archive is damaged, or packed in a way that is not read.</exception>
    public ZipDirectory(ByteSource source)
    {
        _source = source;
        (long start, long length) = FindDirectory();
        ReadMembers(source.Read(start, length));
        long at = 0;
        foreach (Member member in _members.Values.OrderBy(member => member.Header))
        {
            if (member.Header < at) throw source.Wrong($"{Listing.Short(member.Name)} overlaps another file in the archive.");
            at = checked(member.Header + LocalBytes + member.Size);
            if (at > start)
            {
                throw source.Wrong(
                    $"{Listing.Short(member.Name)} is said to have {member.Size} bytes, more than the archive holds.");
            }
        }
    }

    public IEnumerable<string> Names => _members.Keys;

    public bool Contains(string name) => _members.ContainsKey(name);

    /// <summary>Where a file's bytes start, and how many there are. Refuses one that is packed.</summary>
    public (long Offset, long Size) Locate(string name)
    {
        if (!_members.TryGetValue(name, out Member? member))
        {
            throw _source.Wrong($"the archive lacks {Listing.Short(name)}; it is damaged.");
        }

        if (member.IsPacked)
        {
            throw _source.Wrong(
                $"{Listing.Short(name)} is compressed or encrypted, which torch.save never does. " +
                "Unpack the archive and zip it without compression, " +
                "or load it in Python and save it anew.");
        }

        byte[] local = _source.Read(member.Header, LocalBytes);
        if (BinaryPrimitives.ReadUInt32LittleEndian(local) != LocalMark)
        {
            throw _source.Wrong($"nothing starts where {Listing.Short(name)} should.");
        }

        long offset = member.Header + LocalBytes + UInt16(local, 26) + UInt16(local, 28);
        return offset + member.Size <= _source.Length
            ? (offset, member.Size)
            : throw _source.Wrong($"{Listing.Short(name)} is said to have {member.Size} bytes, more than the archive holds.");
    }

    public byte[] Read(string name)
    {
        (long offset, long size) = Locate(name);
        return _source.Read(offset, size);
    }

    private (long Start, long Length) FindDirectory()
    {
        long tailStart = Math.Max(0, _source.Length - EndBytes - ushort.MaxValue);
        byte[] tail = _source.Read(tailStart, _source.Length - tailStart);
        for (int at = tail.Length - EndBytes; at >= 0; at--)
        {
            if (BinaryPrimitives.ReadUInt32LittleEndian(tail.AsSpan(at)) != EndMark
                || at + EndBytes + UInt16(tail, at + 20) != tail.Length)
            {
                continue;
            }

            ReadOnlySpan<byte> end = tail.AsSpan(at, EndBytes);
            long length = BinaryPrimitives.ReadUInt32LittleEndian(end[12..]),
                start = BinaryPrimitives.ReadUInt32LittleEndian(end[16..]);
            long limit = tailStart + at;
            if (at >= LocatorBytes && BinaryPrimitives.ReadUInt32LittleEndian(tail.AsSpan(at - LocatorBytes)) == LocatorMark)
            {
                limit = BinaryPrimitives.ReadInt64LittleEndian(tail.AsSpan(at - LocatorBytes + 8));
                byte[] end64 = _source.Read(limit, End64Bytes);
                if (BinaryPrimitives.ReadUInt32LittleEndian(end64) != End64Mark)
                {
                    throw _source.Wrong("the archive's directory is damaged.");
                }

                length = BinaryPrimitives.ReadInt64LittleEndian(end64.AsSpan(40));
                start = BinaryPrimitives.ReadInt64LittleEndian(end64.AsSpan(48));
            }

            return start >= 0 && length >= 0 && start <= limit && length <= limit - start
                ? (start, length)
                : throw _source.Wrong($"the archive's directory is said to lie at byte {start}, {length} bytes long.");
        }

        throw _source.Wrong("the archive has no directory at its end: it is cut off. Fetch it again.");
    }

    private void ReadMembers(ReadOnlySpan<byte> directory)
    {
        while (directory.Length > 0)
        {
            if (directory.Length < HeaderBytes || BinaryPrimitives.ReadUInt32LittleEndian(directory) != HeaderMark)
            {
                throw _source.Wrong("the archive's directory is damaged.");
            }

            int nameLength = UInt16(directory, 28), extraLength = UInt16(directory, 30),
                next = HeaderBytes + nameLength + extraLength + UInt16(directory, 32);
            if (next > directory.Length) throw _source.Wrong("the archive's directory is cut off.");
            string name = Encoding.UTF8.GetString(directory.Slice(HeaderBytes, nameLength));
            bool isPacked = UInt16(directory, 10) != 0 || (UInt16(directory, 8) & 1) != 0;
            (long packed, long size, long header) = Sizes(directory, directory.Slice(HeaderBytes + nameLength, extraLength));
            if ((packed != size && !isPacked) || packed < 0 || header < 0 || packed > _source.Length || header > _source.Length)
            {
                throw _source.Wrong(
                    $"{Listing.Short(name)} is said to have {size} bytes at byte {header}; the file has {_source.Length}.");
            }

            if (!_members.TryAdd(name, new Member(name, header, packed, isPacked)))
            {
                throw _source.Wrong($"the archive has {Listing.Short(name)} twice.");
            }

            directory = directory[next..];
        }
    }

    private static (long Packed, long Size, long Header) Sizes(ReadOnlySpan<byte> member, ReadOnlySpan<byte> extra)
    {
        long packed = BinaryPrimitives.ReadUInt32LittleEndian(member[20..]),
            size = BinaryPrimitives.ReadUInt32LittleEndian(member[24..]);
        long header = BinaryPrimitives.ReadUInt32LittleEndian(member[42..]);
        while (extra.Length >= 4)
        {
            int id = UInt16(extra, 0), length = UInt16(extra, 2);
            if (length > extra.Length - 4) break;
            if (id == 1)
            {
                ReadOnlySpan<byte> wide = extra.Slice(4, length);
                Widen(ref size, ref wide);
                Widen(ref packed, ref wide);
                Widen(ref header, ref wide);
            }

            extra = extra[(4 + length)..];
        }

        return (packed, size, header);
    }

    private static void Widen(ref long value, ref ReadOnlySpan<byte> wide)
    {
        if (value != uint.MaxValue || wide.Length < sizeof(long)) return;
        value = BinaryPrimitives.ReadInt64LittleEndian(wide);
        wide = wide[sizeof(long)..];
    }

    private static int UInt16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    /// <summary>
    /// A file: where its local header lies, its bytes in the archive, and whether they are anything but its own.
    /// </summary>
    private sealed record Member(string Name, long Header, long Size, bool IsPacked);
}
