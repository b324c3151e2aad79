namespace TorchSharp.Attention.Tests;

/// <summary>OpenMP may grant a smaller team than asked for. A parallel call within another one always gets a single thread.</summary>
public sealed unsafe class NativeTeamTests : IDisposable
{
    private const int Items = 23, Phases = 5;

    private readonly int _threads = get_num_threads();
    private readonly long _bytes = NativeTeam.BytesWorthAThread;

    public void Dispose()
    {
        NativeTeam.BytesWorthAThread = _bytes;
        set_num_threads(_threads);
    }

    [Fact]
    public void Every_item_is_computed_once_by_a_team_that_is_smaller_than_asked_for()
    {
        if (!NativeTeam.IsOpenMp) Assert.Skip("The .NET pool grants every part that it is asked for.");
        NativeTeam.BytesWorthAThread = 1;
        set_num_threads(3);
        Counts counts = default;
        NativeTeam.Run(&Nested, &counts, 3, 1 << 20);
        for (int item = 0; item < Items; item++) Assert.Equal(3, counts.Times[item]);
        for (int phase = 0; phase < Phases; phase++) Assert.Equal(3 * Items, counts.InPhase[phase]);
    }

    /// <summary>libtorch's own depthwise convolutions have wrong weight gradients on such a team (TorchSharp 0.107.0).</summary>
    [Theory]
    [InlineData(1, false, 2, "OMP_THREAD_LIMIT is 1 and torch.get_num_threads() is 2", "Call torch.set_num_threads(1).")]
    [InlineData(3, true, 8, "OMP_THREAD_LIMIT is 3", "Call torch.set_num_threads(3).")]
    [InlineData(int.MaxValue, true, 2, "OMP_DYNAMIC is set", "Unset OMP_DYNAMIC.")]
    public void A_team_that_may_be_smaller_is_told_with_its_remedy(int limit, bool isDynamic, int threads, string cause, string remedy)
    {
        string warning = NativeTeam.Warning(limit, isDynamic, threads)!;
        Assert.StartsWith(cause, warning, StringComparison.Ordinal);
        Assert.EndsWith(remedy, warning, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(int.MaxValue, false, 2)]
    [InlineData(2, false, 2)]
    [InlineData(1, true, 1)]
    public void A_whole_team_is_not_warned_of(int limit, bool isDynamic, int threads) => Assert.Null(NativeTeam.Warning(limit, isDynamic, threads));

    private static void Nested(Counts* counts, int from, int to)
    {
        for (int i = from; i < to; i++)
        {
            NativeTeam.Run(&Count, counts, Items, 1 << 20);
            NativeTeam.RunPhases(&CountPhase, counts, Phases, 3);
        }
    }

    private static void Count(Counts* counts, int from, int to)
    {
        for (int item = from; item < to; item++) Interlocked.Increment(ref counts->Times[item]);
    }

    private static void CountPhase(Counts* counts, int phase, int thread, int threads)
    {
        (long from, long to) = Partition.Of(Items, thread, threads);
        Interlocked.Add(ref counts->InPhase[phase], (int)(to - from));
    }

    private struct Counts
    {
        public fixed int Times[Items];

        public fixed int InPhase[Phases];
    }
}
