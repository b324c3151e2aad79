using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;
using static TorchSharp.torch;
using TensorElementType = Microsoft.ML.OnnxRuntime.Tensors.TensorElementType;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// A file or a model in ONNX Runtime, fed with tensors or with batches. This is the only class that runs models there.
/// </summary>
internal sealed class OnnxSession : IDisposable
{
    private readonly InferenceSession _session;
    private readonly SessionOptions _options;
    private readonly string? _folder;

    /// <summary>Loads a file, to be run on one thread.</summary>
    /// <exception cref="OnnxRuntimeException">ONNX Runtime does not load it.</exception>
    public OnnxSession(string path)
    {
        _options = Options(threads: 1, GraphOptimizationLevel.ORT_ENABLE_ALL);
        try
        {
            _session = new InferenceSession(path, _options);
        }
        catch
        {
            _options.Dispose();
            throw;
        }
    }

    /// <summary>Loads a model.</summary>
    /// <param name="model">The model; not changed.</param>
    /// <param name="threads">Threads inside an operator; 0 leaves the number to the runtime.</param>
    /// <param name="level">What the runtime may do to the graph.</param>
    /// <param name="optimizedPath">Where it writes the graph that it runs; null for nowhere.</param>
    /// <exception cref="InvalidDataException">The runtime does not load it.</exception>
    public OnnxSession(
        ModelProto model, int threads, GraphOptimizationLevel level = GraphOptimizationLevel.ORT_ENABLE_ALL,
        string? optimizedPath = null)
    {
        _options = Options(threads, level);
        if (optimizedPath is not null) _options.OptimizedModelFilePath = optimizedPath;
        try
        {
            if (OnnxModelFile.Weights(model) <= MostInMemory)
            {
                _session = new InferenceSession(model.ToByteArray(), _options);
                return;
            }

            _folder = Directory.CreateTempSubdirectory("torchsharp-attention-").FullName;
            string path = Path.Combine(_folder, "model.onnx");
            OnnxModelFile.Save(model, path, threshold: -1);
            if (optimizedPath is not null)
            {
                _options.AddSessionConfigEntry(
                    "session.optimized_model_external_initializers_file_name", $"{Path.GetFileName(optimizedPath)}.weights");
            }

            _session = new InferenceSession(path, _options);
        }
        catch (Exception e)
        {
            _options.Dispose();
            DeleteFolder();
            if (e is OnnxRuntimeException)
            {
                throw new InvalidDataException($"ONNX Runtime does not load the model: {e.Message}", e);
            }

            throw;
        }
    }

    /// <summary>
    /// Bytes of weights beyond which the runtime gets the model as files: a message holds 2 GB. Tests lower it.
    /// </summary>
    internal static long MostInMemory { get; set; } = 1_900_000_000;

    public IReadOnlyDictionary<string, NodeMetadata> Inputs => _session.InputMetadata;

    public IReadOnlyDictionary<string, NodeMetadata> Outputs => _session.OutputMetadata;

    /// <summary>Runs the model on tensors, float32 on the CPU, and returns all outputs, which belong to the caller.</summary>
    /// <exception cref="OnnxRuntimeException">The inputs do not fit the model.</exception>
    public IReadOnlyDictionary<string, Tensor> Run(IReadOnlyList<(string Name, Tensor Value)> inputs)
    {
        List<OrtValue> values = [];
        try
        {
            foreach ((string _, Tensor value) in inputs)
            {
                using Tensor dense = value.contiguous();
                values.Add(OrtValue.CreateTensorValueFromMemory(dense.data<float>().ToArray(), value.shape));
            }

            Dictionary<string, Tensor> results = [];
            Run(
                [.. inputs.Select(input => input.Name)], values, _session.OutputNames,
                (name, output) => results.Add(name, Read(output)));
            return results;
        }
        finally
        {
            foreach (OrtValue value in values) value.Dispose();
        }
    }

    /// <summary>Runs a batch and looks at each float output; what is handed over is gone afterwards.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="look">Is handed each output.</param>
    /// <param name="argument">The caller's argument that holds the batch, for messages.</param>
    /// <exception cref="ArgumentException">The batch does not fit the model.</exception>
    public void Run(OnnxBatch batch, OutputReader look, string argument = "batch")
    {
        ArgumentNullException.ThrowIfNull(batch, argument);
        List<OrtValue> values = [];
        try
        {
            string[] names = [.. batch.Inputs.Select(input => input.Name.Length > 0 ? input.Name : OnlyInput(argument))];
            for (int i = 0; i < names.Length; i++)
            {
                CheckShape(names[i], batch.Inputs[i].Shape, argument);
                values.Add(OrtValue.CreateTensorValueFromMemory(batch.Inputs[i].Values, batch.Inputs[i].Shape));
            }

            if (Inputs.Keys.Except(names).FirstOrDefault() is { } missing)
            {
                throw new ArgumentException(
                    $"A batch lacks the model's input '{missing}'; give all of {string.Join(", ", Inputs.Keys)} with " +
                    "OnnxBatch.Of.", argument);
            }

            string[] wanted = [
                .. Outputs.Where(output => output.Value.ElementDataType == TensorElementType.Float).Select(output => output.Key)];
            Run(
                names, values, wanted,
                (name, output) => look(name, output.GetTensorDataAsSpan<float>(), output.GetTensorTypeAndShape().Shape));
        }
        catch (OnnxRuntimeException e)
        {
            throw new ArgumentException($"The model does not run on a batch: {e.Message}", argument, e);
        }
        finally
        {
            foreach (OrtValue value in values) value.Dispose();
        }
    }

    public void Dispose()
    {
        _session.Dispose();
        _options.Dispose();
        DeleteFolder();
    }

    private void Run(
        IReadOnlyCollection<string> names, List<OrtValue> values, IReadOnlyList<string> wanted, Action<string, OrtValue> look)
    {
        using RunOptions run = new();
        using IDisposableReadOnlyCollection<OrtValue> results = _session.Run(run, names, values, wanted);
        for (int i = 0; i < wanted.Count; i++) look(wanted[i], results[i]);
    }

    // Nothing but errors is logged: the runtime warns of constants that it removes itself.
    private static SessionOptions Options(int threads, GraphOptimizationLevel level) => new()
    {
        IntraOpNumThreads = threads,
        GraphOptimizationLevel = level,
        LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR,
    };

    private static Tensor Read(OrtValue value)
    {
        OrtTensorTypeAndShapeInfo info = value.GetTensorTypeAndShape();
        return info.ElementDataType switch
        {
            TensorElementType.Int64 => tensor(value.GetTensorDataAsSpan<long>().ToArray(), info.Shape),
            TensorElementType.Bool => tensor(value.GetTensorDataAsSpan<bool>().ToArray(), info.Shape),
            _ => tensor(value.GetTensorDataAsSpan<float>().ToArray(), info.Shape),
        };
    }

    /// <summary>
    /// A folder of the system's for what is temporary; where it cannot be deleted, the system does it some day.
    /// </summary>
    private void DeleteFolder()
    {
        if (_folder is null) return;
        try
        {
            Directory.Delete(_folder, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }
    }

    private string OnlyInput(string argument) => Inputs.Count == 1 ? Inputs.Keys.Single() : throw new ArgumentException(
        $"The model has {Inputs.Count} inputs: {string.Join(", ", Inputs.Keys)}. Give batches with OnnxBatch.Of, which names " +
        "them.", argument);

    private void CheckShape(string name, long[] shape, string argument)
    {
        if (!Inputs.TryGetValue(name, out NodeMetadata? input))
        {
            throw new ArgumentException($"The model has no input '{name}'; it has {string.Join(", ", Inputs.Keys)}.", argument);
        }

        if (input.ElementDataType != TensorElementType.Float)
        {
            throw new ArgumentException(
                $"The model's input '{name}' is {input.ElementDataType}; calibration and measuring know float inputs alone.",
                argument);
        }

        int[] expected = input.Dimensions;
        if (expected.Length != shape.Length || expected.Zip(shape).Any(pair => pair.First > 0 && pair.First != pair.Second))
        {
            string wanted = string.Join(", ", expected.Select((length, i) => length > 0 ? $"{length}" : Symbol(input, i)));
            throw new ArgumentException(
                $"A batch has shape ({string.Join(", ", shape)}); the model's input '{name}' takes ({wanted}).", argument);
        }
    }

    private static string Symbol(NodeMetadata input, int axis)
        => input.SymbolicDimensions.ElementAtOrDefault(axis) is { Length: > 0 } symbol ? symbol : "any";
}
