using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Adds up functions of a forward, one call each. Every operand is read once and the result written once, and the result is
/// kept. Views cost nothing. Whole numbers and masks (indices, tables of places) are no activations and count nothing, nor do
/// values that are parameters made ready.
/// </summary>
/// <param name="outputs">The shape of what a child module returned last; null where it was not called.</param>
internal sealed class FunctionCount(Func<nn.Module, ValueList<long>?> outputs)
{
    /// <summary>Operations on single values.</summary>
    public long Elementwise { get; private set; }

    /// <summary>Values read and written.</summary>
    public long Moved { get; private set; }

    /// <summary>Values written to new memory.</summary>
    public long Kept { get; private set; }

    /// <summary>Number of values that a child module returned last.</summary>
    public long Values(nn.Module child)
        => outputs(child) is { } shape ? shape.Aggregate(1L, (product, size) => product * size) : 0;

    /// <summary>Shape of what a child module returned last.</summary>
    public ValueList<long> Shape(nn.Module child) => outputs(child) ?? [];

    /// <summary>A function of each value, such as a sigmoid, or an operation with a number.</summary>
    public void Map(long values, bool inPlace = false) => Add(values, 2 * values, inPlace ? 0 : values);

    /// <summary>An operation of each value with those of further tensors, which broadcast to it.</summary>
    public void Combine(long values, params ReadOnlySpan<long> operands)
        => Add(values * (operands.Length - 1), values + Sum(operands), values);

    /// <summary>An operation of each value with those of another tensor, whose result overwrites the first operand.</summary>
    public void CombineInPlace(long values, long operand) => Add(values, (2 * values) + operand, 0);

    /// <summary>A sum, a mean or a maximum: one operation for each value that goes in.</summary>
    public void Reduce(long from, long to) => Add(from, from + to, to);

    /// <summary>Pooling by windows: one operation for each value of each window.</summary>
    public void Pool(long from, long to, long window) => Add(to * window, from + to, to);

    /// <summary>Exponential, sum and quotient.</summary>
    public void Softmax(long values) => Add(3 * values, 2 * values, values);

    /// <summary>A concatenation, a stack, a shuffle, a selection or a map padded.</summary>
    public void Copy(long values) => Add(0, 2 * values, values);

    /// <summary>A map padded: fewer values are read than written.</summary>
    public void Pad(long from, long to) => Add(0, from + to, to);

    /// <summary>An interpolation, with so many operations for each new value.</summary>
    public void Resize(long from, long to, int operations) => Add(operations * to, from + to, to);

    /// <summary>A normalisation by the statistics of the call: 5 operations a value, as a layer of it without scale.</summary>
    public void Normalise(long values) => Add(5 * values, 2 * values, values);

    /// <summary>
    /// A matrix product or a convolution called as a function; <see cref="IFunctionalCost"/> has its multiply-accumulates.
    /// </summary>
    public void Product(long values, params ReadOnlySpan<long> operands) => Add(0, values + Sum(operands), values);

    /// <summary>A product with a bias for each of its values.</summary>
    public void Affine(long values, params ReadOnlySpan<long> operands) => Add(values, values + Sum(operands), values);

    /// <summary>A pass that holds fewer values than it computes.</summary>
    public void Add(long elementwise, long moved, long kept)
    {
        Elementwise += elementwise;
        Moved += moved;
        Kept += kept;
    }

    private static long Sum(ReadOnlySpan<long> operands)
    {
        long sum = 0;
        foreach (long operand in operands) sum += operand;
        return sum;
    }
}
