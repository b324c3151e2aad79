using System.Text;

namespace TorchSharp.Attention;

/// <summary>Recognises files that hold no weights in a format that is read, by their first bytes, and says what to do.</summary>
internal static class ForeignFile
{
    /// <summary>How many bytes of a file are looked at.</summary>
    public const int Start = 512;

    private static readonly (byte[] Start, string Text)[] Signatures =
    [
        ([0x1f, 0x8b], "this file is compressed with gzip. Unpack it first: gzip -d, or tar -xzf for an archive."),
        ([0x28, 0xb5, 0x2f, 0xfd], "this file is compressed with zstd. Unpack it first: zstd -d."),
        ([0xfd, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0], "this file is compressed with xz. Unpack it first: xz -d."),
        ([.. "BZh"u8], "this file is compressed with bzip2. Unpack it first: bzip2 -d."),
        ([(byte)'7', (byte)'z', 0xbc, 0xaf], "this is a 7-Zip archive. Unpack it first."),
        ([.. "Rar!"u8], "this is a RAR archive. Unpack it first."),
        ([
            0x89, .. "HDF"u8],
            "this is an HDF5 file, as Keras and h5py write. In Python: safetensors.numpy.save_file({name: " +
            "array, …}, path), with names and layouts as the network's."),
        ([
            0x93, .. "NUMPY"u8],
            "this is one array of NumPy (.npy). In Python: safetensors.numpy.save_file({\"name\": numpy.load(path)}, new_path)."),
        ([.. "GGUF"u8], "this is a GGUF file of llama.cpp. Take the safetensors file that it was made from."),
        ([.. "version https://git-lfs"u8], "this is a pointer of Git LFS, not the file itself. Fetch the file: git lfs pull."),
    ];

    /// <summary>How many bytes a mark of UTF-8 takes at the start.</summary>
    public static int ByteOrderMark(ByteSource source)
        => source.Length >= 3 && source.Read(0, 3).AsSpan().SequenceEqual("\uFEFF"u8) ? 3 : 0;

    /// <summary>Whether a file begins as a JSON object. A safetensors header has its length in front.</summary>
    public static bool IsJson(ReadOnlySpan<byte> start)
    {
        ReadOnlySpan<byte> text = Text(start);
        if (text.Length < 2 || text[0] != (byte)'{') return false;

        // What follows: white space, a name, or the end of the object.
        text = text[1..].TrimStart(" \t\r\n"u8);
        return text.Length > 0 && text[0] is (byte)'"' or (byte)'}';
    }

    /// <summary>What a file is, and what to do; null where it may be safetensors.</summary>
    /// <param name="start">Its first bytes, at most <see cref="Start"/>.</param>
    /// <param name="length">How many bytes it has.</param>
    public static string? Describe(ReadOnlySpan<byte> start, long length)
    {
        if (length == 0) return "this file is empty. Fetch it again.";
        foreach ((byte[] signature, string text) in Signatures)
        {
            if (start.StartsWith(signature)) return text;
        }

        if (start.IndexOfAnyExcept((byte)0) < 0)
        {
            return length <= start.Length
                ? null
                : "this file begins with zeros alone, as one does whose download or copy broke off. Fetch it again.";
        }

        if (start.Length > 8 && start[4..8].SequenceEqual("TFL3"u8))
        {
            return "this is a TensorFlow Lite model. Save the weights of the network that it was made from.";
        }

        if (IsModuleSave(start))
        {
            return "this is a file of TorchSharp's module.save. Load it with module.load(path) into a network of the same " +
                "class, and write it with SaveWeights.";
        }

        if (IsOnnx(start))
        {
            return "this is an ONNX model, a program with its weights. In Python: safetensors.numpy.save_file({t.name: " +
                "onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}, new_path).";
        }

        return OfText(start);
    }

    /// <summary>What a zip archive is that torch.save did not write, by the names in it; null where they do not tell.</summary>
    public static string? DescribeArchive(IReadOnlyCollection<string> names)
    {
        if (names.Count > 0 && names.All(name => name.EndsWith(".npy", StringComparison.Ordinal)))
        {
            return "this is an archive of NumPy arrays (.npz). In Python: safetensors.numpy.save_file(dict(numpy.load(path)), " +
                "new_path).";
        }

        if (Any("archive_format")
            || names.Any(
                name => name.EndsWith(".json", StringComparison.Ordinal) && name.Contains("models/", StringComparison.Ordinal)))
        {
            return "this is an exported program of torch.export (.pt2). In Python: " +
                "safetensors.torch.save_file(torch.export.load(path).state_dict, new_path).";
        }

        return Any("model.weights.h5")
            ? "this is a Keras archive (.keras). Save its weights in Python with safetensors.numpy.save_file, with names and " +
                "layouts as the network's."
            : null;

        bool Any(string file) => names.Any(name => name == file || name.EndsWith("/" + file, StringComparison.Ordinal));
    }

    private static string? OfText(ReadOnlySpan<byte> start)
    {
        ReadOnlySpan<byte> text = Text(start);
        if (text.Length == 0 || text.IndexOfAnyExceptInRange((byte)' ', (byte)'~') is >= 0 and int other
            && text[other] is not ((byte)'\n' or (byte)'\r' or (byte)'\t'))
        {
            return null;
        }

        string shown = Encoding.ASCII.GetString(text);
        if (StartsWith("<!doctype html") || StartsWith("<html") || StartsWith("<?xml") || StartsWith("<head"))
        {
            return "this is a web page, such as a server sends instead of a file with an error or a log-in. " +
                "Look at it in a browser, and fetch the file again.";
        }

        return $"this is a text, which begins with {Listing.Short(shown)}. A server may have sent a message instead of the " +
            "file: fetch it again.";

        bool StartsWith(string tag) => shown.StartsWith(tag, StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>
    /// The number of tensors, then the first: the length of its name, the name, its type, its rank and its sizes.
    /// </summary>
    private static bool IsModuleSave(ReadOnlySpan<byte> start)
    {
        if (!Number(ref start, out long count) || count == 0 || !Number(ref start, out long length) || length is 0 or > 300
            || start.Length < length + 2)
        {
            return false;
        }

        ReadOnlySpan<byte> name = start[..(int)length];
        if (name.IndexOfAnyExceptInRange((byte)'!', (byte)'~') >= 0) return false;
        start = start[(int)length..];
        return Number(ref start, out long type) && type <= 15 && Number(ref start, out long rank) && rank <= 16;
    }

    /// <summary>Seven bits a byte, the lowest first.</summary>
    private static bool Number(ref ReadOnlySpan<byte> bytes, out long value)
    {
        value = 0;
        for (int i = 0; i < Math.Min(bytes.Length, 5); i++)
        {
            value |= (long)(bytes[i] & 0x7f) << (7 * i);
            if (bytes[i] >= 0x80) continue;
            bytes = bytes[(i + 1)..];
            return true;
        }

        return false;
    }

    /// <summary>The version, then a field that a model has: its producer, version, domain, graph or operators.</summary>
    private static bool IsOnnx(ReadOnlySpan<byte> start) =>
        start.Length > 8 && start[8] != (byte)'{' && start[0] == 0x08 && start[1] is > 0 and < 32
            && start[2] is 0x12 or 0x1a or 0x22 or 0x28 or 0x32 or 0x3a or 0x42;

    private static ReadOnlySpan<byte> Text(ReadOnlySpan<byte> start) =>
        (start.StartsWith("\uFEFF"u8) ? start[3..] : start).TrimStart(" \t\r\n"u8);
}
