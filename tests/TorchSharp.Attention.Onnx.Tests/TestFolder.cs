namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>A folder that goes with the test.</summary>
internal sealed class TestFolder : IDisposable
{
    private readonly string _path = Directory.CreateTempSubdirectory("onnx-tests-").FullName;

    public string File(string name) => Path.Combine(_path, name);

    public string[] Files() => [.. Directory.EnumerateFiles(_path).Select(file => Path.GetFileName(file)!).Order(StringComparer.Ordinal)];

    public void Dispose() => Directory.Delete(_path, recursive: true);
}
