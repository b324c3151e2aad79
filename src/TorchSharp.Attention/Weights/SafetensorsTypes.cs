using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// The types of values that the safetensors format and TorchSharp both have, and their sizes.
/// <see cref="ForeignType"/> has the others.
/// </summary>
internal static class SafetensorsTypes
{
    /// <summary>What libtorch's operations take.</summary>
    public const int MostDimensions = 64;

    public static IReadOnlyDictionary<string, ScalarType> ByName { get; } = new Dictionary<string, ScalarType>(
        StringComparer.Ordinal)
    {
        ["F64"] = ScalarType.Float64,
        ["F32"] = ScalarType.Float32,
        ["F16"] = ScalarType.Float16,
        ["BF16"] = ScalarType.BFloat16,
        ["I64"] = ScalarType.Int64,
        ["I32"] = ScalarType.Int32,
        ["I16"] = ScalarType.Int16,
        ["I8"] = ScalarType.Int8,
        ["U8"] = ScalarType.Byte,
        ["BOOL"] = ScalarType.Bool,
        ["C64"] = ScalarType.ComplexFloat32,
    };

    public static string? NameOf(ScalarType type)
        => ByName.Where(pair => pair.Value == type).Select(pair => pair.Key).FirstOrDefault();

    /// <summary>Bytes of one value.</summary>
    public static int Size(ScalarType type) => type switch
    {
        ScalarType.ComplexFloat64 => 16,
        ScalarType.Float64 or ScalarType.Int64 or ScalarType.ComplexFloat32 => 8,
        ScalarType.Float32 or ScalarType.Int32 => 4,
        ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Int16 => 2,
        _ => 1,
    };

    public static bool IsFloatingPoint(ScalarType type) =>
        type is ScalarType.Float64 or ScalarType.Float32 or ScalarType.Float16 or ScalarType.BFloat16;

    public static bool IsComplex(ScalarType type) => type is ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64;

    /// <summary>Whether an integer type has every value of another type, bool among them.</summary>
    public static bool Holds(ScalarType integer, ScalarType other) => !IsFloatingPoint(other) && !IsComplex(other) && other switch
    {
        ScalarType.Bool => true,
        _ when integer is ScalarType.Bool or ScalarType.Byte => other == integer,
        ScalarType.Byte => Size(integer) > 1,
        _ => Size(integer) >= Size(other),
    };

    /// <summary>How many values a shape holds.</summary>
    /// <exception cref="OverflowException">More than a long counts.</exception>
    public static long Count(ReadOnlySpan<long> shape)
    {
        // An empty tensor may have absurd other sizes, whose product no library can form.
        long count = 1;
        bool isEmpty = false;
        foreach (long size in shape)
        {
            count = checked(count * Math.Max(size, 1));
            isEmpty |= size == 0;
        }

        return isEmpty ? 0 : count;
    }
}
