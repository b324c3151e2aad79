using TorchSharp.Attention;

namespace Samples;

/// <summary>Writes files whole or not at all: under another name first, then renamed.</summary>
public static class WholeFile
{
    public static void Write(string path, Action<Stream> write) => AtomicFile.Write(path, write);

    public static void WriteText(string path, string text) => AtomicFile.WriteText(path, text);
}
