using System.Buffers.Binary;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// Reads the pickles that torch.save writes, and runs nothing: it knows the instructions that build numbers, texts, lists,
/// dictionaries and tensors, and calls only the functions written in <see cref="PickleGlobals"/>. Any other object becomes a
/// <see cref="PickleOpaque"/>, which is its name and nothing else.
/// </summary>
internal sealed class PickleReader
{
    private static readonly object Mark = new();
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly PickleBytes _bytes;
    private readonly List<object?> _stack = [];
    private readonly Dictionary<long, object?> _memo = [];
    private readonly Dictionary<string, PickleStorage> _storages = new(StringComparer.Ordinal);

    private PickleReader(PickleBytes bytes) => _bytes = bytes;

    /// <summary>The value that a pickle describes.</summary>
    /// <param name="source">The file.</param>
    /// <param name="start">Where in the file the pickle starts.</param>
    /// <param name="limit">Where in the file it ends at the latest.</param>
    /// <returns>The value, the storages that it refers to by their keys, and where in the file the pickle ended.</returns>
    /// <exception cref="PickleException">The pickle is damaged, or asks for something that is not done.</exception>
    public static PickleResult Read(ByteSource source, long start, long limit)
    {
        PickleBytes bytes = new(source, start, limit);
        try
        {
            PickleReader reader = new(bytes);
            return new PickleResult(reader.Run(), reader._storages, bytes.Position);
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
            long start = _bytes.Place;
            byte code = _bytes.Take(1)[0];
            switch ((char)code)
            {
                case '.':
                    return _stack.Count == 1
                        ? Pop()
                        : throw new PickleException($"{_stack.Count} values are left at its end instead of one");
                case '\u0080':
                    if (_bytes.Take(1)[0] is byte protocol and > 5)
                    {
                        throw new PickleException($"its protocol is {protocol}; 0 to 5 are known");
                    }

                    break;
                case '\u0095':
                    _bytes.Skip(8); // a frame: only a hint how much to read ahead
                    break;
                case '(': Push(Mark); break;
                case '0': Pop(); break;
                case '1': PopToMark(); break;
                case '2': Push(Peek()); break;
                case 'N': Push(null); break;
                case '\u0088': Push(true); break;
                case '\u0089': Push(false); break;
                case 'K': Push((long)_bytes.Take(1)[0]); break;
                case 'M': Push((long)BinaryPrimitives.ReadUInt16LittleEndian(_bytes.Take(2))); break;
                case 'J': Push((long)BinaryPrimitives.ReadInt32LittleEndian(_bytes.Take(4))); break;
                case 'I': Push(IntegerOrTruth(_bytes.Line())); break;
                case 'L': Push(PickleNumbers.FromLine(_bytes.Line())); break;
                case '\u008a': Push(PickleNumbers.FromBytes(_bytes.Take(_bytes.Take(1)[0]))); break;
                case '\u008b':
                    Push(
                    PickleNumbers.FromBytes(_bytes.Take(BinaryPrimitives.ReadInt32LittleEndian(_bytes.Take(4))))); break;
                case 'G': Push(BinaryPrimitives.ReadDoubleBigEndian(_bytes.Take(8))); break;
                case 'X': Push(Text(BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Take(4)))); break;
                case '\u008c': Push(Text(_bytes.Take(1)[0])); break;
                case '\u008d': Push(Text(BinaryPrimitives.ReadInt64LittleEndian(_bytes.Take(8)))); break;
                case 'U': Push(OldText(_bytes.Take(1)[0])); break;
                case 'T': Push(OldText(BinaryPrimitives.ReadInt32LittleEndian(_bytes.Take(4)))); break;
                case 'C': SkipBytes(_bytes.Take(1)[0]); break;
                case 'B': SkipBytes(BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Take(4))); break;
                case '\u008e': SkipBytes(BinaryPrimitives.ReadInt64LittleEndian(_bytes.Take(8))); break;
                case '\u0096': SkipBytes(BinaryPrimitives.ReadInt64LittleEndian(_bytes.Take(8))); break;
                case '}': Push(new PickleDictionary()); break;
                case ']': Push(new PickleList()); break;
                case '\u008f': Push(PickleOpaque.Set); break;
                case '\u0090': AddToSet(); break;
                case '\u0091':
                    PopToMark();
                    Push(PickleOpaque.Set);
                    break;
                case ')': Push(Array.Empty<object?>()); break;
                case '\u0085': Push(PopMany(1)); break;
                case '\u0086': Push(PopMany(2)); break;
                case '\u0087': Push(PopMany(3)); break;
                case 't': Push(PopToMark()); break;
                case 'a': Append([Pop()]); break;
                case 'e': Append(PopToMark()); break;
                case 's': SetItems(PopMany(2)); break;
                case 'u': SetItems(PopToMark()); break;
                case 'q': _memo[_bytes.Take(1)[0]] = Peek(); break;
                case 'r': _memo[BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Take(4))] = Peek(); break;
                case '\u0094': _memo[_memo.Count] = Peek(); break;
                case 'h': Push(Recall(_bytes.Take(1)[0])); break;
                case 'j': Push(Recall(BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Take(4)))); break;
                case 'c': Push(Global()); break;
                case '\u0093': PushGlobalFromStack(); break;
                case 'Q': PushOutside(); break;
                case 'R': Call(); break;
                case '\u0081': Call(); break;
                case '\u0092': CallWithNames(); break;
                case 'i': Push(Called(Global(), PopToMark())); break;
                case 'o': CallToMark(); break;
                case 'b': Build(); break;
                case 'P' or 'S' or 'V' or 'F' or 'd' or 'l' or 'p' or 'g':
                    throw new PickleException(
                        $"byte {start} is an instruction of pickle protocol 0, in which PyTorch itself cannot read tensors. " +
                        "Save it anew without pickle_protocol");
                default:
                    throw new PickleException(
                        $"byte {start} is the instruction 0x{code:x2}{(code is > 32 and < 127 ? $" ({(char)code})" : "")}, " +
                        "which weights do not need");
            }
        }
    }

    private string Text(long length) => Utf8.GetString(_bytes.Take(length));

    /// <summary>Python 2's strings: texts where they read as such, else bytes.</summary>
    private object OldText(long length)
    {
        try
        {
            return Text(length);
        }
        catch (DecoderFallbackException)
        {
            return PickleOpaque.Bytes;
        }
    }

    private void SkipBytes(long length)
    {
        _bytes.Skip(length);
        Push(PickleOpaque.Bytes);
    }

    private static object IntegerOrTruth(ReadOnlySpan<byte> line) =>
        line.SequenceEqual("01"u8) ? true : line.SequenceEqual("00"u8) ? false : PickleNumbers.FromLine(line);

    private void Push(object? value) => _stack.Add(value);

    private object? Pop()
    {
        object? value = Peek();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private object? Peek() =>
        _stack.Count > 0 && _stack[^1] != Mark
            ? _stack[^1]
            : throw new PickleException($"a value is missing at byte {_bytes.Place}");

    private object?[] PopMany(int count)
    {
        object?[] values = new object?[count];
        for (int i = count - 1; i >= 0; i--) values[i] = Pop();
        return values;
    }

    private object?[] PopToMark()
    {
        int mark = _stack.LastIndexOf(Mark);
        if (mark < 0) throw new PickleException($"a mark is missing at byte {_bytes.Place}");
        object?[] values = [.. _stack.Skip(mark + 1)];
        _stack.RemoveRange(mark, _stack.Count - mark);
        return values;
    }

    private void Append(object?[] values)
    {
        switch (Peek())
        {
            case PickleList list: list.Items.AddRange(values); break;
            case PickleOpaque: break;
            default: throw new PickleException($"something is appended at byte {_bytes.Place} to what is no list");
        }
    }

    private void AddToSet()
    {
        PopToMark();
        if (Peek() is not PickleOpaque) throw new PickleException($"something is added at byte {_bytes.Place} to what is no set");
    }

    private void SetItems(object?[] pairs)
    {
        object? target = Peek();
        if (target is PickleOpaque && pairs.Length % 2 == 0) return;
        if (target is not PickleDictionary dictionary || pairs.Length % 2 != 0)
        {
            throw new PickleException($"items are set at byte {_bytes.Place} in what is no dictionary");
        }

        for (int i = 0; i < pairs.Length; i += 2) dictionary.Items.Add(new(pairs[i], pairs[i + 1]));
    }

    private object? Recall(long index)
        => _memo.TryGetValue(index, out object? value) ? value : throw new PickleException($"memo {index} was never set");

    private PickleGlobal Global()
    {
        string module = Utf8.GetString(_bytes.Line());
        return PickleGlobals.Find(module, Utf8.GetString(_bytes.Line()));
    }

    private void PushGlobalFromStack()
    {
        if (PopMany(2) is not [string module, string name])
        {
            throw new PickleException($"a name is missing at byte {_bytes.Place}");
        }

        Push(PickleGlobals.Find(module, name));
    }

    private void PushOutside()
    {
        object outside = PickleGlobals.Outside(Pop());
        if (outside is PickleStorage storage && !_storages.TryAdd(storage.Key, storage)
            && _storages[storage.Key].Bytes != storage.Bytes)
        {
            throw new PickleException(
                $"the storage {Listing.Short(storage.Key)} has {_storages[storage.Key].Bytes} bytes in one place and " +
                $"{storage.Bytes} in another");
        }

        Push(outside);
    }

    private void Call()
    {
        object? arguments = Pop();
        Push(Called(Pop(), arguments));
    }

    private void CallToMark()
    {
        object?[] values = PopToMark();
        if (values.Length == 0) throw new PickleException($"a value is missing at byte {_bytes.Place}");
        Push(Called(values[0], values[1..]));
    }

    /// <summary>A call with named arguments, which no function of tensors has.</summary>
    private void CallWithNames()
    {
        object?[] values = PopMany(3);
        object? made = Called(values[0], values[1]);
        Push(made is PickleOpaque || values[0] is not PickleGlobal global ? made : new PickleOpaque(global));
    }

    private object? Called(object? function, object? arguments) => (function, arguments) switch
    {
        (PickleGlobal global, object?[] values) => PickleGlobals.Call(global, values),
        (PickleOpaque opaque, object?[]) => opaque,
        _ => throw new PickleException($"what is called at byte {_bytes.Place} is no function"),
    };

    /// <summary>Attributes: PyTorch hangs version numbers on a state dict and hooks on a tensor, which no weights need.</summary>
    private void Build()
    {
        Pop();
        if (Peek() is not (PickleDictionary or PickleTensor or PickleOpaque))
        {
            throw new PickleException($"attributes are set at byte {_bytes.Place} on what has none");
        }
    }
}
