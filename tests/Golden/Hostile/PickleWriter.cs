using System.Buffers.Binary;
using System.Text;

namespace TorchSharp.Attention.Golden;

/// <summary>A tensor as a pickle names it: a view of a storage, perhaps wrapped as a parameter.</summary>
internal sealed record PickledTensor(string StorageClass, string Key, long Count, long Offset, long[] Shape, long[] Strides, bool IsParameter = false)
{
    /// <summary>For the format before PyTorch 1.6, the part of the storage that is meant: its key, where it starts, how many values.</summary>
    public (string Key, long Start, long Size)? View { get; init; }
}

/// <summary>A call of a global with arguments, for what only a test would write.</summary>
internal sealed record PickledCall(string Module, string Name, params object?[] Arguments);

/// <summary>Key-value pairs that are written as an OrderedDict with the attribute <c>_metadata</c>, as state dicts are.</summary>
internal sealed record PickledState(IReadOnlyList<KeyValuePair<string, object?>> Items);

/// <summary>Writes pickles of protocol 2, with memos, as Python's pickler does for torch.save. It shares nothing with the reader.</summary>
internal sealed class PickleWriter
{
    private readonly List<byte> _bytes = [0x80, 2];
    private readonly Dictionary<string, int> _memo = new(StringComparer.Ordinal);
    private int _memos;

    private bool _legacy;

    /// <param name="value">The value.</param>
    /// <param name="legacy">Whether storages are named as before PyTorch 1.6: with the part that is meant.</param>
    public static byte[] Write(object? value, bool legacy = false)
    {
        PickleWriter writer = new() { _legacy = legacy };
        writer.Value(value);
        writer.Op('.');
        return [.. writer._bytes];
    }

    private void Op(char code) => _bytes.Add((byte)code);

    private void Value(object? value)
    {
        switch (value)
        {
            case null: Op('N'); break;
            case bool flag: Op(flag ? '\u0088' : '\u0089'); break;
            case int number: Integer(number); break;
            case long number: Integer(number); break;
            case double number:
                Op('G');
                Bytes(8, span => BinaryPrimitives.WriteDoubleBigEndian(span, number));
                break;
            case string text: Text(text); break;
            case object?[] tuple: Tuple(tuple); break;
            case List<object?> list:
                Op(']');
                Memo(null);
                Op('(');
                foreach (object? item in list) Value(item);
                Op('e');
                break;
            case Dictionary<string, object?> items:
                Op('}');
                Memo(null);
                Items(items);
                break;
            case PickledState state: State(state); break;
            case PickledTensor tensor: Tensor(tensor); break;
            case PickledCall call:
                Global(call.Module, call.Name);
                Tuple(call.Arguments);
                Op('R');
                Memo(null);
                break;
            default: throw new ArgumentException($"{value.GetType()} is not written", nameof(value));
        }
    }

    private void Integer(long number)
    {
        switch (number)
        {
            case >= 0 and <= byte.MaxValue:
                Op('K');
                _bytes.Add((byte)number);
                break;
            case >= 0 and <= ushort.MaxValue:
                Op('M');
                Bytes(2, span => BinaryPrimitives.WriteUInt16LittleEndian(span, (ushort)number));
                break;
            case >= int.MinValue and <= int.MaxValue:
                Op('J');
                Bytes(4, span => BinaryPrimitives.WriteInt32LittleEndian(span, (int)number));
                break;
            default:
                Op('\u008a');
                _bytes.Add(8);
                Bytes(8, span => BinaryPrimitives.WriteInt64LittleEndian(span, number));
                break;
        }
    }

    private void Text(string text)
    {
        if (Recalled("text " + text)) return;
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        Op('X');
        Bytes(4, span => BinaryPrimitives.WriteInt32LittleEndian(span, utf8.Length));
        _bytes.AddRange(utf8);
        Memo("text " + text);
    }

    private void Tuple(object?[] items)
    {
        if (items.Length is 0 or > 3)
        {
            if (items.Length > 3) Op('(');
            foreach (object? item in items) Value(item);
            Op(items.Length == 0 ? ')' : 't');
        }
        else
        {
            foreach (object? item in items) Value(item);
            Op((char)('\u0084' + items.Length));
        }

        if (items.Length > 0) Memo(null);
    }

    private void Items(IEnumerable<KeyValuePair<string, object?>> items)
    {
        Op('(');
        foreach ((string key, object? item) in items)
        {
            Value(key);
            Value(item);
        }

        Op('u');
    }

    private void State(PickledState state)
    {
        Global("collections", "OrderedDict");
        Op(')');
        Op('R');
        Memo(null);
        Items(state.Items);
        Value(new Dictionary<string, object?> { ["_metadata"] = new Dictionary<string, object?> { [""] = new Dictionary<string, object?> { ["version"] = 1 } } });
        Op('b');
    }

    private void Tensor(PickledTensor tensor)
    {
        if (tensor.IsParameter)
        {
            Global("torch._utils", "_rebuild_parameter");
            Op('(');
        }

        Global("torch._utils", "_rebuild_tensor_v2");
        Op('(');
        Op('(');
        Text("storage");
        Global("torch", tensor.StorageClass);
        Text(tensor.Key);
        Text("cpu");
        Integer(tensor.Count);
        if (_legacy) Value(tensor.View is { } view ? new object?[] { view.Key, view.Start, view.Size } : null);
        Op('t');
        Memo(null);
        Op('Q');
        Integer(tensor.Offset);
        Tuple([.. tensor.Shape]);
        Tuple([.. tensor.Strides]);
        Value(false);
        NoHooks();
        Op('t');
        Memo(null);
        Op('R');
        Memo(null);
        if (!tensor.IsParameter) return;
        Value(true);
        NoHooks();
        Op('t');
        Op('R');
    }

    private void NoHooks()
    {
        Global("collections", "OrderedDict");
        Op(')');
        Op('R');
        Memo(null);
    }

    private void Global(string module, string name)
    {
        string text = $"{module}\n{name}\n";
        if (Recalled(text)) return;
        Op('c');
        _bytes.AddRange(Encoding.UTF8.GetBytes(text));
        Memo(text);
    }

    private bool Recalled(string what)
    {
        if (!_memo.TryGetValue(what, out int index)) return false;
        Op(index < 256 ? 'h' : 'j');
        if (index < 256) _bytes.Add((byte)index);
        else Bytes(4, span => BinaryPrimitives.WriteInt32LittleEndian(span, index));
        return true;
    }

    private void Memo(string? what)
    {
        int index = _memos++;
        if (what is not null) _memo.Add(what, index);
        Op(index < 256 ? 'q' : 'r');
        if (index < 256) _bytes.Add((byte)index);
        else Bytes(4, span => BinaryPrimitives.WriteInt32LittleEndian(span, index));
    }

    private void Bytes(int count, Action<byte[]> write)
    {
        byte[] bytes = new byte[count];
        write(bytes);
        _bytes.AddRange(bytes);
    }
}
