using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Calls whose short forms in TorchSharp go wrong: they make an implicit scalar, which the finalizer may free during the call, or
/// take the constant 0 for a type. The short forms are errors (<c>eng/analyzers/BannedSymbols.txt</c>).
/// </summary>
internal static class TensorCalls
{
    private static readonly Scalar _first = 0L.ToScalar(), _two = 2.ToScalar();

    /// <summary>The square of every element.</summary>
    public static Tensor Squared(this Tensor values) => values.pow(_two);

#pragma warning disable RS0030 // This is the overload without a type, behind a name that the constant 0 does not fit.
    /// <summary>The sum of all elements.</summary>
    public static Tensor Total(this Tensor values) => values.sum();
#pragma warning restore RS0030

    /// <summary>The numbers 0 to <paramref name="count"/> − 1.</summary>
    public static Tensor Range(long count, ScalarType type, Device device)
    {
        using Scalar end = count.ToScalar();
        return arange(_first, end, Scalars.Once, dtype: type, device: device);
    }
}
