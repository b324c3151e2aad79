namespace TorchSharp.Attention.Kernels;

/// <summary>
/// Cuts counted items into ranges that follow one another, cover all of them and differ in length by one at most.
/// </summary>
internal static class Partition
{
    /// <summary>The first item of a part and the first item after it. A part number beyond the last part owns nothing.</summary>
    public static (long From, long To) Of(long items, long part, long parts)
        => part >= parts ? (items, items) : (Start(items, part, parts), Start(items, part + 1, parts));

    /// <summary>The part that owns an item. There must be no more parts than items, so that each part has one.</summary>
    public static long Owner(long items, long item, long parts) => (((item + 1) * parts) - 1) / items;

    private static long Start(long items, long part, long parts) => items * part / parts;
}
