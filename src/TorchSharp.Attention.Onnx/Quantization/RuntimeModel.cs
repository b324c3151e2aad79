using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>Looks at one output of a run.</summary>
internal delegate void OutputReader(string name, ReadOnlySpan<float> values, long[] shape);

/// <summary>A model in ONNX Runtime, fed with batches.</summary>
internal sealed class RuntimeModel : IDisposable
{
    private readonly InferenceSession _session;
    private readonly SessionOptions _options;
    private readonly string? _folder;

    /// <summary>Bytes of weights beyond which the runtime gets the model as files: a message holds 2 GB. Tests lower it.</summary>
    internal static long MostInMemory { get; set; } = 1_900_000_000;

    /// <summary>Loads a model.</summary>
    /// <param name="model">The model; not changed.</param>
    /// <param name="threads">Threads inside an operator; 0 leaves the number to the runtime.</param>
    /// <param name="level">What the runtime may do to the graph.</param>
    /// <param name="optimizedPath">Where it writes the graph that it runs; null for nowhere.</param>
    /// <exception cref="InvalidDataException">The runtime does not load it.</exception>
    public RuntimeModel(ModelProto model, int threads, GraphOptimizationLevel level = GraphOptimizationLevel.ORT_ENABLE_ALL, string? optimizedPath = null)
    {
        // Nothing but errors: the runtime warns of constants that it removes itself.
        _options = new SessionOptions { IntraOpNumThreads = threads, GraphOptimizationLevel = level, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
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
            if (optimizedPath is not null) _options.AddSessionConfigEntry("session.optimized_model_external_initializers_file_name", $"{Path.GetFileName(optimizedPath)}.weights");
            _session = new InferenceSession(path, _options);
        }
        catch (Exception e)
        {
            _options.Dispose();
            DeleteFolder();
            if (e is OnnxRuntimeException) throw new InvalidDataException($"ONNX Runtime does not load the model: {e.Message}", e);
            throw;
        }
    }

    public IReadOnlyDictionary<string, NodeMetadata> Inputs => _session.InputMetadata;

    public IReadOnlyDictionary<string, NodeMetadata> Outputs => _session.OutputMetadata;

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
                throw new ArgumentException($"A batch lacks the model's input '{missing}'; give all of {string.Join(", ", Inputs.Keys)} with OnnxBatch.Of.", argument);
            }

            string[] wanted = [.. Outputs.Where(output => output.Value.ElementDataType == TensorElementType.Float).Select(output => output.Key)];
            using RunOptions run = new();
            using IDisposableReadOnlyCollection<OrtValue> results = _session.Run(run, names, values, wanted);
            for (int i = 0; i < wanted.Length; i++)
            {
                look(wanted[i], results[i].GetTensorDataAsSpan<float>(), results[i].GetTensorTypeAndShape().Shape);
            }
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

    /// <summary>A folder of the system's for what is temporary; where it cannot be deleted, the system does it some day.</summary>
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
        $"The model has {Inputs.Count} inputs: {string.Join(", ", Inputs.Keys)}. Give batches with OnnxBatch.Of, which names them.", argument);

    private void CheckShape(string name, long[] shape, string argument)
    {
        if (!Inputs.TryGetValue(name, out NodeMetadata? input))
        {
            throw new ArgumentException($"The model has no input '{name}'; it has {string.Join(", ", Inputs.Keys)}.", argument);
        }

        if (input.ElementDataType != TensorElementType.Float)
        {
            throw new ArgumentException($"The model's input '{name}' is {input.ElementDataType}; calibration and measuring know float inputs alone.", argument);
        }

        int[] expected = input.Dimensions;
        if (expected.Length != shape.Length || expected.Zip(shape).Any(pair => pair.First > 0 && pair.First != pair.Second))
        {
            string wanted = string.Join(", ", expected.Select((length, i) => length > 0 ? $"{length}" : input.SymbolicDimensions.ElementAtOrDefault(i) is { Length: > 0 } symbol ? symbol : "any"));
            throw new ArgumentException($"A batch has shape ({string.Join(", ", shape)}); the model's input '{name}' takes ({wanted}).", argument);
        }
    }
}
