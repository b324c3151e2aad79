using Microsoft.ML.OnnxRuntime;

namespace Samples;

/// <summary>A file in ONNX Runtime, without TorchSharp.</summary>
public sealed class OnnxClassifier : IDisposable
{
    private readonly SessionOptions _options;
    private readonly InferenceSession _session;
    private readonly RunOptions _run = new();

    public OnnxClassifier(string path, int threads)
    {
        _options = new SessionOptions { IntraOpNumThreads = threads, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
        _session = new InferenceSession(path, _options);
    }

    /// <summary>What the exporter wrote into the file, by key.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _session.ModelMetadata.CustomMetadataMap;

    /// <summary>Lengths of the input's axes; -1 where any will do.</summary>
    public IReadOnlyList<int> InputShape => _session.InputMetadata.Single().Value.Dimensions;

    public float[] Run(OrtValue images)
    {
        using var outputs = _session.Run(_run, _session.InputNames, [images], _session.OutputNames);
        return outputs[0].GetTensorDataAsSpan<float>().ToArray();
    }

    public void Dispose()
    {
        _session.Dispose();
        _run.Dispose();
        _options.Dispose();
    }
}
