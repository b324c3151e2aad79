namespace TorchSharp.Attention.Kernels;

/// <summary>
/// What one thread owns of one group of a <see cref="RegionPlan"/>: rows of its samples, ranges of whatever is counted, and where
/// its values stand. Samples are counted within the group; offsets are floats from the start of the region's memory.
/// </summary>
internal readonly struct RegionShare
{
    private readonly RegionPlan _plan;
    private readonly int _hand;
    private readonly int _team;
    private readonly int _owners;
    private readonly long _from;
    private readonly long _to;

    /// <param name="plan">The plan.</param>
    /// <param name="hand">The hand.</param>
    /// <param name="group">The hand's group.</param>
    /// <param name="thread">The thread's number in the team that works on the hand.</param>
    /// <param name="threads">Threads of that team which really run.</param>
    public RegionShare(in RegionPlan plan, int hand, int group, int thread, int threads)
    {
        _plan = plan;
        _hand = hand;
        _team = Math.Min(threads, plan.Team);
        Thread = thread;
        (int first, int end) = plan.Samples(hand, group);
        FirstSample = first;
        Samples = end - first;

        // Each owner has a row at least: between two owners of a sample's rows there is none without.
        long all = (long)Samples * Rows;
        _owners = (int)Math.Min(_team, all);
        (_from, _to) = _owners == 0 ? (0, 0) : Partition.Of(all, thread, _owners);
    }

    /// <summary>The group's first sample in the batch.</summary>
    public int FirstSample { get; }

    /// <summary>Samples of the group.</summary>
    public int Samples { get; }

    public int Thread { get; }

    private int Rows => _plan.Sizes.Rows;

    private int Channels => _plan.Sizes.Channels;

    private int Positions => _plan.Sizes.Positions;

    /// <summary>This thread's part of so many items.</summary>
    public (int From, int To) Of(long items)
    {
        (long from, long to) = Partition.Of(items, Thread, _team);
        return ((int)from, (int)to);
    }

    /// <summary>The first rows that this thread owns, those of one sample.</summary>
    public RowBlock First() => At(_from);

    /// <summary>The rows after a block; empty after the last.</summary>
    public RowBlock After(in RowBlock block) => At(((long)block.Sample * Rows) + block.To);

    /// <summary>The first and the last thread that own rows of a sample.</summary>
    public (int First, int Last) Owners(int sample) => (Owner((long)sample * Rows), Owner(((long)(sample + 1) * Rows) - 1));

    /// <summary>The means of a sample's channels.</summary>
    public long Means(int sample) => _plan.Pooled(_hand).Start + ((long)sample * Channels);

    /// <summary>The maxima of a sample's channels: they follow the means of all samples of the group.</summary>
    public long Maxima(int sample) => Means(Samples + sample);

    /// <summary>The values that a step reads: those that pooling or the step before it wrote.</summary>
    public long Input(int step) => step == 0 ? Means(0) : _plan.Steps(_hand, odd: step % 2 == 0).Start;

    /// <summary>The values that a step writes.</summary>
    public long Output(int step) => Input(step + 1);

    /// <summary>The first results of the rows that a thread owns of a sample; the second ones are a row further on.</summary>
    public long Part(int sample, int thread) => _plan.Parts(_hand).Start + (((long)sample + thread) * _plan.PartPitch);

    /// <summary>From one thread's part of a sample to the next thread's.</summary>
    public long PartPitch => _plan.PartPitch;

    /// <summary>The means of a sample's pooled positions.</summary>
    public long Map(int sample) => _plan.Maps(_hand).Start + (2 * (long)sample * Positions);

    /// <summary>The maxima of a sample's pooled positions: they follow its means.</summary>
    public long MaximaOfMap(int sample) => Map(sample) + Positions;

    /// <summary>A sample's spatial gate.</summary>
    public long Gate(int sample) => _plan.Gate(_hand).Start + ((long)sample * Positions);

    private int Owner(long row) => (int)Partition.Owner((long)Samples * Rows, row, _owners);

    private RowBlock At(long row)
    {
        if (row >= _to) return default;
        int sample = (int)(row / Rows), from = (int)(row % Rows);
        return new RowBlock(sample, from, (int)Math.Min(Rows, from + _to - row));
    }
}
