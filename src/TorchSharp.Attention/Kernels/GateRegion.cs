using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>y = x · s: a spatial gate alone.</summary>
internal readonly unsafe struct ApplyPosition : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector At<TVector, TStorage, TLayout>(MapArguments* a, nint element, nint row, nint start, nint column)
        where TVector : unmanaged, ISimd<TVector>
        where TStorage : struct, IStorage
        where TLayout : struct, IMapLayout
        => TStorage.Load<TVector>(a->X, element) * TLayout.Position<TVector>(a->PositionGate, row, start, column);
}

/// <summary>What happens between two barriers.</summary>
internal enum GatePhase : byte
{
    MergeChannels,
    Step,
    PoolPositions,
    MergePositions,
    Convolve,
    Apply,
}

/// <summary>
/// A whole gate in inference as one parallel call: pool, compute the gate, apply. Every thread keeps the same rows of the map through all passes,
/// so that a later pass finds them in that core's cache; sums down columns are added up from the threads' parts. A batch that no cache
/// holds is taken a few samples at a time.
/// </summary>
internal unsafe struct GateRegion
{
    private const int MostPhases = 16;

    /// <summary>Weights that a core's cache holds beside its samples.</summary>
    private const long MostWeightsApart = 128 * 1024;

    private MapArguments _map;
    private delegate*<MapArguments*, int, int, void> _poolChannels;
    private delegate*<MapArguments*, int, int, void> _poolPositions;
    private delegate*<MapArguments*, int, int, void> _write;
    private GateStep* _steps;
    private PositionConvolution.Arguments _convolution;
    private float* _pooled;
    private float* _first;
    private float* _second;
    private float* _parts;
    private float* _positions;
    private int _batch;
    private int _groups;
    private int _groupSize;
    private long _scratch;
    private int _stepCount;
    private int _phaseCount;
    private int _bytesOfValue;
    private bool _pixels;
    private bool _reads;
    private bool _bounded;
    private ElementFunction _positionFunction;
    private float* _positionAlpha;
    private fixed byte _phases[MostPhases];
    private fixed byte _stepOf[MostPhases];

    /// <summary>A group of samples that the caches may hold between the passes, in bytes. Tests set it to 1.</summary>
    internal static long GroupBytes { get; set; } = 4 << 20;

    /// <summary>The refined map, or null where the gate or the map needs another way.</summary>
    public static Tensor? TryRun(GateParts parts, in MapView view, Tensor input, bool overwrite, Tensor? residual)
    {
        ChannelReads reads = parts.Channel?.Reads ?? ChannelReads.Nothing;
        if (view.Half || (reads & ~(ChannelReads.Mean | ChannelReads.Maximum)) != 0) return null;
        if ((long)view.Channels * view.Positions > int.MaxValue / (16 + (4 * get_num_threads()))) return null;
        GateProgram program = GateProgram.Begin(view.Batch, (int)input.size(2), (int)input.size(3));
        parts.Channel?.Outline(program);
        parts.Spatial?.Outline(program);
        program.Blend(parts.Channel?.StartScale, parts.Spatial?.StartScale);
        if (!program.Fits) return null;

        Tensor? output = null;
        void* values = overwrite ? view.Values : view.Like(input, out output).Values;
        GateRegion region = default;
        region._map = view.Arguments();
        region._map.Y = values;
        region._map.Residual = residual is null ? null : MapView.Pointer(residual);
        region._pixels = view.Pixels;
        region._bytesOfValue = view.Half ? 2 : 4;
        region._batch = view.Batch;
        region.Run(program, view, reads, parts.Spatial is not null);
        GC.KeepAlive(parts.Channel);
        GC.KeepAlive(parts.Spatial);
        GC.KeepAlive(input);
        GC.KeepAlive(residual);
        return output ?? input;
    }

    private void Run(GateProgram program, in MapView view, ChannelReads reads, bool spatial)
    {
        if (Vector512.IsHardwareAccelerated) Run<Simd512>(program, view, reads, spatial);
        else if (Vector256.IsHardwareAccelerated) Run<Simd256>(program, view, reads, spatial);
        else Run<Simd128>(program, view, reads, spatial);
    }

    private void Run<TVector>(GateProgram program, in MapView view, ChannelReads reads, bool spatial)
        where TVector : unmanaged, ISimd<TVector>
    {
        bool channel = reads != ChannelReads.Nothing;
        _reads = channel;
        _bounded = reads.HasFlag(ChannelReads.Maximum);
        if (_bounded) _poolChannels = MapKernels.Reducer<TVector, Pooling>(view, alongRows: !view.Pixels);
        else if (channel) _poolChannels = MapKernels.Reducer<TVector, Summing>(view, alongRows: !view.Pixels);
        if (spatial && channel) _poolPositions = MapKernels.Reducer<TVector, GatedPooling>(view, alongRows: view.Pixels);
        else if (spatial) _poolPositions = MapKernels.Reducer<TVector, Pooling>(view, alongRows: view.Pixels);
        _write = (_map.Residual is not null, channel, spatial) switch
        {
            (false, true, true) => MapKernels.Writer<TVector, ApplyBoth>(view),
            (false, true, _) => MapKernels.Writer<TVector, ApplyChannel>(view),
            (false, _, _) => MapKernels.Writer<TVector, ApplyPosition>(view),
            (_, true, true) => MapKernels.Writer<TVector, AddRectified<ApplyBoth>>(view),
            (_, true, _) => MapKernels.Writer<TVector, AddRectified<ApplyChannel>>(view),
            _ => MapKernels.Writer<TVector, AddRectified<ApplyPosition>>(view),
        };
        ReadOnlySpan<GateStep> steps = program.Steps;
        Order(steps.Length, channel, spatial);

        long passes = (channel ? 1 : 0) + (spatial ? 1 : 0) + 1 + (_map.Residual is null ? 0 : 1);
        int threads = NativeTeam.ThreadsFor((long)_batch * _map.Rows, view.Bytes * passes);

        // Whole samples a thread need no barriers; but then every thread reads all of the layers' weights.
        bool apart = threads > 1 && _batch >= threads && (_batch % threads == 0 || _batch >= 4 * threads) && program.Weights <= MostWeightsApart;
        int hands = apart ? threads : 1, batch = (_batch + hands - 1) / hands;

        // Groups of equal size, each at least as large as the layers' weights, which every group reads again.
        long sample = Math.Max(1, view.Bytes / _batch);
        long group = Math.Clamp(Math.Max(GroupBytes / hands, sizeof(float) * program.Weights) / sample, 1, batch);
        _groupSize = (int)group;
        _groups = (int)((batch + group - 1) / group);
        int most = (batch + _groups - 1) / _groups;

        int channels = view.Channels, positions = view.Positions, widest = 0;
        foreach (GateStep step in steps) widest = Math.Max(widest, step.Outputs);
        long pooled = channel ? 2L * most * channels : 0, hidden = 2L * most * Math.Max(channels, widest);
        long parts = 2L * (most + (apart ? 1 : threads)) * Math.Max(view.Pixels ? channels : 0, spatial && !view.Pixels ? positions : 0);
        long maps = spatial ? 3L * most * positions : 0;
        _scratch = Lines(pooled) + (2 * Lines(hidden)) + Lines(parts) + Lines(maps);
        float[] scratch = ArrayPool<float>.Shared.Rent((int)((_scratch * hands) + Line));
        fixed (float* origin = scratch)
        fixed (GateStep* first = steps)
        {
            _steps = first;
            _stepCount = steps.Length;
            _pooled = (float*)(((nint)origin + (4 * Line) - 1) & ~((4 * Line) - 1));
            _first = _pooled + Lines(pooled);
            _second = _first + Lines(hidden);
            _parts = _second + Lines(hidden);
            _positions = _parts + Lines(parts);
            _convolution = program.Convolution;
            _positionFunction = program.PositionFunction;
            _positionAlpha = program.PositionAlpha;
            GateRegion* region = (GateRegion*)Unsafe.AsPointer(ref this);
            if (apart) NativeTeam.RunPhases(&Apart<TVector>, region, 1, threads);
            else NativeTeam.RunPhases(&Phases<TVector>, region, 1 + (_groups * _phaseCount), threads);
        }

        ArrayPool<float>.Shared.Return(scratch);
    }

    /// <summary>Floats of a cache line.</summary>
    private const int Line = 16;

    /// <summary>So many values in whole lines.</summary>
    private static long Lines(long count) => (count + Line - 1) / Line * Line;

    private void Order(int steps, bool channel, bool spatial)
    {
        if (channel && _pixels) Add(GatePhase.MergeChannels, 0);
        for (int step = 0; step < steps; step++) Add(GatePhase.Step, step);
        if (spatial && channel) Add(GatePhase.PoolPositions, 0);
        if (spatial && !_pixels) Add(GatePhase.MergePositions, 0);
        if (spatial) Add(GatePhase.Convolve, 0);
        Add(GatePhase.Apply, 0);
    }

    private void Add(GatePhase phase, int step)
    {
        _stepOf[_phaseCount] = (byte)step;
        _phases[_phaseCount++] = (byte)phase;
    }

    /// <summary>A thread's own samples, as a batch of their own.</summary>
    private static void Apart<TVector>(GateRegion* a, int phase, int thread, int threads)
        where TVector : unmanaged, ISimd<TVector>
    {
        int first = (int)((long)a->_batch * thread / threads);
        GateRegion own = *a;
        own._batch = (int)((long)a->_batch * (thread + 1) / threads) - first;
        if (own._batch == 0) return;
        own._groups = (own._batch + own._groupSize - 1) / own._groupSize;
        nint bytes = (nint)first * a->_map.Rows * a->_map.Columns * a->_bytesOfValue, floats = (nint)(thread * a->_scratch);
        own._map.X = (byte*)own._map.X + bytes;
        own._map.Y = (byte*)own._map.Y + bytes;
        if (own._map.Residual is not null) own._map.Residual = (byte*)own._map.Residual + bytes;
        own._pooled += floats;
        own._first += floats;
        own._second += floats;
        own._parts += floats;
        own._positions += floats;
        for (int current = 0; current <= own._groups * own._phaseCount; current++) Phases<TVector>(&own, current, 0, 1);
    }

    /// <summary>The first pass over a group goes with the last one over the group before it: they share no buffers.</summary>
    private static void Phases<TVector>(GateRegion* a, int phase, int thread, int threads)
        where TVector : unmanaged, ISimd<TVector>
    {
        if (phase == 0)
        {
            Begin(a, 0, thread, threads);
            return;
        }

        int group = (phase - 1) / a->_phaseCount, index = (phase - 1) % a->_phaseCount;
        Share share = new(a, group, thread, threads);
        switch ((GatePhase)a->_phases[index])
        {
            case GatePhase.MergeChannels:
                PartSums<TVector>.Merge(a->_parts, share, a->_map.Columns, a->_pooled, a->_bounded ? a->_pooled + ((nint)share.Samples * a->_map.Columns) : null, a->_map.Columns, 1f / a->_map.Rows);
                break;
            case GatePhase.Step:
                a->Step<TVector>(a->_stepOf[index], share);
                break;
            case GatePhase.PoolPositions:
                a->PoolPositions(share);
                break;
            case GatePhase.MergePositions:
                PartSums<TVector>.Merge(a->_parts, share, a->_map.Columns, a->_positions, a->_positions + a->_map.Columns, 2 * (nint)a->_map.Columns, 1f / a->_map.Rows);
                break;
            case GatePhase.Convolve:
                a->Convolve<TVector>(share);
                break;
            case GatePhase.Apply:
                a->Apply(share);
                if (group + 1 < a->_groups) Begin(a, group + 1, thread, threads);
                break;
        }
    }

    /// <summary>The result of the step before this one, or of pooling.</summary>
    private readonly float* Input(int step) => step == 0 ? _pooled : (step % 2 == 1) ? _first : _second;

    /// <summary>The channel gate, (samples, C).</summary>
    private readonly float* ChannelGate => Input(_stepCount);

    private readonly float* PositionGate(in Share share) => _positions + (2 * (nint)share.Samples * PositionCount);

    private readonly int ChannelCount => _pixels ? _map.Columns : _map.Rows;

    private readonly int PositionCount => _pixels ? _map.Rows : _map.Columns;

    private static void Begin(GateRegion* a, int group, int thread, int threads)
    {
        Share share = new(a, group, thread, threads);
        if (a->_reads) a->PoolChannels(share);
        else a->PoolPositions(share);
    }

    private readonly void PoolChannels(in Share share)
    {
        for (RowBlock block = share.First(); !block.IsEmpty; block = share.After(block))
        {
            MapArguments a = Block(share, block);
            if (!_pixels) Along(ref a, _pooled + ((nint)block.Sample * _map.Rows) + block.From, _pooled + ((nint)(share.Samples + block.Sample) * _map.Rows) + block.From);
            else Down(ref a, share, block);
            Reduce(_poolChannels, &a, down: _pixels);
        }
    }

    private readonly void PoolPositions(in Share share)
    {
        for (RowBlock block = share.First(); !block.IsEmpty; block = share.After(block))
        {
            MapArguments a = Block(share, block);
            float* means = _positions + (2 * (nint)block.Sample * PositionCount) + block.From;
            if (_pixels) Along(ref a, means, means + PositionCount);
            else Down(ref a, share, block);
            Reduce(_poolPositions, &a, down: !_pixels);
        }
    }

    /// <summary>A result a row.</summary>
    private readonly void Along(ref MapArguments a, float* first, float* second)
    {
        a.First = first;
        a.Second = second;
        a.Scale = 1f / _map.Columns;
    }

    /// <summary>A result a column: this thread's part of it.</summary>
    private readonly void Down(ref MapArguments a, in Share share, in RowBlock block)
    {
        a.First = _parts + (2 * (nint)(block.Sample + share.Thread) * _map.Columns);
        a.Second = a.First + _map.Columns;
        a.Scale = 1;
    }

    private static void Reduce(delegate*<MapArguments*, int, int, void> body, MapArguments* a, bool down)
    {
        if (!down)
        {
            body(a, 0, a->Rows);
            return;
        }

        a->Tile = Math.Min((a->Columns + 15) / 16 * 16, MapKernels.LargestTile);
        body(a, 0, (a->Columns + a->Tile - 1) / a->Tile);
    }

    private readonly void Apply(in Share share)
    {
        for (RowBlock block = share.First(); !block.IsEmpty; block = share.After(block))
        {
            MapArguments a = Block(share, block);
            _write(&a, 0, a.Rows);
        }
    }

    /// <summary>The rows of one sample that a thread owns, as a map of their own.</summary>
    private readonly MapArguments Block(in Share share, in RowBlock block)
    {
        MapArguments a = _map;
        nint row = ((nint)(share.FirstSample + block.Sample) * _map.Rows) + block.From, bytes = row * _map.Columns * _bytesOfValue;
        a.X = (byte*)a.X + bytes;
        a.Y = (byte*)a.Y + bytes;
        if (a.Residual is not null) a.Residual = (byte*)a.Residual + bytes;
        a.Matrices = 1;
        a.Rows = block.To - block.From;
        if (_reads) a.ChannelGate = ChannelGate + ((nint)block.Sample * ChannelCount) + (_pixels ? 0 : block.From);
        a.PositionGate = PositionGate(share) + ((nint)block.Sample * PositionCount) + (_pixels ? block.From : 0);
        return a;
    }

    private readonly void Convolve<TVector>(in Share share)
        where TVector : unmanaged, ISimd<TVector>
    {
        PositionConvolution.Arguments a = _convolution;
        a.Input = _positions;
        a.Output = PositionGate(share);
        (int from, int to) = share.Of(share.Samples * a.Blocks);
        if (from == to) return;
        PositionConvolution.Run<TVector>(&a, from, to);
        nint begin = Start(a, from), end = Start(a, to);
        ElementFunctions<TVector>.Apply(_positionFunction, _positionAlpha, a.Output + begin, end - begin);

        static nint Start(in PositionConvolution.Arguments a, int item)
            => ((nint)(item / a.Blocks) * a.Height * a.Width) + ((nint)(item % a.Blocks) * a.RowsOfBlock * a.Width);
    }

    private readonly void Step<TVector>(int index, in Share share)
        where TVector : unmanaged, ISimd<TVector>
    {
        GateStep* step = _steps + index;
        float* input = Input(index), output = Input(index + 1);
        switch (step->Kind)
        {
            case GateStepKind.Average:
                {
                    (int from, int to) = share.Of(share.Samples * ChannelCount);
                    ChannelSteps<TVector>.Average(input, input + ((nint)share.Samples * ChannelCount), output, from, to);
                    break;
                }

            case GateStepKind.Neighbours:
                {
                    (int from, int to) = share.Of(share.Samples * ChannelCount);
                    ChannelSteps<TVector>.Neighbours(step, input, ChannelCount, output, from, to);
                    break;
                }

            default:
                {
                    (int from, int to) = share.Of(step->Outputs);
                    ChannelSteps<TVector>.Dense(step, input, share.Samples, output, from, to);
                    break;
                }
        }
    }

    /// <summary>What one thread owns of a group of samples.</summary>
    internal readonly struct Share
    {
        private readonly int _rows;
        private readonly long _from;
        private readonly long _to;
        private readonly int _threads;
        private readonly int _owners;

        public Share(GateRegion* a, int group, int thread, int threads)
        {
            FirstSample = (int)((long)a->_batch * group / a->_groups);
            Samples = (int)((long)a->_batch * (group + 1) / a->_groups) - FirstSample;
            Thread = thread;
            _threads = threads;
            _rows = a->_map.Rows;
            long all = (long)Samples * _rows;

            // Each owner has a row at least: between two owners of a sample's rows there is none without.
            _owners = (int)Math.Min(threads, all);
            _from = thread < _owners ? all * thread / _owners : all;
            _to = thread < _owners ? all * (thread + 1) / _owners : all;
        }

        public int FirstSample { get; }

        public int Samples { get; }

        public int Thread { get; }

        /// <summary>This thread's part of so many items.</summary>
        public (int From, int To) Of(int items) => ((int)((long)items * Thread / _threads), (int)((long)items * (Thread + 1) / _threads));

        public RowBlock First() => At(_from);

        public RowBlock After(in RowBlock block) => At(((long)block.Sample * _rows) + block.To);

        /// <summary>The threads that own rows of a sample.</summary>
        public (int First, int Last) Owners(int sample) => (Owner((long)sample * _rows), Owner(((long)(sample + 1) * _rows) - 1));

        private int Owner(long row) => (int)((((row + 1) * _owners) - 1) / ((long)Samples * _rows));

        private RowBlock At(long row)
        {
            if (row >= _to) return default;
            int sample = (int)(row / _rows), from = (int)(row % _rows);
            return new RowBlock(sample, from, (int)Math.Min(_rows, from + _to - row));
        }
    }

    /// <summary>Rows of one sample of a group.</summary>
    internal readonly record struct RowBlock(int Sample, int From, int To)
    {
        public bool IsEmpty => From == To;
    }
}
