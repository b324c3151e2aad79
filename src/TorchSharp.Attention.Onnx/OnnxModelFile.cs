using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Model files on disk. Large weights lie in a file beside the model, whose name is new each time, so that
/// an old model never meets new weights.
/// </summary>
internal static class OnnxModelFile
{
    // Smaller tensors stay in the model file: shapes and scalars are wanted while a graph is prepared.
    private const int SmallTensor = 1024;

    // What mapping a file asks of an offset.
    private const int Page = 4096;

    /// <summary>Reads a model; weights in another file are brought in.</summary>
    /// <exception cref="InvalidDataException">The file is no model, or names weights that are not there.</exception>
    public static ModelProto Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ModelProto model;
        try
        {
            using FileStream stream = File.OpenRead(path);
            model = ModelProto.Parser.ParseFrom(stream);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new InvalidDataException($"'{path}' is no ONNX file: {e.Message}", e);
        }

        if (model.Graph is null) throw new InvalidDataException($"'{path}' holds no graph, so it is no ONNX model.");
        foreach (TensorProto tensor in model.Graph.Initializer)
        {
            if (tensor.DataLocation == TensorProto.Types.DataLocation.External) BringIn(tensor, path);
        }

        return model;
    }

    /// <summary>Writes a model: on failure nothing is left, and an old file stays.</summary>
    /// <param name="model">The model, with all weights in it. It is not changed.</param>
    /// <param name="path">The file.</param>
    /// <param name="threshold">Bytes of weights above which they get a file of their own.</param>
    /// <param name="check">Looks at the file under its temporary name, in the same folder; an exception ends the writing.</param>
    /// <returns>The file with the weights; null where there is none.</returns>
    public static string? Save(ModelProto model, string path, long threshold = 1_900_000_000, Action<string>? check = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);

        // Weights lie beside the model itself, not beside a symbolic link to it: a model names them without a folder.
        string full = AtomicFile.TargetOf(path), folder = Path.GetDirectoryName(full)!;
        if (!Directory.Exists(folder))
        {
            throw new DirectoryNotFoundException($"The folder of '{path}' does not exist. Create it first.");
        }

        string? data = null;
        try
        {
            ModelProto written = model;
            if (Weights(model) > threshold)
            {
                data = Path.Combine(folder, $"{DataStem(full)}.{RandomNumberGenerator.GetHexString(8, lowercase: true)}.data");
                written = WriteData(model, data);
            }

            string[] old = [];
            AtomicFile.Write(full, written.WriteTo, temporary =>
            {
                check?.Invoke(temporary);
                old = DataOf(full);
            });
            foreach (string file in old.Where(file => file != data)) AtomicFile.TryDelete(file);
            return data;
        }
        catch
        {
            if (data is not null) AtomicFile.TryDelete(data);
            throw;
        }
    }

    /// <summary>Bytes of the weights that a file of their own would take.</summary>
    public static long Weights(ModelProto model)
        => model.Graph.Initializer.Where(IsLarge).Sum(tensor => (long)tensor.RawData.Length);

    /// <summary>Bytes of a model, its weights in it; a message knows its own size up to 2 GB alone.</summary>
    public static long Size(ModelProto model)
    {
        long weights = Weights(model);
        return weights < 1_000_000_000 ? model.CalculateSize() : weights + Shell(model).CalculateSize();
    }

    /// <summary>Writes large tensors to a file; returns a model that names them.</summary>
    private static ModelProto WriteData(ModelProto model, string path)
    {
        ModelProto shell = Shell(model);
        using FileStream file = new(path, FileMode.CreateNew, FileAccess.Write);
        WriteStream stream = new(file, path);
        byte[] padding = new byte[Page];
        foreach (TensorProto tensor in model.Graph.Initializer)
        {
            if (!IsLarge(tensor))
            {
                shell.Graph.Initializer.Add(tensor);
                continue;
            }

            stream.Write(padding.AsSpan(0, (int)((Page - (stream.Position % Page)) % Page)));
            TensorProto outside =
                new() { Name = tensor.Name, DataType = tensor.DataType, DataLocation = TensorProto.Types.DataLocation.External };
            outside.Dims.AddRange(tensor.Dims);
            outside.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = Path.GetFileName(path) });
            outside.ExternalData.Add(
                new StringStringEntryProto { Key = "offset", Value = stream.Position.ToString(CultureInfo.InvariantCulture) });
            outside.ExternalData.Add(
                new StringStringEntryProto
                {
                    Key = "length",
                    Value = tensor.RawData.Length.ToString(CultureInfo.InvariantCulture),
                });
            shell.Graph.Initializer.Add(outside);
            stream.Write(tensor.RawData.Span);
        }

        stream.FlushToDisk();
        return shell;
    }

    /// <summary>The model without its constants.</summary>
    private static ModelProto Shell(ModelProto model)
    {
        ModelProto shell = new(model) { Graph = new GraphProto { Name = model.Graph.Name } };
        shell.Graph.Node.AddRange(model.Graph.Node);
        shell.Graph.Input.AddRange(model.Graph.Input);
        shell.Graph.Output.AddRange(model.Graph.Output);
        shell.Graph.ValueInfo.AddRange(model.Graph.ValueInfo);
        return shell;
    }

    private static void BringIn(TensorProto tensor, string path)
    {
        string? location = Entry(tensor, "location");
        if (location is null || Path.IsPathRooted(location) || location.Split('/', '\\').Contains(".."))
        {
            throw new InvalidDataException(
                $"'{path}': the weights of '{tensor.Name}' lie in '{location}', which is no file beside the model.");
        }

        string file = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, location);
        if (!File.Exists(file)) file = Path.Combine(Path.GetDirectoryName(AtomicFile.TargetOf(path))!, location);
        if (!File.Exists(file))
        {
            throw new InvalidDataException(
                $"'{path}': the weights of '{tensor.Name}' should lie in '{location}', which does not exist.");
        }

        using FileStream stream = File.OpenRead(file);
        long offset = Number(Entry(tensor, "offset"), 0), length = Number(Entry(tensor, "length"), stream.Length - offset);
        if (offset < 0 || length is < 0 or > int.MaxValue || offset + length > stream.Length)
        {
            throw new InvalidDataException(
                $"'{path}': the weights of '{tensor.Name}' should lie at {offset} + {length} of '{location}', which has " +
                $"{stream.Length} bytes.");
        }

        byte[] values = new byte[length];
        stream.Position = offset;
        stream.ReadExactly(values);
        tensor.RawData = UnsafeByteOperations.UnsafeWrap(values);
        tensor.ExternalData.Clear();
        tensor.ClearDataLocation();

        long Number(string? text, long otherwise) => text is null ? otherwise
            : long.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out long number) ? number
            : throw new InvalidDataException($"'{path}': '{text}' of '{tensor.Name}' is no number.");
    }

    /// <summary>Files with weights that an earlier model of this name left, by the names that this class gives.</summary>
    private static string[] DataOf(string path)
    {
        string folder = Path.GetDirectoryName(path)!, name = DataStem(path);
        return [.. Directory.EnumerateFiles(folder, "*.data").Where(file => IsData(Path.GetFileName(file)))];

        // Whatever else ends so is somebody else's.
        bool IsData(string file) => file.Length == name.Length + 14 && file.StartsWith($"{name}.", StringComparison.Ordinal)
            && file[(name.Length + 1)..^5].All(char.IsAsciiHexDigitLower) && file.EndsWith(".data", StringComparison.Ordinal);
    }

    /// <summary>
    /// How the names of files with a model's weights start: with the model's name. A long one is cut,
    /// and a checksum tells it from others.
    /// </summary>
    private static string DataStem(string path)
    {
        const int longest = 200;
        string name = Path.GetFileName(path), cut = name;
        while (Encoding.UTF8.GetByteCount(cut) > longest) cut = cut[..^1];
        return cut == name ? name : $"{cut}.{Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..8]}";
    }

    private static bool IsLarge(TensorProto tensor) => tensor.RawData.Length >= SmallTensor;

    private static string? Entry(TensorProto tensor, string key)
        => tensor.ExternalData.FirstOrDefault(entry => entry.Key == key)?.Value;
}
