using System.Buffers.Binary;
using System.Numerics;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// Reads the pickles that torch.save writes, and runs nothing: it knows the instructions that build numbers, texts, lists, dictionaries and
/// tensors, and calls only the functions written here. Whatever else a pickle asks for is refused by name.
/// </summary>
internal sealed class PickleReader
{
    private static readonly object Mark = new();
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly byte[] _bytes;
    private readonly List<object?> _stack = [];
    private readonly Dictionary<long, object?> _memo = [];
    private int _at;

    private PickleReader(byte[] bytes) => _bytes = bytes;

    /// <summary>The value that a pickle describes.</summary>
    /// <exception cref="PickleException">The pickle is damaged, or asks for something that is not done.</exception>
    public static object? Read(byte[] pickle)
    {
        try
        {
            return new PickleReader(pickle).Run();
        }
        catch (Exception e) when (e is DecoderFallbackException or OverflowException)
        {
            throw new PickleException($"a value is not understood: {e.Message}");
        }
    }

    private object? Run()
    {
        while (true)
        {
            int start = _at;
            byte code = Take(1)[0];
            switch ((char)code)
            {
                case '.':
                    return _stack.Count == 1 ? Pop() : throw new PickleException($"{_stack.Count} values are left at its end instead of one");
                case '\u0080':
                    if (Take(1)[0] is byte protocol and > 5) throw new PickleException($"its protocol is {protocol}; 0 to 5 are known");
                    break;
                case '\u0095':
                    Take(8); // a frame: only a hint how much to read ahead
                    break;
                case '(': Push(Mark); break;
                case 'N': Push(null); break;
                case '\u0088': Push(true); break;
                case '\u0089': Push(false); break;
                case 'K': Push((long)Take(1)[0]); break;
                case 'M': Push((long)BinaryPrimitives.ReadUInt16LittleEndian(Take(2))); break;
                case 'J': Push((long)BinaryPrimitives.ReadInt32LittleEndian(Take(4))); break;
                case '\u008a': Push(Integer(Take(Take(1)[0]))); break;
                case '\u008b': Push(Integer(Take(BinaryPrimitives.ReadInt32LittleEndian(Take(4))))); break;
                case 'G': Push(BinaryPrimitives.ReadDoubleBigEndian(Take(8))); break;
                case 'X': Push(Text(BinaryPrimitives.ReadUInt32LittleEndian(Take(4)))); break;
                case '\u008c': Push(Text(Take(1)[0])); break;
                case '\u008d': Push(Text(BinaryPrimitives.ReadInt64LittleEndian(Take(8)))); break;
                case '}': Push(new PickleDictionary()); break;
                case ']': Push(new PickleList()); break;
                case ')': Push(Array.Empty<object?>()); break;
                case '\u0085': Push(PopMany(1)); break;
                case '\u0086': Push(PopMany(2)); break;
                case '\u0087': Push(PopMany(3)); break;
                case 't': Push(PopToMark()); break;
                case 'a': Append([Pop()]); break;
                case 'e': Append(PopToMark()); break;
                case 's': SetItems(PopMany(2)); break;
                case 'u': SetItems(PopToMark()); break;
                case 'q': _memo[Take(1)[0]] = Peek(); break;
                case 'r': _memo[BinaryPrimitives.ReadUInt32LittleEndian(Take(4))] = Peek(); break;
                case '\u0094': _memo[_memo.Count] = Peek(); break;
                case 'h': Push(Recall(Take(1)[0])); break;
                case 'j': Push(Recall(BinaryPrimitives.ReadUInt32LittleEndian(Take(4)))); break;
                case 'c': Push(Global(Line(), Line())); break;
                case '\u0093': PushGlobalFromStack(); break;
                case 'Q': Push(Storage(Pop())); break;
                case 'R': Call(); break;
                case 'b': Build(); break;
                default:
                    throw new PickleException(
                        $"byte {start} is the instruction 0x{code:x2}{(code is > 32 and < 127 ? $" ({(char)code})" : "")}, which weights do not need");
            }
        }
    }

    private ReadOnlySpan<byte> Take(long count)
    {
        if (count < 0 || count > _bytes.Length - _at) throw new PickleException($"byte {_at} asks for {count} bytes; {_bytes.Length - _at} are left");
        _at += (int)count;
        return _bytes.AsSpan(_at - (int)count, (int)count);
    }

    private string Text(long length) => Utf8.GetString(Take(length));

    private string Line()
    {
        int length = _bytes.AsSpan(_at).IndexOf((byte)'\n');
        if (length < 0) throw new PickleException("a name does not end");
        string line = Text(length);
        _at++;
        return line;
    }

    private void Push(object? value) => _stack.Add(value);

    private object? Pop()
    {
        object? value = Peek();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private object? Peek() => _stack.Count > 0 && _stack[^1] != Mark ? _stack[^1] : throw new PickleException($"a value is missing at byte {_at}");

    private object?[] PopMany(int count)
    {
        object?[] values = new object?[count];
        for (int i = count - 1; i >= 0; i--) values[i] = Pop();
        return values;
    }

    private object?[] PopToMark()
    {
        int mark = _stack.LastIndexOf(Mark);
        if (mark < 0) throw new PickleException($"a mark is missing at byte {_at}");
        object?[] values = [.. _stack.Skip(mark + 1)];
        _stack.RemoveRange(mark, _stack.Count - mark);
        return values;
    }

    private void Append(object?[] values)
    {
        if (Peek() is not PickleList list) throw new PickleException($"something is appended at byte {_at} to what is no list");
        list.Items.AddRange(values);
    }

    private void SetItems(object?[] pairs)
    {
        if (Peek() is not PickleDictionary dictionary || pairs.Length % 2 != 0)
        {
            throw new PickleException($"items are set at byte {_at} in what is no dictionary");
        }

        for (int i = 0; i < pairs.Length; i += 2) dictionary.Items.Add(new(pairs[i], pairs[i + 1]));
    }

    private object? Recall(long index) => _memo.TryGetValue(index, out object? value) ? value : throw new PickleException($"memo {index} was never set");

    private static object Integer(ReadOnlySpan<byte> bytes) =>
        bytes.Length <= sizeof(long) ? (long)new BigInteger(bytes) : new PickleOpaque("a large integer");

    private void PushGlobalFromStack()
    {
        if (PopMany(2) is not [string module, string name]) throw new PickleException($"a name is missing at byte {_at}");
        Push(Global(module, name));
    }

    private static PickleGlobal Global(string module, string name)
    {
        PickleGlobal global = new(module, name);
        if (global.IsAllowed) return global;
        string shown = Listing.Short(global.ToString());
        throw new PickleException(module.StartsWith("__torch__", StringComparison.Ordinal)
            ? $"it refers to {shown}: this is a TorchScript archive. Save the weights alone: torch.save(model.state_dict(), path)"
            : $"it refers to {shown}, which weights do not need; nothing was run. If you trust the file, load it in Python and save the " +
              "weights alone: torch.save(model.state_dict(), path)");
    }

    /// <summary>('storage', class, file, place, count)</summary>
    private static PickleStorage Storage(object? id) =>
        id is object?[] and ["storage", PickleGlobal { Storage: { } type }, string key, string, long count] && count >= 0
            ? new PickleStorage(type, key, count)
            : throw new PickleException("it refers to something outside that is no storage of a known type");

    private void Call()
    {
        object? arguments = Pop(), function = Pop();
        if (function is not PickleGlobal global || arguments is not object?[] values) throw new PickleException($"what is called at byte {_at} is no function");
        Push((global.Module, global.Name, values) switch
        {
            ("collections", "OrderedDict", []) => new PickleDictionary(),
            ("torch._utils", "_rebuild_tensor_v2", [PickleStorage, long, object?[], object?[], _, _, PickleDictionary { Items.Count: > 0 }, ..]) =>
                throw new PickleException("a tensor is a conjugated or negated view; save a copy of it: tensor.resolve_conj().resolve_neg()"),
            ("torch._utils", "_rebuild_tensor_v2", [PickleStorage storage, long offset, object?[] shape, object?[] strides, ..]) =>
                View(storage, offset, Integers(shape), Integers(strides)),
            ("torch._utils", "_rebuild_parameter", [PickleTensor tensor, ..]) => tensor,
            ("torch", "Size", [object?[] sizes]) => sizes,
            ("torch", "device", _) => new PickleOpaque("a device"),
            _ => throw new PickleException($"it calls '{global}' with arguments that are not understood"),
        });
    }

    /// <summary>Attributes: PyTorch hangs version numbers on a state dict, which no weights need.</summary>
    private void Build()
    {
        Pop();
        if (Peek() is not PickleDictionary) throw new PickleException($"attributes are set at byte {_at} on what is no dictionary");
    }

    private static long[] Integers(object?[] values) =>
        [.. values.Select(value => value as long? ?? throw new PickleException("a shape or stride is no integer"))];

    private static PickleTensor View(PickleStorage storage, long offset, long[] shape, long[] strides)
    {
        PickleTensor tensor = new(storage, offset, shape, strides);
        string text = $"a tensor of shape {Listing.Shape(shape)}, strides {Listing.Shape(strides)} and offset {offset}";
        if (shape.Length != strides.Length || shape.Length > SafetensorsTypes.MostDimensions || offset < 0 || shape.Any(size => size < 0) || strides.Any(stride => stride < 0))
        {
            throw new PickleException($"{text} cannot be");
        }

        if (offset > storage.Count || tensor.Span > storage.Count - offset) throw new PickleException($"{text} does not fit its storage of {storage.Count} values");
        return SafetensorsTypes.Count(shape) <= storage.Count
            ? tensor
            : throw new PickleException($"{text} repeats values of its storage of {storage.Count}; save a copy of it: tensor.contiguous()");
    }
}

/// <summary>What is wrong with a pickle; the archive says in which file.</summary>
internal sealed class PickleException(string message) : Exception(message);
