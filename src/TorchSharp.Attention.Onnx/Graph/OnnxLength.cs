namespace TorchSharp.Attention.Onnx;

/// <summary>
/// The length of an axis in a graph that is being written. It is a fixed number, or it depends on a dynamic axis, whose length
/// the user of the file chooses. The length for the example input is always known. Numbers convert to lengths implicitly, and
/// lengths can be multiplied.
/// </summary>
public sealed class OnnxLength : IEquatable<OnnxLength>
{
    private OnnxLength(long size, ulong axes, (string Value, int Axis)? source, string? symbol, OnnxLength[] factors)
        => (Size, Axes, Source, Symbol, Factors) = (size, axes, source, symbol, factors);

    /// <summary>The length for the example input.</summary>
    public long Size { get; }

    /// <summary>Whether the length depends on a dynamic axis of an input.</summary>
    public bool IsDynamic => Axes != 0;

    /// <summary>The dynamic input axes that it depends on, one bit each.</summary>
    internal ulong Axes { get; }

    /// <summary>The value whose axis has this length; null for numbers and products.</summary>
    internal (string Value, int Axis)? Source { get; }

    /// <summary>The name of a dynamic axis of an input; null otherwise.</summary>
    internal string? Symbol { get; }

    /// <summary>The factors of a product.</summary>
    internal OnnxLength[] Factors { get; }

    /// <summary>Makes a fixed length from a number.</summary>
    /// <param name="size">The length.</param>
    public static implicit operator OnnxLength(long size) => Of(size);

    /// <summary>Makes a fixed length from a number.</summary>
    /// <param name="size">The length.</param>
    public static OnnxLength Of(long size) => new(size, 0, null, null, []);

    /// <summary>Multiplies two lengths, such as those of two axes that are merged into one.</summary>
    /// <param name="left">One length.</param>
    /// <param name="right">The other.</param>
    public static OnnxLength operator *(OnnxLength left, OnnxLength right) => Multiply(left, right);

    /// <summary>Multiplies two lengths, such as those of two axes that are merged into one.</summary>
    /// <param name="left">One length.</param>
    /// <param name="right">The other.</param>
    public static OnnxLength Multiply(OnnxLength left, OnnxLength right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        if (!left.IsDynamic && !right.IsDynamic) return left.Size * right.Size;
        if (left is { IsDynamic: false, Size: 1 }) return right;
        if (right is { IsDynamic: false, Size: 1 }) return left;
        return new OnnxLength(left.Size * right.Size, left.Axes | right.Axes, null, null, [.. left.Parts(), .. right.Parts()]);
    }

    /// <inheritdoc/>
    public bool Equals(OnnxLength? other)
        => other is not null && Size == other.Size && Axes == other.Axes && Source == other.Source
        && Factors.AsSpan().SequenceEqual(other.Factors);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as OnnxLength);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Size, Axes, Source);

    /// <summary>The number, or the name of a dynamic axis with its size for the example.</summary>
    public override string ToString() => IsDynamic ? $"{Symbol ?? "?"} ({Size})" : $"{Size}";

    /// <summary>The length of a value's axis that depends on dynamic axes.</summary>
    internal static OnnxLength Read(string value, int axis, long size, ulong axes, string? symbol = null)
        => axes == 0 ? size : new OnnxLength(size, axes, (value, axis), symbol, []);

    /// <summary>A length that the next node computes: it is read from that node's output.</summary>
    internal static OnnxLength Computed(long size, ulong axes) => axes == 0 ? size : new OnnxLength(size, axes, null, null, []);

    private OnnxLength[] Parts() => Factors.Length > 0 ? Factors : [this];
}
