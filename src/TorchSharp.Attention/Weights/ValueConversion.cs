using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Values of one type as those of another, and how many of them the other type lacks.</summary>
/// <param name="Value">
/// The converted values, or the given ones where copying them into the other type converts them likewise.
/// </param>
/// <param name="Rounded">How many became a neighbour of theirs, zero among them.</param>
/// <param name="Overflowed">How many finite ones became infinite.</param>
/// <param name="Example">The first of these values; null where there is none.</param>
internal sealed record ValueConversion(Tensor Value, long Rounded, long Overflowed, string? Example)
{
    private const int Chunk = 1 << 18;

    // Where a conversion to 64-bit integers has no defined result.
    private static readonly Scalar Beyond = 9223372036854775808.0.ToScalar();

    /// <summary>Converts; counts only where the other type may lack a value.</summary>
    public static ValueConversion Of(Tensor value, ScalarType type)
    {
        if (value.dtype == type) return new ValueConversion(value, 0, 0, null);
        if (SafetensorsTypes.IsComplex(type))
        {
            ScalarType part = type == ScalarType.ComplexFloat64 ? ScalarType.Float64 : ScalarType.Float32;
            ValueConversion parts = Of(value.is_complex() ? value.view_as_real() : value, part);
            return parts with { Value = value };
        }

        // Copying into the model converts without loss.
        if (HasAll(type, value.dtype)) return new ValueConversion(value, 0, 0, null);
        Tensor converted = value.to_type(type);
        long rounded = 0, overflowed = 0, count = value.numel();
        string? example = null;
        using Tensor given = value.reshape(-1), made = converted.reshape(-1);
        for (long start = 0; start < count; start += Chunk)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor before = given.narrow(0, start, Math.Min(Chunk, count - start)), after = made.narrow(0, start, before.numel());
            if (Lost(before, after) is not { } lost) continue;
            long infinite = after.isinf().logical_and(lost).count_nonzero().ToInt64();
            overflowed += infinite;
            rounded += lost.count_nonzero().ToInt64() - infinite;
            example ??= First(before, lost);
        }

        return new ValueConversion(converted, rounded, overflowed, example);
    }

    /// <summary>Whether a floating-point type, or a wider integer, has every value of another type.</summary>
    private static bool HasAll(ScalarType type, ScalarType other) => SafetensorsTypes.IsFloatingPoint(type)
        ? other switch
        {
            ScalarType.Bool or ScalarType.Byte or ScalarType.Int8 => true,
            ScalarType.Int16 or ScalarType.Float16 or ScalarType.BFloat16 => type is ScalarType.Float32 or ScalarType.Float64,
            ScalarType.Int32 or ScalarType.Float32 => type == ScalarType.Float64,
            _ => false,
        }
        : SafetensorsTypes.Holds(type, other);

    /// <summary>Which values did not survive; null for none, which is the usual case and the fast one.</summary>
    private static Tensor? Lost(Tensor before, Tensor after)
    {
        if (!before.is_floating_point())
        {
            Tensor beyond = after.isinf().logical_or(after.ge(Beyond));
            Tensor differs = after.to_type(ScalarType.Int64).ne(before.to_type(ScalarType.Int64)).logical_or(beyond);
            return differs.any().ToBoolean() ? differs : null;
        }

        Tensor changed = after.to_type(before.dtype).ne(before);
        if (!changed.any().ToBoolean()) return null;

        // NaN stays NaN, and differs from itself.
        Tensor lost = changed.logical_and(before.isnan().logical_not());
        return lost.any().ToBoolean() ? lost : null;
    }

    private static string First(Tensor values, Tensor marked)
    {
        long index = marked.to_type(ScalarType.Byte).argmax().ToInt64();
        using Tensor value = values[index];
        return value.is_floating_point()
            ? value.to_type(ScalarType.Float64).ToDouble().ToString("G9", CultureInfo.InvariantCulture)
            : value.to_type(ScalarType.Int64).ToInt64().ToString(CultureInfo.InvariantCulture);
    }
}
