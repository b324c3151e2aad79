namespace TorchSharp.Attention;

/// <summary>
/// The functions of Python that are known by name and have a meaning here: those that make tensors and ordered dictionaries.
/// Nothing of Python is looked up or run. Every other name stays a name.
/// </summary>
internal static class PickleGlobals
{
    /// <summary>Modules whose functions run programs or reach the system. Weights need none of them.</summary>
    private static readonly string[] SystemModules =
    [
        "os", "posix", "nt", "sys", "subprocess", "pty", "socket", "shutil", "ctypes", "importlib", "runpy", "codeop", "popen2",
        "marshal", "pickle", "_pickle",
        "cPickle", "webbrowser", "torch.hub",
    ];

    private static readonly string[] SystemFunctions =
    [
        "eval", "exec", "execfile", "compile", "open", "file", "input", "raw_input", "apply", "__import__", "setattr", "delattr",
        "breakpoint", "globals",
        "locals", "vars",
    ];

    /// <summary>A name, where it is not one of those that would run something in Python.</summary>
    /// <exception cref="PickleException">It is one of those.</exception>
    public static PickleGlobal Find(string module, string name)
    {
        PickleGlobal global = new(module, name);
        if (module.StartsWith("__torch__", StringComparison.Ordinal))
        {
            throw new PickleException(
                $"it refers to {Listing.Short(global.ToString())}: this is a TorchScript archive. Save the weights alone: " +
                "torch.save(model.state_dict(), path)");
        }

        if (IsSafe(module, name)) return global;
        throw new PickleException(
            $"it refers to {Listing.Short(global.ToString())}, which would run something in Python and which weights do not " +
            "need; nothing was run. " +
            "If you trust the file, load it in Python and save the weights alone: torch.save(model.state_dict(), path)");
    }

    /// <summary>What a function makes of its arguments: a tensor, a dictionary, or an object that is only named.</summary>
    /// <exception cref="PickleException">A function of tensors has arguments that are not understood.</exception>
    public static object? Call(PickleGlobal function, object?[] arguments) => (function.Module, function.Name, arguments) switch
    {
        ("collections", "OrderedDict", []) or ("collections", "defaultdict", _) => new PickleDictionary(),
        ("collections", "OrderedDict", [PickleList pairs]) => FromPairs(pairs),
        ("torch._utils", "_rebuild_tensor_v2", [PickleStorage, long, object?[], object?[], _, _,
            PickleDictionary { Items.Count: > 0 }, ..]) =>
            throw new PickleException(
                "a tensor is a conjugated or negated view; save a copy of it: tensor.resolve_conj().resolve_neg()"),
        ("torch._utils", "_rebuild_tensor_v2" or "_rebuild_tensor", [PickleStorage storage, long offset, object?[] shape,
            object?[] strides, ..]) =>
            storage.Type is null ? PickleOpaque.TensorOf(storage.Class) : View(storage, offset, Sizes(shape), Sizes(strides)),
        ("torch._utils", "_rebuild_tensor_v3", [_, _, _, _, _, _, PickleGlobal type, ..]) => PickleOpaque.TensorOf(type),
        ("torch._utils", "_rebuild_parameter" or "_rebuild_parameter_with_state", [PickleTensor or PickleOpaque, ..]) =>
            arguments[0],
        ("torch.nn.parameter", "Parameter", [PickleTensor, ..]) or ("torch.autograd.variable", "Variable", [PickleTensor, ..]) =>
            arguments[0],
        ("torch._tensor", "_rebuild_from_type_v2", [PickleGlobal rebuild, PickleGlobal type, object?[] values, ..]) =>
            IsPlainTensor(type) ? Call(rebuild, values) : PickleOpaque.TensorOf(type),
        ("torch", "Size", [object?[] sizes]) => sizes,
        ("_codecs", "encode", _) => PickleOpaque.Bytes,
        ("torch._utils", "_rebuild_tensor_v2" or "_rebuild_tensor" or "_rebuild_parameter", _) => throw NotUnderstood(function),
        _ when function.Storage is not null => throw NotUnderstood(function),

        // Functions that only say of which class an object is.
        (_, "_reconstructor" or "_reconstruct" or "__newobj__" or "getattr", [PickleGlobal type, ..]) => new PickleOpaque(type),
        ("numpy.core.numeric" or "numpy._core.numeric", "_frombuffer", _) =>
            new PickleOpaque(new PickleGlobal("numpy", "ndarray")),
        _ => new PickleOpaque(function),
    };

    /// <summary>
    /// What a pickle refers to outside of it: ('storage', class, key, place, count), in files before PyTorch 1.6 also with the
    /// part of the storage that is meant; or ('module', class, file, source), which is the class.
    /// </summary>
    /// <exception cref="PickleException">It is something else.</exception>
    public static object Outside(object? id)
    {
        switch (id)
        {
            case object?[] and ["storage", PickleGlobal { StorageBytes: > 0 } type, string key, _, long count,
                .. object?[] view] when count >= 0:
                PickleStorage whole = new(type, key, count);
                return view switch
                {
                    [] or [null] => whole,
                    [object?[] and [_, long start, long size]] when start >= 0 && size >= 0 && start <= count
                        && size <= count - start => whole with { Start = start, Size = size },
                    _ => throw new PickleException("it refers to a part of a storage that the storage does not have"),
                };
            case object?[] and ["module", PickleGlobal type, ..]:
                return type;
            default:
                throw new PickleException("it refers to something outside that is no storage of a known type");
        }
    }

    /// <summary>The pairs of key and value that Python 2 gives to an ordered dictionary.</summary>
    private static PickleDictionary FromPairs(PickleList pairs)
    {
        // Python writes a list of its own for each. One that served many would take memory out of proportion to the file.
        if (pairs.IsTaken) throw new PickleException("two ordered dictionaries are made of one list");
        pairs.IsTaken = true;
        PickleDictionary dictionary = new();
        foreach (object? pair in pairs.Items)
        {
            dictionary.Items.Add(pair switch
            {
                PickleList { Items: [var key, var value] } => new(key, value),
                object?[] and [var key, var value] => new KeyValuePair<object?, object?>(key, value),
                _ => throw new PickleException("an ordered dictionary is made of something else than pairs"),
            });
        }

        return dictionary;
    }

    private static bool IsSafe(string module, string name) =>
        !SystemModules.Any(
            system => module == system || (module.StartsWith(system, StringComparison.Ordinal) && module[system.Length] == '.'))
        && !(module is "builtins" or "__builtin__" && SystemFunctions.Contains(name.Split('.')[0]))
        && (module, name) is not ("torch", "load") and not ("torch.jit", "load") and not ("numpy", "load")
        && !name.Contains(".__", StringComparison.Ordinal);

    private static bool IsPlainTensor(PickleGlobal type)
        => type is { Module: "torch", Name: "Tensor" } or { Module: "torch.nn.parameter", Name: "Parameter" or "Buffer" };

    private static PickleException NotUnderstood(PickleGlobal function) =>
        new($"it calls {Listing.Short(function.ToString())} with arguments that are not understood");

    private static long[] Sizes(object?[] values) => values.Length > SafetensorsTypes.MostDimensions
        ? throw new PickleException($"a tensor of {values.Length} dimensions cannot be")
        : [.. values.Select(value => value as long? ?? throw new PickleException("a shape or stride is no integer"))];

    private static PickleTensor View(PickleStorage storage, long offset, long[] shape, long[] strides)
    {
        PickleTensor tensor = new(storage, offset, shape, strides);
        string text = $"a tensor of shape {Listing.Shape(shape)}, strides {Listing.Shape(strides)} and offset {offset}";
        if (shape.Length != strides.Length || offset < 0 || shape.Any(size => size < 0) || strides.Any(stride => stride < 0))
        {
            throw new PickleException($"{text} cannot be");
        }

        if (offset > storage.Size || tensor.Span > storage.Size - offset)
        {
            throw new PickleException($"{text} does not fit its storage of {storage.Size} values");
        }

        return SafetensorsTypes.Count(shape) <= storage.Size
            ? tensor with { Offset = storage.Start + offset }
            : throw new PickleException(
                $"{text} repeats values of its storage of {storage.Size}; save a copy of it: tensor.contiguous()");
    }
}
