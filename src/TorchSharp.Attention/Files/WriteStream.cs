namespace TorchSharp.Attention;

/// <summary>
/// Writes on to a file's stream. A file that grows larger than its file system allows is an <see cref="IOException"/>, where .NET
/// throws an <see cref="ArgumentOutOfRangeException"/>.
/// </summary>
/// <param name="inner">The file's stream; its owner disposes it.</param>
/// <param name="path">The file's name in messages.</param>
internal sealed class WriteStream(Stream inner, string path) : Stream
{
    private long _position;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => _position;

    public override long Position
    {
        get => _position;
        set => throw new NotSupportedException("A file is written from its start to its end.");
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            inner.Write(buffer);
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw TooLarge(e);
        }

        _position += buffer.Length;
    }

    public override void Flush() => Flush(inner.Flush);

    /// <summary>Brings everything to disk.</summary>
    public void FlushToDisk() => Flush(inner is FileStream file ? () => file.Flush(flushToDisk: true) : inner.Flush);

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    private void Flush(Action flush)
    {
        try
        {
            flush();
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw TooLarge(e);
        }
    }

    private IOException TooLarge(Exception cause) => new(
        $"'{path}' cannot be written: at {_position} bytes it is larger than its file system, or this user's limit, allows. " +
        "Write it elsewhere, or in several files.", cause);
}
