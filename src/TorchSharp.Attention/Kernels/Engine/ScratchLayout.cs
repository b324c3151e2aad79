namespace TorchSharp.Attention.Kernels;

/// <summary>
/// Places buffers of floats one after another in one piece of memory. Sizes are in 64 bits; no buffer
/// shares cache lines with another one.
/// </summary>
/// <param name="guard">Floats that stay unused before and after each buffer, so that a write beyond a buffer can be seen.</param>
internal struct ScratchLayout(long guard)
{
    /// <summary>Floats of two cache lines: the processor fetches neighbouring lines in pairs.</summary>
    public const int Line = 32;

    private readonly long _guard = Lines(guard);

    private readonly List<Section>? _sections = guard > 0 ? [] : null;

    /// <summary>Floats of all buffers and guards.</summary>
    public long Length { get; private set; } = Lines(guard);

    /// <summary>The buffers, where there are guards between them.</summary>
    public readonly IReadOnlyList<Section>? Sections => _sections;

    /// <summary>Places the next buffer of so many floats.</summary>
    public Section Add(long count)
    {
        Section section = new(Length, count);
        _sections?.Add(section);
        Length += Lines(count) + _guard;
        return section;
    }

    /// <summary>
    /// Places buffers of one length one after another, all that several threads write one each;
    /// <paramref name="pitch"/> is from one to the next.
    /// </summary>
    public Section Add(long count, long times, out long pitch)
    {
        long start = Length;
        pitch = Lines(count) + _guard;
        if (_sections is null) Length += pitch * times;
        else for (long i = 0; i < times; i++) Add(count);
        return new Section(start, times == 0 ? 0 : (pitch * (times - 1)) + count);
    }

    /// <summary>Places the next buffer of so many values of double precision.</summary>
    public Section AddDoubles(long count) => Add(2 * count);

    /// <summary>
    /// Places all buffers that follow <paramref name="begin"/> so many times more; each copy is as long as they are together.
    /// </summary>
    public void Repeat(long begin, long times)
    {
        long length = Length - begin;
        Section[] sections = _sections is null ? [] : [.. _sections];
        for (long i = 1; i <= times && _sections is not null; i++)
        {
            long shift = i * length;
            _sections.AddRange(Array.ConvertAll(sections, section => section with { Start = section.Start + shift }));
        }

        Length += length * times;
    }

    private static long Lines(long count) => (count + Line - 1) / Line * Line;
}
