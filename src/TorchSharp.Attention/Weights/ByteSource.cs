using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A file's bytes at positions: read with system calls, or out of a memory map where the caller asks for one. Both copy into what
/// the caller gives, so that nothing outlives the file.
/// </summary>
internal sealed class ByteSource : IDisposable
{
    private const int ChunkBytes = 1 << 28;

    private readonly SafeFileHandle _file;
    private readonly MemoryMappedFile? _map;
    private readonly MemoryMappedViewAccessor? _view;

    public ByteSource(string path, bool memoryMap = false)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!BitConverter.IsLittleEndian)
        {
            throw new PlatformNotSupportedException("Files of weights are little-endian; this machine is not.");
        }

        Path = path;
        _file = File.OpenHandle(path);
        try
        {
            Length = RandomAccess.GetLength(_file);

            // Nothing cannot be mapped.
            if (!memoryMap || Length == 0) return;
            _map = MemoryMappedFile.CreateFromFile(
                _file, mapName: null, Length, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
            _view = _map.CreateViewAccessor(0, Length, MemoryMappedFileAccess.Read);
        }
        catch (Exception e)
        {
            Dispose();
            if (e is NotSupportedException)
            {
                throw new IOException(
                    $"'{path}' is a pipe or a device; weights are read at positions, which only files have.", e);
            }

            if (e is ArgumentException) throw Wrong("the file became shorter while it was opened.", e);
            throw;
        }
    }

    public string Path { get; }

    public long Length { get; }

    public bool IsMapped => _view is not null;

    public void Dispose()
    {
        _view?.Dispose();
        _map?.Dispose();
        _file.Dispose();
    }

    public WeightsFormatException Wrong(string problem, Exception? cause = null) => new($"'{Path}': {problem}", cause);

    /// <summary>Some bytes of the file, which must have them: nothing is allocated for what is only claimed.</summary>
    public byte[] Read(long offset, long count)
    {
        if (offset < 0 || count < 0 || count > Length - offset || count > Array.MaxLength)
        {
            throw Wrong(
                $"{count} bytes at byte {offset} are needed; the file has {Length} bytes. It is cut off or damaged: " +
                "fetch it again.");
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
        if (_view is not null)
        {
            // The handle counts its readers: closing the file meanwhile unmaps it after this.
            _view.SafeMemoryMappedViewHandle.ReadSpan((ulong)(_view.PointerOffset + offset), bytes);
            return;
        }

        while (bytes.Length > 0)
        {
            int read = RandomAccess.Read(_file, bytes, offset);
            if (read == 0) throw Wrong($"the file ends at byte {offset}; it had {Length} bytes when it was opened.");
            bytes = bytes[read..];
            offset += read;
        }
    }
}
