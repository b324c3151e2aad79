namespace TorchSharp.Attention.Onnx;

/// <summary>The first batches of calibration, kept to state the error of the written file on them.</summary>
internal sealed class CalibrationSample
{
    /// <summary>How many bytes of inputs are kept; the first batch in any case.</summary>
    internal const long MostBytes = 64L << 20;

    private readonly List<OnnxBatch> _batches = [];
    private bool _full;

    /// <summary>What was kept, without labels.</summary>
    public IReadOnlyList<OnnxBatch> Batches => _batches;

    /// <summary>Hands the batches on, one at a time, and keeps the first.</summary>
    public IEnumerable<OnnxBatch> Watch(IEnumerable<OnnxBatch> batches)
    {
        long bytes = 0;
        foreach (OnnxBatch batch in batches)
        {
            yield return batch;
            if (batch is null || _full) continue;
            bytes += batch.Inputs.Sum(input => (long)input.Values.Length * sizeof(float));
            _full = _batches.Count > 0 && bytes > MostBytes;
            if (!_full) _batches.Add(batch.WithoutLabels());
        }
    }
}
