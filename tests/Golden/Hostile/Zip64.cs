using System.Buffers.Binary;

namespace TorchSharp.Attention.Golden;

/// <summary>Turns a small zip archive into the 64-bit form: PyTorch writes its end always, and its members' fields beyond four gigabytes.</summary>
internal static class Zip64
{
    private const int EndBytes = 22, HeaderBytes = 46, ExtraBytes = 28;

    /// <summary>The archive with a 64-bit end before its end, as PyTorch writes it.</summary>
    /// <param name="archive">An archive without comment.</param>
    /// <param name="wideMembers">Whether the members' sizes and places stand in 64-bit fields too.</param>
    public static byte[] From(byte[] archive, bool wideMembers)
    {
        byte[] end = archive[^EndBytes..];
        int start = BinaryPrimitives.ReadInt32LittleEndian(end.AsSpan(16)), members = BinaryPrimitives.ReadUInt16LittleEndian(end.AsSpan(10));
        byte[] directory = archive[start..^EndBytes];
        if (wideMembers)
        {
            directory = Widen(directory);
            end.AsSpan(8, 12).Fill(0xff);
        }

        byte[] end64 = new byte[56], locator = new byte[20];
        BinaryPrimitives.WriteUInt32LittleEndian(end64, 0x06064b50);
        BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(4), 44);
        BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(24), members);
        BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(32), members);
        BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(40), directory.Length);
        BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(48), start);
        BinaryPrimitives.WriteUInt32LittleEndian(locator, 0x07064b50);
        BinaryPrimitives.WriteInt64LittleEndian(locator.AsSpan(8), start + directory.Length);
        BinaryPrimitives.WriteInt32LittleEndian(locator.AsSpan(16), 1);
        return [.. archive[..start], .. directory, .. end64, .. locator, .. end];
    }

    private static byte[] Widen(byte[] directory)
    {
        List<byte> wide = [];
        for (int at = 0; at < directory.Length;)
        {
            byte[] header = directory[at..(at + HeaderBytes)], extra = new byte[ExtraBytes];
            int name = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(28)), old = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(30));
            BinaryPrimitives.WriteUInt16LittleEndian(extra, 1);
            BinaryPrimitives.WriteUInt16LittleEndian(extra.AsSpan(2), ExtraBytes - 4);
            BinaryPrimitives.WriteInt64LittleEndian(extra.AsSpan(4), BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(24)));
            BinaryPrimitives.WriteInt64LittleEndian(extra.AsSpan(12), BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(20)));
            BinaryPrimitives.WriteInt64LittleEndian(extra.AsSpan(20), BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(42)));
            header.AsSpan(20, 8).Fill(0xff);
            header.AsSpan(42, 4).Fill(0xff);
            BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(30), (ushort)(old + ExtraBytes));
            int next = at + HeaderBytes + name + old;
            wide.AddRange([.. header, .. directory[(at + HeaderBytes)..next], .. extra]);
            at = next;
        }

        return [.. wide];
    }
}
