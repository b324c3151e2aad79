namespace TorchSharp.Attention.TestSupport;

/// <summary>A temporary folder, deleted with its files when the test ends.</summary>
public class TestFolder : IDisposable
{
    public string Root { get; } = Directory.CreateTempSubdirectory("attention-tests-").FullName;

    public string PathOf(string name) => Path.Combine(Root, name);

    /// <summary>Writes a file, in folders that are made as needed, and returns its path.</summary>
    public string Write(string name, byte[] bytes)
    {
        string path = PathOf(name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    /// <summary>The names of the files, in order.</summary>
    public string[] Files() => [.. Directory.EnumerateFiles(Root).Select(file => Path.GetFileName(file)!).Order(StringComparer.Ordinal)];

    public void Dispose()
    {
        Directory.Delete(Root, recursive: true);
        GC.SuppressFinalize(this);
    }
}
