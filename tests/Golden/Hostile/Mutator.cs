using System.Buffers.Binary;
using System.Globalization;

namespace TorchSharp.Attention.Golden;

/// <summary>Damages bytes in the ways that break readers. The same seed damages alike.</summary>
internal sealed class Mutator(int seed)
{
    private static readonly long[] Sizes =
        [0, 1, -1, 7, 8, 255, 65535, 65536, int.MaxValue, uint.MaxValue, 1L << 31, 1L << 32, 1L << 40, 1L << 62, long.MaxValue, long.MinValue];

    private static readonly string[] Texts =
    [
        "cos\nsystem\n", "cposix\nsystem\n", "cbuiltins\neval\n", "ctorch._utils\n_rebuild_tensor_v2\n", "((((((((", "}q\0", ")R", "tR", "h\0h\0h\0", "]]]]]]]]", "[[[[[[[[",
        "{\"a\":{\"a\":{\"a\":", "\"dtype\":\"F32\",", "\"data_offsets\":[-1,99999999999999999999],", "\"shape\":[9223372036854775807,2],", "\"__metadata__\":{},",
        "PK\u0001\u0002", "PK\u0005\u0006", "\u0088\u0089", "\0\0\0\0", "ÿÿÿÿ",
    ];

    private readonly Random _random = new(seed);

    /// <summary>One to four damages.</summary>
    /// <param name="whole">A file that reads.</param>
    /// <param name="interesting">Where the structure lies; most damages go there.</param>
    public byte[] Damage(byte[] whole, Range[] interesting)
    {
        byte[] bytes = [.. whole];
        for (int i = _random.Next(1, 5); i > 0 && bytes.Length > 0; i--) bytes = Once(bytes, interesting);
        return bytes;
    }

    private byte[] Once(byte[] bytes, Range[] interesting)
    {
        int at = Position(bytes.Length, interesting), length = Math.Min(_random.Next(1, 40), bytes.Length - at);
        switch (_random.Next(10))
        {
            case 0:
                return bytes[..at];
            case 1:
                bytes[at] ^= (byte)(1 << _random.Next(8));
                return bytes;
            case 2:
                bytes[at] = (byte)_random.Next(256);
                return bytes;
            case 3:
                Write(bytes, at, Sizes[_random.Next(Sizes.Length)], _random.Next(2) == 0 ? 4 : 8);
                return bytes;
            case 4:
                return [.. bytes[..at], .. bytes[(at + length)..]];
            case 5:
                return [.. bytes[..(at + length)], .. bytes[at..]];
            case 6:
                return [.. bytes[..at], .. System.Text.Encoding.Latin1.GetBytes(Texts[_random.Next(Texts.Length)]), .. bytes[at..]];
            case 7:
                return Digits(bytes, at);
            case 8:
                bytes.AsSpan(Position(bytes.Length - length + 1, interesting), length).CopyTo(bytes.AsSpan(at));
                return bytes;
            default:
                return [.. bytes, .. bytes[at..(at + length)]];
        }
    }

    private int Position(int length, Range[] interesting)
    {
        if (_random.Next(10) == 0) return _random.Next(length);
        Range range = interesting[_random.Next(interesting.Length)];
        int start = Math.Min(range.Start.GetOffset(length), length - 1), end = Math.Clamp(range.End.GetOffset(length), start + 1, length);
        return _random.Next(Math.Max(start, 0), Math.Max(end, 1));
    }

    private static void Write(byte[] bytes, int at, long value, int size)
    {
        byte[] number = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(number, value);
        number.AsSpan(0, Math.Min(size, bytes.Length - at)).CopyTo(bytes.AsSpan(at));
    }

    /// <summary>Replaces the next number that is written in digits.</summary>
    private byte[] Digits(byte[] bytes, int at)
    {
        int start = bytes.AsSpan(at).IndexOfAnyInRange((byte)'0', (byte)'9');
        if (start < 0) return bytes;
        start += at;
        int end = start;
        while (end < bytes.Length && bytes[end] is >= (byte)'0' and <= (byte)'9') end++;
        byte[] number = System.Text.Encoding.ASCII.GetBytes(Sizes[_random.Next(Sizes.Length)].ToString(CultureInfo.InvariantCulture));
        return [.. bytes[..start], .. number, .. bytes[end..]];
    }
}
