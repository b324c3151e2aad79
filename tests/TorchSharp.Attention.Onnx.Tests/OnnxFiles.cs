using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>
/// Keeps the files of the tests where the environment variable TORCHSHARP_ATTENTION_ONNX_FILES names a folder, for programs that read ONNX files:
/// tests/interop/check_onnx.py.
/// </summary>
internal static partial class OnnxFiles
{
    private static readonly string? Folder = Environment.GetEnvironmentVariable("TORCHSHARP_ATTENTION_ONNX_FILES") is { Length: > 0 } folder ? folder : null;

    public static void Keep(string file, string name)
    {
        if (Folder is null) return;
        Directory.CreateDirectory(Folder);
        File.Copy(file, Path.Combine(Folder, $"{Unsafe().Replace(name, "-")}.onnx"), overwrite: true);
    }

    [GeneratedRegex("[^A-Za-z0-9]+")]
    private static partial Regex Unsafe();
}
