using Microsoft.Win32.SafeHandles;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A file read at positions. Not a memory map: when another process shortens a mapped file, touching the lost pages kills this one; and
/// every value is copied into a tensor anyway.
/// </summary>
internal sealed class ByteSource : IDisposable
{
    private const int ChunkBytes = 1 << 28;

    private readonly SafeFileHandle _file;

    public ByteSource(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!BitConverter.IsLittleEndian)
        {
            throw new PlatformNotSupportedException("Files of weights are little-endian; this machine is not.");
        }

        Path = path;
        _file = File.OpenHandle(path);
        Length = RandomAccess.GetLength(_file);
    }

    public string Path { get; }

    public long Length { get; }

    public void Dispose() => _file.Dispose();

    public WeightsFormatException Wrong(string problem, Exception? cause = null) => new($"'{Path}': {problem}", cause);

    /// <summary>Some bytes of the file, which must have them: nothing is allocated for what is only claimed.</summary>
    public byte[] Read(long offset, long count)
    {
        if (offset < 0 || count < 0 || count > Length - offset || count > Array.MaxLength)
        {
            throw Wrong($"{count} bytes at byte {offset} are needed; the file has {Length} bytes. It is cut off or damaged: fetch it again.");
        }

        byte[] bytes = new byte[count];
        Fill(bytes, offset);
        return bytes;
    }

    /// <summary>Fills a contiguous tensor with the bytes from an offset.</summary>
    public void Fill(Tensor tensor, long offset)
    {
        TensorBytes.Visit(tensor, ChunkBytes, bytes =>
        {
            Fill(bytes, offset);
            offset += bytes.Length;
        });
    }

    private void Fill(Span<byte> bytes, long offset)
    {
        while (bytes.Length > 0)
        {
            int read = RandomAccess.Read(_file, bytes, offset);
            if (read == 0) throw Wrong($"the file ends at byte {offset}; it had {Length} bytes when it was opened.");
            bytes = bytes[read..];
            offset += read;
        }
    }
}

/// <summary>The memory of a tensor, in pieces that a span can hold.</summary>
internal static class TensorBytes
{
    public delegate void Visitor(Span<byte> bytes);

    public static void Visit(Tensor tensor, int chunkBytes, Visitor visit)
    {
        long count = tensor.numel(), step = chunkBytes / tensor.element_size();
        using Tensor flat = tensor.view(-1);
        for (long start = 0; start < count; start += step)
        {
            using Tensor piece = flat.narrow(0, start, Math.Min(step, count - start));
            visit(piece.bytes);
        }
    }
}
