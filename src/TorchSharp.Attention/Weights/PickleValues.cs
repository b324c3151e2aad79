using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A name of a Python module that a pickle refers to, one of the few that tensors need.</summary>
internal sealed record PickleGlobal(string Module, string Name)
{
    /// <summary>The type of a storage's values, where the global is a storage class that TorchSharp has.</summary>
    public ScalarType? Storage => this switch
    {
        { Module: "torch", Name: "DoubleStorage" } => ScalarType.Float64,
        { Module: "torch", Name: "FloatStorage" } => ScalarType.Float32,
        { Module: "torch", Name: "HalfStorage" } => ScalarType.Float16,
        { Module: "torch", Name: "BFloat16Storage" } => ScalarType.BFloat16,
        { Module: "torch", Name: "LongStorage" } => ScalarType.Int64,
        { Module: "torch", Name: "IntStorage" } => ScalarType.Int32,
        { Module: "torch", Name: "ShortStorage" } => ScalarType.Int16,
        { Module: "torch", Name: "CharStorage" } => ScalarType.Int8,
        { Module: "torch", Name: "ByteStorage" } => ScalarType.Byte,
        { Module: "torch", Name: "BoolStorage" } => ScalarType.Bool,
        { Module: "torch", Name: "ComplexFloatStorage" } => ScalarType.ComplexFloat32,
        { Module: "torch", Name: "ComplexDoubleStorage" } => ScalarType.ComplexFloat64,
        _ => null,
    };

    public bool IsAllowed => Storage is not null || (Module, Name) switch
    {
        ("collections", "OrderedDict") => true,
        ("torch._utils", "_rebuild_tensor_v2" or "_rebuild_parameter") => true,
        ("torch", "Size" or "device") => true,
        ("torch", "float64" or "float32" or "float16" or "bfloat16" or "int64" or "int32" or "int16" or "int8" or "uint8" or "bool") => true,
        ("torch", "complex64" or "complex128") => true,
        _ => false,
    };

    public override string ToString() => $"{Module}.{Name}";
}

/// <summary>A dictionary in the order of the file. Keys are not hashed: any value may be one.</summary>
internal sealed class PickleDictionary
{
    public List<KeyValuePair<object?, object?>> Items { get; } = [];
}

internal sealed class PickleList
{
    public List<object?> Items { get; } = [];
}

/// <summary>Values that no weights need, such as a device.</summary>
internal sealed record PickleOpaque(string What);

/// <summary>A file of values in the archive.</summary>
internal sealed record PickleStorage(ScalarType Type, string Key, long Count);

/// <summary>A view of a storage.</summary>
internal sealed record PickleTensor(PickleStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    public bool IsContiguous
    {
        get
        {
            long expected = 1;
            for (int i = Shape.Length - 1; i >= 0; i--)
            {
                if (Shape[i] != 1 && Strides[i] != expected) return false;
                expected *= Shape[i];
            }

            return true;
        }
    }

    /// <summary>How many values of the storage the view spans, from its offset on.</summary>
    public long Span
    {
        get
        {
            if (Shape.Contains(0)) return 0;
            long last = 0;
            for (int i = 0; i < Shape.Length; i++) last = checked(last + checked((Shape[i] - 1) * Strides[i]));
            return checked(last + 1);
        }
    }
}
