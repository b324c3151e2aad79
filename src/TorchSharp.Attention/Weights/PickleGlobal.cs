using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A name of a Python module that a pickle refers to. It is only a name.</summary>
internal sealed record PickleGlobal(string Module, string Name)
{
    /// <summary>The type of a storage's values, where the global is a storage class that TorchSharp has.</summary>
    public ScalarType? Storage => Module is "torch" or "torch.cuda" ? Name switch
    {
        "DoubleStorage" => ScalarType.Float64,
        "FloatStorage" => ScalarType.Float32,
        "HalfStorage" => ScalarType.Float16,
        "BFloat16Storage" => ScalarType.BFloat16,
        "LongStorage" => ScalarType.Int64,
        "IntStorage" => ScalarType.Int32,
        "ShortStorage" => ScalarType.Int16,
        "CharStorage" => ScalarType.Int8,
        "ByteStorage" => ScalarType.Byte,
        "BoolStorage" => ScalarType.Bool,
        "ComplexFloatStorage" => ScalarType.ComplexFloat32,
        "ComplexDoubleStorage" => ScalarType.ComplexFloat64,
        _ => null,
    } : null;

    /// <summary>Bytes of a value, where the global is a storage class, also one whose values TorchSharp lacks; else 0.</summary>
    public int StorageBytes => Storage is { } type ? SafetensorsTypes.Size(type) : (Module, Name) switch
    {
        ("torch" or "torch.cuda",
            "QInt8Storage" or "QUInt8Storage" or "QUInt4x2Storage" or "QUInt2x4Storage" or "UntypedStorage") => 1,
        ("torch.storage", "UntypedStorage" or "_UntypedStorage") => 1,
        ("torch" or "torch.cuda", "QInt32Storage") => 4,
        _ => 0,
    };

    public override string ToString() => $"{Module}.{Name}";
}
