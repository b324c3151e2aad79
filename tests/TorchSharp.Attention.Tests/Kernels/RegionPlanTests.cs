namespace TorchSharp.Attention.Tests;

/// <summary>The laws of what cuts work into parts and memory into buffers, apart from any arithmetic: nothing overlaps, nothing is missing, nothing lies outside.</summary>
public sealed class RegionPlanTests
{
    private const int MostThreads = 17;

    [Fact]
    public void A_partition_covers_every_item_once_and_knows_who_owns_it()
    {
        for (int items = 0; items <= 130; items++)
        {
            for (int parts = 1; parts <= 20; parts++)
            {
                long next = 0;
                for (int part = 0; part < parts + 2; part++)
                {
                    (long from, long to) = Partition.Of(items, part, parts);
                    Require(from == next && to >= from && to - from <= (items + parts - 1) / parts, "Parts overlap or are uneven.");
                    Require(part < parts || from == to, "A part that is not there owns something.");
                    for (long item = from; item < to && parts <= items; item++) Require(Partition.Owner(items, item, parts) == part, "An item does not know its part.");
                    next = to;
                }

                Assert.Equal(items, next);
            }
        }

        Assert.Equal((long.MaxValue / 128 / 3, long.MaxValue / 128 * 2 / 3), Partition.Of(long.MaxValue / 128, 1, 3));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Every_row_of_every_batch_has_one_owner_whatever_team_runs(bool apart, bool pixels)
    {
        foreach ((int channels, int positions, long cached) in ((int, int, long)[])[(1, 2, 1), (3, 2, 2), (2, 5, 7), (3, 4, long.MaxValue)])
        {
            for (int batch = 0; batch <= 130; batch++)
            {
                for (int asked = 1; asked <= MostThreads; asked++)
                {
                    RegionSizes sizes = new() { Batch = batch, Channels = channels, Positions = positions, IsChannelsLast = pixels, Widest = 4, Channel = true, Spatial = true };
                    Assert.True(RegionPlan.TryMake(sizes, asked, apart, cached, guard: 0, out RegionPlan plan));

                    // Fewer threads than asked for, and more: the laws leave no choice to whoever counts them.
                    for (int given = 1; given <= asked; given += batch < 35 || given < 3 || given == asked - 1 ? 1 : 5) CheckCover(plan, apart, given);
                    CheckCover(plan, apart, asked + 2);
                }
            }
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(64)]
    public void Buffers_of_a_plan_hold_what_threads_put_there_and_never_overlap(long guard)
    {
        foreach (bool apart in (bool[])[false, true])
        {
            for (int kind = 1; kind < 8; kind++)
            {
                foreach ((int channels, int positions, int widest, long cached) in ((int, int, int, long)[])[(3, 4, 5, 1), (5, 3, 0, 2), (2, 6, 9, 3), (40, 1, 2, long.MaxValue)])
                {
                    for (int batch = 1; batch <= 40; batch += batch < 23 ? 1 : 4)
                    {
                        for (int asked = 1; asked <= MostThreads; asked += asked < 5 ? 1 : 4)
                        {
                            bool channel = (kind & 1) != 0, spatial = (kind & 2) != 0;
                            if (!channel && !spatial) continue;
                            RegionSizes sizes = new() { Batch = batch, Channels = channels, Positions = positions, IsChannelsLast = (kind & 4) != 0, Widest = channel ? widest : 0, Channel = channel, Spatial = spatial };
                            Assert.True(RegionPlan.TryMake(sizes, asked, apart, cached, guard, out RegionPlan plan));
                            CheckBuffers(plan, guard);
                            CheckValues(plan, apart ? 1 : asked);
                            CheckValues(plan, apart ? 1 : Math.Max(1, asked / 2));
                        }
                    }
                }
            }
        }
    }

    [Fact]
    public void Groups_are_as_even_as_their_number_allows_and_follow_the_caches()
    {
        RegionSizes sizes = new() { Batch = 11, Channels = 128, Positions = 784, Widest = 128, Channel = true, Spatial = true };
        Assert.True(RegionPlan.TryMake(sizes, 2, apart: true, samples: 5, guard: 0, out RegionPlan plan));

        // The hand of six samples makes two groups of three; so does the hand of five, whose groups the buffers must hold as well.
        Assert.Equal((2, 3), (plan.Hands, plan.Capacity));
        Assert.Equal([(0, 2), (2, 5), (5, 8), (8, 11)], ((int, int)[])[plan.Samples(0, 0), plan.Samples(0, 1), plan.Samples(1, 0), plan.Samples(1, 1)]);
    }

    /// <summary>Groups of one size would be the fewest; a size rounded down would make one group more, and one pass over the layers' weights more.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Groups_are_no_more_than_the_caches_ask_for(bool apart)
    {
        for (int batch = 1; batch <= 130; batch++)
        {
            for (int asked = 1; asked <= 4; asked++)
            {
                for (int cached = 1; cached <= 9; cached++)
                {
                    RegionSizes sizes = new() { Batch = batch, Channels = 3, Positions = 2, Widest = 4, Channel = true, Spatial = true };
                    Assert.True(RegionPlan.TryMake(sizes, asked, apart, cached, guard: 0, out RegionPlan plan));
                    int largest = Enumerable.Range(0, plan.Hands).Max(hand => plan.Samples(hand).To - plan.Samples(hand).From);
                    Assert.Equal((largest + cached - 1) / cached, Enumerable.Range(0, plan.Hands).Max(plan.Groups));
                }
            }
        }
    }

    [Fact]
    public void Layers_wide_beside_their_map_make_smaller_groups_instead_of_sizes_that_overflow()
    {
        RegionSizes sizes = new() { Batch = 600_000, Channels = 1, Positions = 1, Widest = 2048, Channel = true };
        foreach (bool apart in (bool[])[false, true])
        {
            Assert.True(RegionPlan.TryMake(sizes, 2, apart, samples: 1 << 20, guard: 0, out RegionPlan plan));
            Assert.InRange(plan.Capacity, 1000, 5000);
            Assert.InRange(plan.Layout.Length, 1, 20 << 20);
        }

        RegionSizes whole = new() { Batch = 1, Channels = 1 << 28, Positions = 1, Widest = 1 << 28, Channel = true };
        Assert.False(RegionPlan.TryMake(whole, 2, apart: false, samples: 1, guard: 0, out _));
    }

    /// <summary>2 · 2^30 is no int: a buffer of that length must not count as a short or a negative one.</summary>
    [Theory]
    [InlineData(1 << 30)]
    [InlineData(int.MaxValue)]
    public void A_layer_whose_buffer_is_longer_than_32_bits_does_not_fit(int widest)
    {
        RegionSizes sizes = new() { Batch = 3, Channels = 1, Positions = 1, Widest = widest, Channel = true };
        foreach (bool apart in (bool[])[false, true]) Assert.False(RegionPlan.TryMake(sizes, 2, apart, samples: 1, guard: 0, out _));
    }

    [Fact]
    public void Parts_of_samples_cover_every_row_and_keep_results_apart()
    {
        for (int samples = 1; samples < 9; samples++)
        {
            for (int rows = 1; rows <= 36; rows++)
            {
                for (int threads = 1; threads <= 12; threads++)
                {
                    if (!PartsPlan.TryMake(samples, rows, 5, threads, guard: 0, out PartsPlan plan))
                    {
                        Assert.True(samples >= threads || rows % threads != 0);
                        continue;
                    }

                    Assert.Equal((long)samples * rows, (long)plan.Matrices * plan.Rows);
                    HashSet<long> places = [];
                    for (int sample = 0; sample < samples; sample++)
                    {
                        for (int part = 0; part < plan.Parts; part++)
                        {
                            long place = plan.Of(sample, part);
                            Assert.True(places.Add(place));
                            Assert.Equal(place, ((long)sample * plan.Parts * plan.Pitch) + (part * plan.Pitch));
                            Assert.InRange(place + plan.Columns, 0, plan.First.Length);
                        }
                    }

                    Assert.True(plan.First.End <= plan.Second.Start && plan.Second.End <= plan.Layout.Length);
                }
            }
        }

        Assert.False(PartsPlan.TryMake(3, 1024, 1 << 22, 256, guard: 0, out _));
    }

    /// <summary>Every row of every sample is owned once, groups fit the buffers, and counted items are covered.</summary>
    private static void CheckCover(in RegionPlan plan, bool apart, int given)
    {
        int rows = plan.Sizes.Rows, batch = plan.Sizes.Batch, hands = 0, samples = 0;
        Span<int> owned = stackalloc int[batch * rows];
        owned.Clear();
        for (int thread = 0; thread < (apart ? given : 1); thread++)
        {
            (int from, int to) = plan.HandsOf(thread, apart ? given : 1);
            Require(from == to || from == hands, "Hands overlap or are left out.");
            hands += to - from;
            for (int hand = from; hand < to; hand++)
            {
                (int begin, int end) = plan.Samples(hand);
                Require(begin == samples, "Hands' samples overlap or are left out.");
                for (int group = 0; group < plan.Groups(hand); group++)
                {
                    (int first, int last) = plan.Samples(hand, group);
                    Require(first == samples && last > first, "Groups overlap, are empty or are left out.");
                    Require(last - first <= plan.Capacity, "A group is larger than the buffers.");
                    CheckShares(plan, hand, group, apart ? 1 : given, owned);
                    samples = last;
                }

                Require(samples == end, "Groups do not end with their hand.");
            }
        }

        Require(hands == plan.Hands && samples == batch, "Something is left out.");
        foreach (int times in owned) Require(times == 1, "A row is owned twice or by nobody.");
    }

    private static void CheckShares(in RegionPlan plan, int hand, int group, int team, Span<int> owned)
    {
        int rows = plan.Sizes.Rows, counted = 0;
        for (int thread = 0; thread < team; thread++)
        {
            RegionShare share = new(plan, hand, group, thread, team);
            for (RowBlock block = share.First(); !block.IsEmpty; block = share.After(block))
            {
                for (int row = block.From; row < block.To; row++) owned[((share.FirstSample + block.Sample) * rows) + row]++;
                (int first, int last) = share.Owners(block.Sample);
                Require(first <= thread && thread <= last, "A sample does not know who owns it.");
            }

            (int from, int to) = share.Of(23);
            Require(from == counted || from == to, "Counted items overlap or are left out.");
            counted = Math.Max(counted, to);
        }

        Require(counted == 23, "Counted items are left out.");
    }

    private static void Require(bool condition, string otherwise)
    {
        if (!condition) Assert.Fail(otherwise);
    }

    private static void CheckBuffers(in RegionPlan plan, long guard)
    {
        List<Section> sections = [];
        for (int hand = 0; hand < plan.Hands; hand++)
        {
            sections.AddRange([plan.Pooled(hand), plan.Steps(hand, odd: false), plan.Steps(hand, odd: true), plan.Parts(hand), plan.Maps(hand), plan.Gate(hand)]);
        }

        long end = 0;
        foreach (Section section in sections.Where(section => section.Length > 0))
        {
            Require(section.Start >= end + guard, "Buffers overlap.");
            Require(section.Start % ScratchLayout.Line == 0, "Buffers share a cache line.");
            end = section.End;
        }

        Require(plan.Layout.Length >= end + guard, "A buffer ends outside.");
    }

    /// <summary>Every value has a place of its own, within the buffer that is meant.</summary>
    private static void CheckValues(in RegionPlan plan, int team)
    {
        RegionSizes sizes = plan.Sizes;
        for (int hand = 0; hand < plan.Hands; hand++)
        {
            for (int group = 0; group < plan.Groups(hand); group++)
            {
                HashSet<long> taken = [];
                for (int thread = 0; thread < team; thread++)
                {
                    RegionShare share = new(plan, hand, group, thread, team);
                    for (RowBlock block = share.First(); sizes.HasParts && !block.IsEmpty; block = share.After(block))
                    {
                        Take(share.Part(block.Sample, thread), 2 * sizes.Columns, plan.Parts(hand));
                    }

                    if (thread > 0) continue;
                    for (int sample = 0; sample < share.Samples; sample++)
                    {
                        if (sizes.Channel) Take(share.Means(sample), sizes.Channels, plan.Pooled(hand));
                        if (sizes.Channel) Take(share.Maxima(sample), sizes.Channels, plan.Pooled(hand));
                        if (sizes.Spatial) Take(share.Map(sample), sizes.Positions, plan.Maps(hand));
                        if (sizes.Spatial) Take(share.MaximaOfMap(sample), sizes.Positions, plan.Maps(hand));
                        if (sizes.Spatial) Take(share.Gate(sample), sizes.Positions, plan.Gate(hand));
                    }

                    int wide = 2 * share.Samples * Math.Max(sizes.Channel ? sizes.Channels : 0, sizes.Widest);
                    Take(share.Output(0), wide, plan.Steps(hand, odd: false));
                    Take(share.Output(1), wide, plan.Steps(hand, odd: true));
                    Require(share.Input(1) == share.Output(0) && share.Input(2) == share.Output(1) && share.Output(2) == share.Output(0), "Steps do not take turns.");
                    Require(share.Input(0) == share.Means(0), "The first step does not read what was pooled.");
                }

                void Take(long start, int count, Section section)
                {
                    Require(start >= section.Start && start + count <= section.End, "A value stands outside its buffer.");
                    for (long i = start; i < start + count; i++) Require(taken.Add(i), "Two values share a place.");
                }
            }
        }
    }
}
