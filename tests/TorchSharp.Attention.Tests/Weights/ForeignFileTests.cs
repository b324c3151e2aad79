using System.IO.Compression;
using System.Text;

namespace TorchSharp.Attention.Tests;

/// <summary>What is no file of weights is named, and the message says what to do.</summary>
public sealed class ForeignFileTests : IDisposable
{
    private readonly WeightsFolder _folder = new();

    public static TheoryData<string, byte[], string> Files => new()
    {
        { "html", Encoding.UTF8.GetBytes("\uFEFF\n<!DOCTYPE html>\n<html><body>404</body></html>"), "a web page" },
        { "xml", Encoding.UTF8.GetBytes("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"), "a web page" },
        { "text", Encoding.UTF8.GetBytes("Entry not found"), "which begins with 'Entry not found'" },
        { "lfs", Encoding.UTF8.GetBytes("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n"), "git lfs pull" },
        { "gzip", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2], "compressed with gzip" },
        { "zstd", [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0, 0], "zstd" },
        { "xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0, 0, 0], "xz" },
        { "bzip2", [.. "BZh91AY&SY"u8], "bzip2" },
        { "7z", [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c, 0, 4, 0, 0], "7-Zip" },
        { "rar", [.. "Rar!\u001a\u0007\u0001"u8, 0, 0], "RAR" },
        { "h5", [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0], "HDF5" },
        { "npy", [0x93, .. "NUMPY"u8, 1, 0, 0x76, 0, .. "{'descr': '<f4'"u8], "one array of NumPy" },
        { "gguf", [.. "GGUF"u8, 3, 0, 0, 0, 0, 0, 0, 0], "llama.cpp" },
        { "tflite", [0x1c, 0, 0, 0, .. "TFL3"u8, 0x14, 0, 0, 0], "TensorFlow Lite" },
        { "onnx", [8, 8, 0x12, 7, .. "pytorch"u8, 0x1a, 3, .. "2.4"u8, 0x3a, 0x80, 1], "an ONNX model" },
        { "zeros", new byte[5000], "zeros alone" },
        { "empty", [], "empty" },
        { "noise", [0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 0x77, 0x66], "cut off, or no safetensors file" },
    };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Files))]
    public void A_file_is_named(string name, byte[] bytes, string words)
    {
        string path = _folder.Write(name, bytes);
        string message = Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(path)).Message;
        Assert.Contains(words, message, StringComparison.Ordinal);
        Assert.Contains(path, message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_of_module_save_is_named()
    {
        // The number of tensors takes one byte here, and two below.
        using ResNet large = ResNet.ResNet50();
        using Modules.Linear small = nn.Linear(2, 2);
        foreach (nn.Module module in new nn.Module[] { small, large })
        {
            module.save(_folder.PathOf("a.dat"));
            Assert.Contains("TorchSharp's module.save", Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(_folder.PathOf("a.dat"))).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("a.npy b.npy", "archive of NumPy arrays")]
    [InlineData("m/archive_format m/models/model.json m/data/weights/weight_0", "torch.export")]
    [InlineData("config.json metadata.json model.weights.h5", "Keras archive")]
    [InlineData("word/document.xml", "It is no PyTorch archive")]
    public void An_archive_of_another_kind_is_named(string names, string words)
    {
        string path = _folder.PathOf("a.zip");
        using (ZipArchive zip = ZipFile.Open(path, ZipArchiveMode.Create))
        {
            foreach (string name in names.Split(' ')) zip.CreateEntry(name, CompressionLevel.NoCompression).Open().Dispose();
        }

        Assert.Contains(words, Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Safetensors_are_told_from_all_of_them()
    {
        // Lengths whose bytes are those of other formats' beginnings.
        foreach (int length in new[] { 0x8b1f, 0x0808, 0x7b + (0x22 << 8), 0x0701, 0x4247 })
        {
            string header = """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""".PadRight(length);
            using WeightsFile file = WeightsFile.Open(_folder.Write("a", GoldenFile.Join(header, new byte[4])));
            Assert.Single(file.Entries);
        }
    }
}
