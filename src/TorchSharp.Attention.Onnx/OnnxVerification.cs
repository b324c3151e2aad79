using Microsoft.ML.OnnxRuntime;
using static TorchSharp.torch;
using TensorElementType = Microsoft.ML.OnnxRuntime.Tensors.TensorElementType;

namespace TorchSharp.Attention.Onnx;

/// <summary>Runs files in ONNX Runtime, on one thread.</summary>
internal sealed class OnnxSession : IDisposable
{
    private readonly SessionOptions _options;
    private readonly InferenceSession _session;

    public OnnxSession(string path)
    {
        _options = new SessionOptions { IntraOpNumThreads = 1, InterOpNumThreads = 1, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
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

    /// <summary>Runs the file; tensors are float32 on the CPU. The outputs belong to the caller.</summary>
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

            using RunOptions options = new();
            using IDisposableReadOnlyCollection<OrtValue> outputs = _session.Run(options, [.. inputs.Select(input => input.Name)], values, _session.OutputNames);
            Dictionary<string, Tensor> results = [];
            for (int i = 0; i < outputs.Count; i++)
            {
                results.Add(_session.OutputNames[i], Read(outputs[i]));
            }

            return results;
        }
        finally
        {
            foreach (OrtValue value in values) value.Dispose();
        }
    }

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

    public void Dispose()
    {
        _session.Dispose();
        _options.Dispose();
    }
}
