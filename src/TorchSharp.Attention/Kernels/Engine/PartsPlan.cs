namespace TorchSharp.Attention.Kernels;

/// <summary>
/// How a reduction down the columns of a few large samples cuts each sample into parts of whole rows, and where
/// the results of each part stand. The number of parts follows from the threads that are asked for; whichever
/// threads really run may compute them.
/// </summary>
internal readonly struct PartsPlan
{
    private PartsPlan(int samples, int rows, int columns, int parts, long guard)
    {
        Parts = parts;
        Rows = rows / parts;
        Columns = columns;
        Matrices = samples * parts;
        ScratchLayout layout = new(guard);
        First = layout.Add(columns, Matrices, out long pitch);
        Second = layout.Add(columns, Matrices, out _);
        Pitch = (nint)pitch;
        Layout = layout;
    }

    /// <summary>Parts of each sample.</summary>
    public int Parts { get; }

    /// <summary>Rows of a part.</summary>
    public int Rows { get; }

    public int Columns { get; }

    /// <summary>Parts of all samples.</summary>
    public int Matrices { get; }

    /// <summary>Columns that a kernel takes at once: all of them, in whole vectors.</summary>
    public int Tile => (Columns + 15) / 16 * 16;

    /// <summary>Floats from one part's results to the next one's. Two parts never share cache lines.</summary>
    public nint Pitch { get; }

    /// <summary>The first results of all parts.</summary>
    public Section First { get; }

    /// <summary>The second results of all parts.</summary>
    public Section Second { get; }

    public ScratchLayout Layout { get; }

    /// <summary>The plan; false where whole tiles of columns keep all threads busy, or rows do not divide evenly.</summary>
    public static bool TryMake(int samples, int rows, int columns, int threads, long guard, out PartsPlan plan)
    {
        plan = default;
        if (samples >= threads || rows % threads != 0) return false;
        plan = new PartsPlan(samples, rows, columns, threads, guard);
        return Scratch.Fits(plan.Layout);
    }

    /// <summary>Where the results of a part stand, counted from the first or the second results of all.</summary>
    public long Of(int sample, int part) => (((long)sample * Parts) + part) * Pitch;
}
