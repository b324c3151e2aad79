namespace TorchSharp.Attention.Onnx;

/// <summary>Type of a value's elements, numbered as in the file format.</summary>
public enum OnnxElementType
{
    /// <summary>32-bit floating point.</summary>
    Float = 1,

    /// <summary>64-bit integers: sizes and indices.</summary>
    Int64 = 7,

    /// <summary>Truth values.</summary>
    Bool = 9,
}

/// <summary>A value of a graph that is being written: its name, its shape and the type of its elements.</summary>
public sealed class OnnxValue
{
    internal OnnxValue(string name, IReadOnlyList<OnnxLength> shape, OnnxElementType type)
        => (Name, Shape, ElementType) = (name, shape, type);

    /// <summary>Name of the value in the graph.</summary>
    public string Name { get; }

    /// <summary>Length of each axis.</summary>
    public IReadOnlyList<OnnxLength> Shape { get; }

    /// <summary>Type of the value's elements.</summary>
    public OnnxElementType ElementType { get; }

    /// <summary>Number of axes.</summary>
    public int Rank => Shape.Count;

    /// <summary>Length of an axis; negative ones count from the end.</summary>
    /// <param name="axis">The axis, −rank to rank − 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such axis.</exception>
    public OnnxLength this[int axis]
        => axis >= -Rank && axis < Rank ? Shape[axis < 0 ? axis + Rank : axis] : throw new ArgumentOutOfRangeException(
        nameof(axis), axis, $"axis is {axis}, but {this} has {Rank} axes.");

    /// <summary>Name and shape.</summary>
    public override string ToString() => $"'{Name}' ({string.Join(", ", Shape)})";
}
