namespace TorchSharp.Attention.Kernels;

/// <summary>
/// How <see cref="InferenceGateKernel"/> cuts a batch: into hands, each with samples and buffers of its own, and the samples of
/// each hand into groups that the caches hold. Every size and every offset of a buffer comes from here, in 64 bits. A plan is
/// made for the threads that are asked for and is right for any smaller number that really runs: hands are dealt to the threads
/// that there are, and a thread beyond <see cref="Team"/> owns nothing.
/// </summary>
internal readonly struct RegionPlan
{
    /// <summary>Phases of a region per group, at most.</summary>
    public const int MostPhases = 16;

    /// <summary>Floats of all buffers beyond which groups become smaller: 64 MB.</summary>
    private const long MostFloats = 16 << 20;

    private readonly RegionSizes _sizes;
    private readonly Section _pooled;
    private readonly Section _first;
    private readonly Section _second;
    private readonly Section _parts;
    private readonly Section _maps;
    private readonly Section _gate;
    private readonly long _handLength;
    private readonly long _partPitch;
    private readonly long _guard;

    private RegionPlan(in RegionSizes sizes, int hands, int team, int capacity, long guard, out ScratchLayout layout)
    {
        _sizes = sizes;
        _guard = guard;
        Hands = hands;
        Team = team;
        Capacity = capacity;
        layout = new(guard);
        long begin = layout.Length;
        _pooled = layout.Add(sizes.Channel ? 2L * capacity * sizes.Channels : 0);
        _first = layout.Add(2L * capacity * Wide);
        _second = layout.Add(2L * capacity * Wide);
        _parts = layout.Add(2L * sizes.Columns, sizes.HasParts ? (long)capacity + team : 0, out _partPitch);
        _maps = layout.Add(sizes.Spatial ? 2L * capacity * sizes.Positions : 0);
        _gate = layout.Add(sizes.Spatial ? (long)capacity * sizes.Positions : 0);
        _handLength = layout.Length - begin;
        layout.Repeat(begin, hands - 1);
    }

    /// <summary>
    /// Parts of the batch whose samples no other part's threads touch; 1 where all threads work on every sample.
    /// </summary>
    public int Hands { get; }

    /// <summary>Threads that may work on one hand.</summary>
    public int Team { get; }

    /// <summary>Samples of the largest group: what the buffers hold.</summary>
    public int Capacity { get; }

    /// <summary>The memory of all hands. Kernels hold the plan itself, which therefore has no reference to it.</summary>
    public ScratchLayout Layout
    {
        get
        {
            _ = new RegionPlan(_sizes, Hands, Team, Capacity, _guard, out ScratchLayout layout);
            return layout;
        }
    }

    public RegionSizes Sizes => _sizes;

    private long Wide => Math.Max(_sizes.Channel ? _sizes.Channels : 0, _sizes.Widest);

    /// <summary>The plan, or false where the buffers of a single sample are too large.</summary>
    /// <param name="sizes">The map and the gate.</param>
    /// <param name="threads">Threads that are asked for.</param>
    /// <param name="apart">Whether each thread computes whole samples by itself.</param>
    /// <param name="samples">Samples that the caches hold between the passes.</param>
    /// <param name="guard">Unused floats around each buffer.</param>
    /// <param name="plan">The plan.</param>
    public static bool TryMake(in RegionSizes sizes, int threads, bool apart, long samples, long guard, out RegionPlan plan)
    {
        plan = default;
        int hands = apart ? threads : 1, team = apart ? 1 : threads;
        long largest = (sizes.Batch + (long)hands - 1) / hands, most = Math.Clamp(samples, 1, Math.Max(1, largest));

        // Layers that are wide beside their map would need more memory than the map: then fewer samples go together.
        _ = new RegionPlan(sizes, hands, team, 1, guard, out ScratchLayout one);
        most = Math.Clamp(MostFloats / Math.Max(1, one.Length), 1, most);
        long groups = Math.Max(1, (largest + most - 1) / most), capacity = Math.Max(1, (largest + groups - 1) / groups);
        plan = new RegionPlan(sizes, hands, team, (int)capacity, guard, out ScratchLayout all);
        return Scratch.Fits(all) && (groups + 1) * MostPhases < int.MaxValue;
    }

    /// <summary>The first sample of a hand and the first after it.</summary>
    public (int From, int To) Samples(int hand) => Narrow(Partition.Of(_sizes.Batch, hand, Hands));

    /// <summary>The first hand that a thread of a team computes and the first after it.</summary>
    public (int From, int To) HandsOf(int thread, int threads) => Narrow(Partition.Of(Hands, thread, Math.Min(threads, Hands)));

    /// <summary>Groups of a hand; none where it has no samples.</summary>
    public int Groups(int hand)
    {
        (int from, int to) = Samples(hand);
        return (int)(((long)to - from + Capacity - 1) / Capacity);
    }

    /// <summary>The first sample of a group and the first after it, counted in the batch.</summary>
    public (int From, int To) Samples(int hand, int group)
    {
        (int from, int to) = Samples(hand);
        (int first, int end) = Narrow(Partition.Of(to - from, group, Groups(hand)));
        return (from + first, from + end);
    }

    /// <summary>Pooled channels of a group: means, then maxima.</summary>
    public Section Pooled(int hand) => Of(_pooled, hand);

    /// <summary>
    /// Results of the steps between pooled channels and their gate, which take turns: those of even steps, and those of odd ones.
    /// </summary>
    public Section Steps(int hand, bool odd) => Of(odd ? _second : _first, hand);

    /// <summary>Sums down columns of the rows that one thread owns of one sample.</summary>
    public Section Parts(int hand) => Of(_parts, hand);

    /// <summary>From one part to the next: no two threads write to one cache line.</summary>
    public long PartPitch => _partPitch;

    /// <summary>Pooled positions of a group: mean and maximum of each sample.</summary>
    public Section Maps(int hand) => Of(_maps, hand);

    /// <summary>The spatial gate of a group. The pooling of the next group leaves it alone.</summary>
    public Section Gate(int hand) => Of(_gate, hand);

    private Section Of(in Section section, int hand) => section with { Start = section.Start + (hand * _handLength) };

    private static (int From, int To) Narrow((long From, long To) range) => ((int)range.From, (int)range.To);
}
