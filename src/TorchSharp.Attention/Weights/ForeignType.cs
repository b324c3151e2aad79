using System.Buffers.Binary;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A type of values that the safetensors format has and TorchSharp lacks: unsigned integers, and floating-point numbers of eight
/// bits and fewer. They are read as a wider type that has every one of their values.
/// </summary>
/// <remarks>
/// Sources: the Dtype list of the safetensors reference implementation 0.8; FP8 Formats for Deep Learning (2022,
/// arXiv:2209.05433) for E4M3 and E5M2; 8-bit Numerical Formats for Deep Neural Networks (2022, arXiv:2206.02915) for the FNUZ
/// kinds; the OCP Microscaling Formats (MX) Specification 1.0 for E8M0, FP6 and FP4.
/// </remarks>
internal sealed class ForeignType
{
    private static readonly Dictionary<string, ForeignType> Known = new ForeignType[]
    {
        new("U16", 16, ScalarType.Int32),
        new("U32", 32, ScalarType.Int64),
        new("U64", 64, ScalarType.Int64),
        new(
            "F8_E4M3", 8, ScalarType.Float32,
            Table(8, code => Float(code, exponentBits: 4, mantissaBits: 3, bias: 7, code is 0x7f or 0xff ? float.NaN : null))),
        new(
            "F8_E5M2", 8, ScalarType.Float32,
            Table(8, code => Float(code, exponentBits: 5, mantissaBits: 2, bias: 15, OfIeee(code)))),
        new(
            "F8_E4M3FNUZ", 8, ScalarType.Float32,
            Table(8, code => Float(code, exponentBits: 4, mantissaBits: 3, bias: 8, code == 0x80 ? float.NaN : null))),
        new(
            "F8_E5M2FNUZ", 8, ScalarType.Float32,
            Table(8, code => Float(code, exponentBits: 5, mantissaBits: 2, bias: 16, code == 0x80 ? float.NaN : null))),
        new("F8_E8M0", 8, ScalarType.Float32, Table(8, code => code == 0xff ? float.NaN : MathF.ScaleB(1, code - 127))),
        new("F4", 4, ScalarType.Float32, Table(4, code => Float(code, exponentBits: 2, mantissaBits: 1, bias: 1, special: null))),

        // No specification says how values of six bits lie in bytes, and no implementation writes any.
        new("F6_E2M3", 6, null),
        new("F6_E3M2", 6, null),
    }.ToDictionary(type => type.Name, StringComparer.Ordinal);

    private readonly float[]? _values;

    private ForeignType(string name, int bits, ScalarType? widened, float[]? values = null)
    {
        Name = name;
        Bits = bits;
        Widened = widened;
        _values = values;
    }

    /// <summary>The format's name.</summary>
    public string Name { get; }

    /// <summary>Bits of a value; 0 where the type is unknown.</summary>
    public int Bits { get; }

    /// <summary>The type that has every value, but for large ones of U64; null where the values cannot be read.</summary>
    public ScalarType? Widened { get; }

    /// <summary>The type of a name; one without size for a name that nobody knows.</summary>
    public static ForeignType Of(string name)
        => Known.TryGetValue(name, out ForeignType? type) ? type : new ForeignType(name, 0, null);

    /// <summary>Why values cannot be read, and what would do.</summary>
    public string Unreadable() => Bits > 0
        ? $"is {Name}; no specification says how such values lie in bytes, so they are not read. " +
            "Convert it in Python, or leave it out with KeyMap.Drop"
        : $"is {Listing.Short(Name)}, a type that is unknown here. Convert it in Python, or leave it out with KeyMap.Drop";

    /// <summary>Widens the values of a file into a tensor.</summary>
    /// <param name="source">The file.</param>
    /// <param name="offset">Where the values of the whole tensor begin.</param>
    /// <param name="first">Which value is the first, counted from there.</param>
    /// <param name="into">A contiguous tensor of the wider type.</param>
    /// <exception cref="WeightsFormatException">A value does not fit the wider type.</exception>
    public void Fill(ByteSource source, long offset, long first, Tensor into)
    {
        const int chunkBytes = 1 << 22;
        int size = SafetensorsTypes.Size(Widened!.Value);
        TensorBytes.Visit(into, chunkBytes, bytes =>
        {
            int count = bytes.Length / size;
            long start = first * Bits / 8, end = ((first + count) * Bits + 7) / 8;
            byte[] raw = source.Read(offset + start, end - start);
            if (_values is not null) Look(raw, first, MemoryMarshal.Cast<byte, float>(bytes));
            else Widen(source, raw, bytes);
            first += count;
        });
    }

    private void Look(byte[] raw, long first, Span<float> values)
    {
        if (Bits == 8)
        {
            for (int i = 0; i < values.Length; i++) values[i] = _values![raw[i]];
            return;
        }

        // Two to a byte, the first in the low half.
        int odd = (int)(first % 2);
        for (int i = 0; i < values.Length; i++) values[i] = _values![(raw[(i + odd) / 2] >> ((i + odd) % 2 * 4)) & 15];
    }

    private void Widen(ByteSource source, byte[] raw, Span<byte> bytes)
    {
        switch (Bits)
        {
            case 16:
                Span<int> integers = MemoryMarshal.Cast<byte, int>(bytes);
                for (int i = 0; i < integers.Length; i++)
                {
                    integers[i] = BinaryPrimitives.ReadUInt16LittleEndian(raw.AsSpan(2 * i));
                }

                break;
            case 32:
                Span<long> longs = MemoryMarshal.Cast<byte, long>(bytes);
                for (int i = 0; i < longs.Length; i++) longs[i] = BinaryPrimitives.ReadUInt32LittleEndian(raw.AsSpan(4 * i));
                break;
            default:
                raw.CopyTo(bytes);
                int large = MemoryMarshal.Cast<byte, long>(bytes).IndexOfAnyInRange(long.MinValue, -1);
                if (large < 0) break;
                ulong value = BinaryPrimitives.ReadUInt64LittleEndian(raw.AsSpan(8 * large));
                throw source.Wrong(
                    $"a value of type {Name} is {value}; the widest integer of TorchSharp ends at {long.MaxValue}. " +
                    "Leave the tensor out with KeyMap.Drop.");
        }
    }

    private static float[] Table(int bits, Func<int, float> value) => [.. Enumerable.Range(0, 1 << bits).Select(value)];

    /// <summary>(−1)^sign · 2^(exponent − bias) · 1.mantissa; with the exponent 0, 2^(1 − bias) · 0.mantissa.</summary>
    private static float Float(int code, int exponentBits, int mantissaBits, int bias, float? special)
    {
        if (special is not null) return special.Value;
        int mantissa = code & ((1 << mantissaBits) - 1), exponent = (code >> mantissaBits) & ((1 << exponentBits) - 1);
        int digits = exponent == 0 ? mantissa : mantissa | (1 << mantissaBits);
        float magnitude = MathF.ScaleB(digits, Math.Max(exponent, 1) - bias - mantissaBits);
        return (code >> (mantissaBits + exponentBits)) == 0 ? magnitude : -magnitude;
    }

    /// <summary>Infinities and NaN of E5M2, whose largest exponent means them, as in IEEE 754.</summary>
    private static float? OfIeee(int code) => (code & 0x7f) switch
    {
        < 0x7c => null,
        0x7c => code == 0x7c ? float.PositiveInfinity : float.NegativeInfinity,
        _ => float.NaN,
    };
}
