using System.Numerics;

namespace TorchSharp.Attention;

/// <summary>Whole numbers as pickles write them.</summary>
internal static class PickleNumbers
{
    private const int LongestInteger = 32, LongestLine = 64;

    /// <summary>
    /// A long where the number fits, a <see cref="BigInteger"/> where it is larger, something opaque where it is enormous.
    /// </summary>
    public static object FromBytes(ReadOnlySpan<byte> littleEndian) =>
        Smallest(littleEndian.Length <= LongestInteger ? new BigInteger(littleEndian) : null);

    /// <summary>A number in digits, perhaps with the L at its end that Python 2 wrote.</summary>
    /// <exception cref="PickleException">It is none.</exception>
    public static object FromLine(ReadOnlySpan<byte> line)
    {
        if (line.Length > LongestLine) return Smallest(null);
        string text = System.Text.Encoding.ASCII.GetString(line).TrimEnd('L');
        return BigInteger.TryParse(
            text, System.Globalization.NumberStyles.AllowLeadingSign, System.Globalization.CultureInfo.InvariantCulture,
            out BigInteger value)
            ? Smallest(value)
            : throw new PickleException($"{Listing.Short(text)} is no whole number");
    }

    private static object Smallest(BigInteger? value)
    {
        if (value is not { } number) return PickleOpaque.LargeInteger;
        return number >= long.MinValue && number <= long.MaxValue ? (object)(long)number : number;
    }
}
