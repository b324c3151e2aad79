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
        ("torch" or "torch.cuda", "QInt8Storage" or "QUInt8Storage" or "QUInt4x2Storage" or "QUInt2x4Storage" or "UntypedStorage") => 1,
        ("torch.storage", "UntypedStorage" or "_UntypedStorage") => 1,
        ("torch" or "torch.cuda", "QInt32Storage") => 4,
        _ => 0,
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
    /// <summary>Whether a dictionary was made of it.</summary>
    public bool IsTaken { get; set; }

    public List<object?> Items { get; } = [];
}

/// <summary>An object that no weights need: what it is, and nothing of what it holds.</summary>
internal sealed record PickleOpaque(PickleGlobal Class, string? Kind = null)
{
    public static readonly PickleOpaque Set = new(new("builtins", "set"), "a set"), Bytes = new(new("builtins", "bytes"), "bytes"),
        LargeInteger = new(new("builtins", "int"), "an integer");

    public string What => Kind is null ? Listing.Short(Class.ToString()) : Kind;

    /// <summary>A tensor of a class or type that TorchSharp lacks.</summary>
    public static PickleOpaque TensorOf(PickleGlobal type) => new(type, $"a tensor of {Listing.Short(type.ToString())}, which is not read");
}

/// <summary>Words for what stands where no tensor does.</summary>
internal static class PickleKinds
{
    public static string Of(object? value) => value switch
    {
        null => "None",
        bool => "a truth value",
        long or System.Numerics.BigInteger => "an integer",
        double => "a number",
        string => "a text",
        object?[] => "a tuple",
        PickleList => "a list",
        PickleDictionary => "a dictionary",
        PickleTensor => "a tensor",
        PickleStorage => "a storage",
        PickleGlobal global => Listing.Short(global.ToString()),
        PickleOpaque opaque => opaque.What,
        _ => "an object",
    };
}

/// <summary>Values in the archive, all of one type.</summary>
internal sealed record PickleStorage(PickleGlobal Class, string Key, long Count)
{
    /// <summary>Type of the values; null where TorchSharp has none.</summary>
    public ScalarType? Type => Class.Storage;

    public long Bytes => checked(Count * Class.StorageBytes);

    /// <summary>The first value that is meant, where it is a part of the storage.</summary>
    public long Start { get; init; }

    /// <summary>How many values are meant.</summary>
    public long Size { get; init; } = Count;
}

/// <summary>A view of a storage.</summary>
internal sealed record PickleTensor(PickleStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    public ScalarType Type => Storage.Type!.Value;

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
