using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// A whole gate in inference as one parallel call: pool, compute the gate, apply. Every thread keeps the same rows of the map
/// through all passes, so that a later pass finds them in that core's cache; sums down columns are added up from the threads'
/// parts. A batch that no cache holds is taken a few samples at a time.
/// </summary>
internal unsafe struct InferenceGateKernel
{
    /// <summary>Weights that a core's cache holds beside its samples.</summary>
    private const long MostWeightsApart = 128 * 1024;

    private MapArguments _map;
    private delegate*<MapArguments*, int, int, void> _poolChannels;
    private delegate*<MapArguments*, int, int, void> _poolPositions;
    private delegate*<MapArguments*, int, int, void> _write;
    private InferenceStep* _steps;
    private PositionConvolution.Arguments _convolution;
    private RegionPlan _plan;
    private float* _origin;
    private int _hand;
    private int _stepCount;
    private int _phaseCount;
    private int _bytesOfValue;
    private bool _pixels;
    private bool _reads;
    private bool _bounded;
    private ElementFunction _positionFunction;
    private float* _positionAlpha;
    private fixed byte _phases[RegionPlan.MostPhases];
    private fixed byte _stepOf[RegionPlan.MostPhases];

    /// <summary>A group of samples that the caches may hold between the passes, in bytes. Tests set it to 1.</summary>
    internal static long GroupBytes { get; set; } = 4 << 20;

    /// <summary>The refined map, or null where the gate or the map needs another way.</summary>
    public static Tensor? TryRun(GateParts parts, in MapView view, Tensor input, bool overwrite, Tensor? residual)
    {
        ChannelStatistics reads = parts.Channel?.Statistics ?? ChannelStatistics.Nothing;
        if (view.IsBFloat16 || (reads & ~(ChannelStatistics.Mean | ChannelStatistics.Maximum)) != 0) return null;
        if (parts.Channel is not (null or IInferenceGate) || parts.Spatial is not (null or IInferenceGate)) return null;
        GateProgram program = GateProgram.Begin(view.Batch, (int)input.size(2), (int)input.size(3));
        (parts.Channel as IInferenceGate)?.Describe(program);
        (parts.Spatial as IInferenceGate)?.Describe(program);
        program.Blend(parts.Channel?.Module.StartScale, parts.Spatial?.Module.StartScale);
        if (!program.Fits || !TryPlan(program, view, reads, parts.Spatial is not null, residual is not null, out RegionPlan plan))
        {
            return null;
        }

        Tensor? output = null;
        void* values = overwrite ? view.Values : view.Like(input, out output).Values;
        InferenceGateKernel region = default;
        region._map = view.Arguments();
        region._map.Y = values;
        region._map.Residual = residual is null ? null : MapView.Pointer(residual);
        region._pixels = view.IsChannelsLast;
        region._bytesOfValue = view.IsBFloat16 ? 2 : 4;
        region._plan = plan;
        region.Run(program, view, reads, parts.Spatial is not null);
        GC.KeepAlive(parts.Channel);
        GC.KeepAlive(parts.Spatial);
        GC.KeepAlive(input);
        GC.KeepAlive(residual);
        return output ?? input;
    }

    private void Run(GateProgram program, in MapView view, ChannelStatistics reads, bool spatial)
    {
        if (Vector512.IsHardwareAccelerated) Run<Simd512>(program, view, reads, spatial);
        else if (Vector256.IsHardwareAccelerated) Run<Simd256>(program, view, reads, spatial);
        else Run<Simd128>(program, view, reads, spatial);
    }

    private void Run<TVector>(GateProgram program, in MapView view, ChannelStatistics reads, bool spatial)
        where TVector : unmanaged, ISimd<TVector>
    {
        bool channel = reads != ChannelStatistics.Nothing;
        _reads = channel;
        _bounded = reads.HasFlag(ChannelStatistics.Maximum);
        if (_bounded) _poolChannels = MapKernels.Reducer<TVector, Pooling>(view, alongRows: !view.IsChannelsLast);
        else if (channel) _poolChannels = MapKernels.Reducer<TVector, Summing>(view, alongRows: !view.IsChannelsLast);
        if (spatial && channel) _poolPositions = MapKernels.Reducer<TVector, GatedPooling>(view, alongRows: view.IsChannelsLast);
        else if (spatial) _poolPositions = MapKernels.Reducer<TVector, Pooling>(view, alongRows: view.IsChannelsLast);
        _write = (_map.Residual is not null, channel, spatial) switch
        {
            (false, true, true) => MapKernels.Writer<TVector, ApplyBoth>(view),
            (false, true, _) => MapKernels.Writer<TVector, ApplyChannel>(view),
            (false, _, _) => MapKernels.Writer<TVector, ApplyPosition>(view),
            (_, true, true) => MapKernels.Writer<TVector, AddRectified<ApplyBoth>>(view),
            (_, true, _) => MapKernels.Writer<TVector, AddRectified<ApplyChannel>>(view),
            _ => MapKernels.Writer<TVector, AddRectified<ApplyPosition>>(view),
        };
        ReadOnlySpan<InferenceStep> steps = program.Steps;
        Order(steps.Length, channel, spatial);

        using Scratch scratch = new(_plan.Layout);
        fixed (InferenceStep* first = steps)
        {
            _origin = scratch.Origin;
            _steps = first;
            _stepCount = steps.Length;
            _convolution = program.Convolution;
            _positionFunction = program.PositionFunction;
            _positionAlpha = program.PositionAlpha;
            InferenceGateKernel* region = (InferenceGateKernel*)Unsafe.AsPointer(ref this);
            if (_plan.Hands > 1) NativeTeam.RunPhases(&Apart<TVector>, region, 1, _plan.Hands);
            else NativeTeam.RunPhases(&Phases<TVector>, region, 1 + (_plan.Groups(0) * _phaseCount), _plan.Team);
        }

        scratch.Check();
    }

    /// <summary>How the batch is cut; false where the buffers of a single sample are too large.</summary>
    private static bool TryPlan(
        GateProgram program, in MapView view, ChannelStatistics reads, bool spatial, bool residual, out RegionPlan plan)
    {
        int widest = 0;
        foreach (InferenceStep step in program.Steps) widest = Math.Max(widest, step.Outputs);
        RegionSizes sizes = new()
        {
            Batch = view.Batch,
            Channels = view.Channels,
            Positions = view.Positions,
            IsChannelsLast = view.IsChannelsLast,
            Widest = widest,
            Channel = reads != ChannelStatistics.Nothing,
            Spatial = spatial,
        };
        long passes = (sizes.Channel ? 1 : 0) + (spatial ? 1 : 0) + 1 + (residual ? 1 : 0);
        int batch = view.Batch, threads = NativeTeam.ThreadsFor((long)batch * sizes.Rows, view.Bytes * passes);

        // Whole samples a thread need no barriers; but then every thread reads all of the layers' weights.
        bool apart = threads > 1 && batch >= threads && (batch % threads == 0 || batch >= 4 * threads)
            && program.Weights <= MostWeightsApart;

        // Groups of equal size, each at least as large as the layers' weights, which every group reads again.
        long sample = Math.Max(1, view.Bytes / batch),
            bytes = Math.Max(GroupBytes / (apart ? threads : 1), sizeof(float) * program.Weights);
        return RegionPlan.TryMake(sizes, threads, apart, bytes / sample, KernelCheck.Guard, out plan);
    }

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

    /// <summary>The hands that a thread computes, one after the other and each without other threads.</summary>
    private static void Apart<TVector>(InferenceGateKernel* a, int phase, int thread, int threads)
        where TVector : unmanaged, ISimd<TVector>
    {
        (int from, int to) = a->_plan.HandsOf(thread, threads);
        for (int hand = from; hand < to; hand++)
        {
            InferenceGateKernel own = *a;
            own._hand = hand;
            int groups = own._plan.Groups(hand);
            for (int current = 0; groups > 0 && current <= groups * own._phaseCount; current++)
            {
                Phases<TVector>(&own, current, 0, 1);
            }
        }
    }

    /// <summary>The first pass over a group goes with the last one over the group before it: they share no buffers.</summary>
    private static void Phases<TVector>(InferenceGateKernel* a, int phase, int thread, int threads)
        where TVector : unmanaged, ISimd<TVector>
    {
        if (phase == 0)
        {
            Begin(a, 0, thread, threads);
            return;
        }

        int group = (phase - 1) / a->_phaseCount, index = (phase - 1) % a->_phaseCount;
        RegionShare share = new(a->_plan, a->_hand, group, thread, threads);
        switch ((GatePhase)a->_phases[index])
        {
            case GatePhase.MergeChannels:
                PartSums<TVector>.Merge(a->_origin, share, new ChannelPlaces(a->_bounded), a->_map.Columns, 1f / a->_map.Rows);
                break;
            case GatePhase.Step:
                a->Step<TVector>(a->_stepOf[index], share);
                break;
            case GatePhase.PoolPositions:
                a->PoolPositions(share);
                break;
            case GatePhase.MergePositions:
                PartSums<TVector>.Merge(a->_origin, share, new PositionPlaces(), a->_map.Columns, 1f / a->_map.Rows);
                break;
            case GatePhase.Convolve:
                a->Convolve<TVector>(share);
                break;
            case GatePhase.Apply:
                a->Apply(share);
                if (group + 1 < a->_plan.Groups(a->_hand)) Begin(a, group + 1, thread, threads);
                break;
        }
    }

    private static void Begin(InferenceGateKernel* a, int group, int thread, int threads)
    {
        RegionShare share = new(a->_plan, a->_hand, group, thread, threads);
        if (a->_reads) a->PoolChannels(share);
        else a->PoolPositions(share);
    }

    private readonly void PoolChannels(in RegionShare share)
    {
        for (RowBlock block = share.First(); !block.IsEmpty; block = share.After(block))
        {
            MapArguments a = Block(share, block);
            if (!_pixels)
            {
                Along(ref a, _origin + share.Means(block.Sample) + block.From, _origin + share.Maxima(block.Sample) + block.From);
            }
            else Down(ref a, share, block);
            Reduce(_poolChannels, &a, down: _pixels);
        }
    }

    private readonly void PoolPositions(in RegionShare share)
    {
        for (RowBlock block = share.First(); !block.IsEmpty; block = share.After(block))
        {
            MapArguments a = Block(share, block);
            if (_pixels)
            {
                Along(
                    ref a, _origin + share.Map(block.Sample) + block.From,
                    _origin + share.MaximaOfMap(block.Sample) + block.From);
            }
            else Down(ref a, share, block);
            Reduce(_poolPositions, &a, down: !_pixels);
        }
    }

    /// <summary>A result per row.</summary>
    private readonly void Along(ref MapArguments a, float* first, float* second)
    {
        a.First = first;
        a.Second = second;
        a.Scale = 1f / _map.Columns;
    }

    /// <summary>A result per column: this thread's part of it.</summary>
    private readonly void Down(ref MapArguments a, in RegionShare share, in RowBlock block)
    {
        a.First = _origin + share.Part(block.Sample, share.Thread);
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

    private readonly void Apply(in RegionShare share)
    {
        for (RowBlock block = share.First(); !block.IsEmpty; block = share.After(block))
        {
            MapArguments a = Block(share, block);
            _write(&a, 0, a.Rows);
        }
    }

    /// <summary>The rows of one sample that a thread owns, as a map of their own.</summary>
    private readonly MapArguments Block(in RegionShare share, in RowBlock block)
    {
        MapArguments a = _map;
        nint row = ((nint)(share.FirstSample + block.Sample) * _map.Rows) + block.From,
            bytes = row * _map.Columns * _bytesOfValue;
        a.X = (byte*)a.X + bytes;
        a.Y = (byte*)a.Y + bytes;
        if (a.Residual is not null) a.Residual = (byte*)a.Residual + bytes;
        a.Matrices = 1;
        a.Rows = block.To - block.From;
        int channels = _pixels ? _map.Columns : _map.Rows;
        if (_reads)
        {
            a.ChannelGate = _origin + share.Input(_stepCount) + ((nint)block.Sample * channels) + (_pixels ? 0 : block.From);
        }

        a.PositionGate = _origin + share.Gate(block.Sample) + (_pixels ? block.From : 0);
        return a;
    }

    private readonly void Convolve<TVector>(in RegionShare share)
        where TVector : unmanaged, ISimd<TVector>
    {
        PositionConvolution.Arguments a = _convolution;
        a.Input = _origin + share.Map(0);
        a.Output = _origin + share.Gate(0);
        (int from, int to) = share.Of((long)share.Samples * a.Blocks);
        if (from == to) return;
        PositionConvolution.Run<TVector>(&a, from, to);
        nint begin = Start(a, from), end = Start(a, to);
        ElementFunctions<TVector>.Apply(_positionFunction, _positionAlpha, a.Output + begin, end - begin);

        static nint Start(in PositionConvolution.Arguments a, int item)
            => ((nint)(item / a.Blocks) * a.Height * a.Width) + ((nint)(item % a.Blocks) * a.RowsOfBlock * a.Width);
    }

    private readonly void Step<TVector>(int index, in RegionShare share)
        where TVector : unmanaged, ISimd<TVector>
    {
        InferenceStep* step = _steps + index;
        float* input = _origin + share.Input(index), output = _origin + share.Output(index);
        int channels = _plan.Sizes.Channels;
        bool dense = step->Kind is InferenceStepKind.Dense or InferenceStepKind.DenseOfBoth;
        (int from, int to) = share.Of(dense ? step->Outputs : (long)share.Samples * channels);
        switch (step->Kind)
        {
            case InferenceStepKind.Average:
                ChannelSteps<TVector>.Average(input, input + ((nint)share.Samples * channels), output, from, to);
                break;
            case InferenceStepKind.Neighbours:
                ChannelSteps<TVector>.Neighbours(step, input, channels, output, from, to);
                break;
            default:
                ChannelSteps<TVector>.Dense(step, input, share.Samples, output, from, to);
                break;
        }
    }
}
