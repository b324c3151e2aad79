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
