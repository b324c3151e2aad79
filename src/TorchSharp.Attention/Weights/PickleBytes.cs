namespace TorchSharp.Attention;

/// <summary>
/// The bytes of a pickle, out of a file in pieces: a pickle does not say how long it is. Nothing is read or allocated
/// for what the file only claims to hold.
/// </summary>
internal sealed class PickleBytes(ByteSource source, long start, long limit)
{
    private const int PieceBytes = 1 << 16;

    private byte[] _piece = [];
    private long _passed;
    private int _at;

    /// <summary>Position in the file of the next byte.</summary>
    public long Position => start + Place;

    /// <summary>Place in the pickle of the next byte, counted from 0, for messages.</summary>
    public long Place => _passed + _at;

    private long Left => limit - Position;

    /// <summary>The next bytes. They stay valid until the next call.</summary>
    /// <exception cref="PickleException">The pickle has fewer bytes.</exception>
    public ReadOnlySpan<byte> Take(long count)
    {
        Check(count);
        if (count > _piece.Length - _at) Refill(count);
        _at += (int)count;
        return _piece.AsSpan(_at - (int)count, (int)count);
    }

    /// <summary>Passes over bytes without reading them.</summary>
    /// <exception cref="PickleException">The pickle has fewer bytes.</exception>
    public void Skip(long count)
    {
        Check(count);
        if (count <= _piece.Length - _at)
        {
            _at += (int)count;
            return;
        }

        (_passed, _piece, _at) = (Place + count, [], 0);
    }

    /// <summary>The bytes up to the next line feed, which is passed over.</summary>
    /// <exception cref="PickleException">No line feed follows, or only after more bytes than any name has.</exception>
    public ReadOnlySpan<byte> Line()
    {
        int length = _piece.AsSpan(_at).IndexOf((byte)'\n');
        if (length < 0)
        {
            Refill(Math.Min(PieceBytes, Left));
            length = _piece.AsSpan(_at).IndexOf((byte)'\n');
        }

        return length >= 0 ? Take(length + 1)[..^1] : throw new PickleException("a name does not end");
    }

    private void Check(long count)
    {
        if (count < 0 || count > Left) throw new PickleException($"byte {Place} asks for {count} bytes; {Left} are left");
    }

    private void Refill(long count)
    {
        _piece = source.Read(Position, Math.Min(Math.Max(count, PieceBytes), Left));
        (_passed, _at) = (Place, 0);
    }
}
