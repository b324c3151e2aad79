namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What the exports of a run measured.</summary>
public sealed class ExportTable : IDisposable
{
    private readonly List<(ExportCase Case, OnnxExportReport Open, OnnxExportReport Plain)> _exports = [];

    internal void Add(ExportCase one, OnnxExportReport open, OnnxExportReport plain) => _exports.Add((one, open, plain));

    public void Dispose()
    {
    }
}
