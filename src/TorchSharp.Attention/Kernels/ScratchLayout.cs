namespace TorchSharp.Attention;

/// <summary>A buffer within a <see cref="ScratchLayout"/>: where it starts and how long it is, in floats.</summary>
internal readonly record struct Section(long Start, long Length)
{
    /// <summary>The first float after the buffer.</summary>
    public long End => Start + Length;
}

/// <summary>
/// Places buffers of floats one after another in one piece of memory. Sizes are in 64 bits; no buffer shares cache lines with another one.
/// </summary>
/// <param name="guard">Floats that stay unused before and after each buffer, so that a write beyond a buffer can be seen.</param>
internal struct ScratchLayout(long guard)
{
    /// <summary>Floats of two cache lines: the processor fetches neighbouring lines in pairs.</summary>
    public const int Line = 32;

    private readonly long _guard = Lines(guard);

    /// <summary>Floats of all buffers and guards.</summary>
    public long Length { get; private set; } = Lines(guard);

    /// <summary>Places the next buffer of so many floats.</summary>
    public Section Add(long count)
    {
        Section section = new(Length, count);
        Length += Lines(count) + _guard;
        return section;
    }

    /// <summary>Places the next buffer of so many values of double precision.</summary>
    public Section AddDoubles(long count) => Add(2 * count);

    /// <summary>Places all buffers that follow <paramref name="begin"/> so many times more; each copy is as long as they are together.</summary>
    public void Repeat(long begin, long times) => Length += (Length - begin) * times;

    private static long Lines(long count) => (count + Line - 1) / Line * Line;
}
