using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// The backward pass of one gate by kernels: at most three reads of dy and x and one write of dx. Small tensors are float32.
/// </summary>
internal sealed unsafe class GateBackward : IDisposable
{
    /// <summary>What no value equals.</summary>
    private static readonly Scalar _none = float.NaN.ToScalar();

    private readonly MapView _view;
    private readonly ChannelStatistics _reads;
    private readonly Tensor _input;
    private readonly Tensor _gradient;
    private readonly Tensor _channel;
    private readonly Tensor? _spatial;
    private readonly Tensor? _pooledChannels;
    private readonly Tensor? _positionMax;
    private readonly List<Tensor> _kept = [];
    private Tensor? _end;
    private Tensor? _endGradient;
    private Tensor? _ties;
    private Tensor? _channelTies;
    private Tensor? _shift;
    private Tensor? _peak;
    private Tensor? _centredDot;
    private Tensor? _sums;

    /// <summary>
    /// Begins with the gradient of the output and what the last step saved: x, c, s, pooled channels, pooled positions and, where
    /// the step was a residual block's end, its output.
    /// </summary>
    public GateBackward(MapView view, ChannelStatistics reads, List<Tensor> saved, Tensor gradient)
    {
        using DisposeScope scope = NewDisposeScope();
        _view = view;
        _reads = reads;
        _input = saved[0].detach();
        _end = saved[5]?.detach();
        if (_end is null)
        {
            _gradient = view.Align(gradient);
        }
        else
        {
            _endGradient = view.Align(gradient).DetachFromDisposeScope();
            _end.DetachFromDisposeScope();
            view.Like(_input, out _gradient);
        }

        _channel = saved[1]?.detach() ?? MapView.New([view.Batch, view.Channels]).fill_(Scalars.One);
        _spatial = saved[2]?.detach();
        _pooledChannels = saved[3]?.detach();
        _positionMax = saved[4]?.detach().select(1, 1).contiguous();

        // Detached: what is kept here must not keep the graph that keeps it.
        GateAutograd.Dispose([.. saved]);
        Tensor?[] held = [_input, gradient, _gradient, _channel, _spatial, _pooledChannels, _positionMax];
        foreach (Tensor? tensor in held)
        {
            if (tensor is not null) Keep(tensor);
        }
    }

    /// <summary>
    /// What the norm before the gate gets, once the input's gradient is there: that is the gradient of the norm's input then.
    /// </summary>
    public NormGradients? NormGradients { get; private set; }

    private bool ReadsMaximum => _reads.HasFlag(ChannelStatistics.Maximum);

    /// <summary>
    /// The gradient before the ReLU of a residual block, there once the first reduction has run: the shortcut's too.
    /// </summary>
    public Tensor ResidualGradient() => _gradient.alias();

    /// <summary>The spatial gate's gradient, (N, 1, H, W), and how many channels share each position's maximum.</summary>
    public Tensor SpatialGradient(long height, long width)
    {
        Tensor gradient = MapView.New([_view.Batch, 1, height, width]);
        _ties = Keep(MapView.New([_view.Batch, _view.Positions]));
        MapArguments a = Arguments(gradient, _ties, _view.Positions);
        if (_end is null) MapKernels.OverChannels<PositionGradient>(_view, a, maps: 2);
        else MapKernels.OverChannels<ThroughAddRelu<PositionGradient>>(_view, a, maps: 4);
        ForgetEnd();
        return gradient;
    }

    /// <summary>Takes what the spatial gate sends back to the pooled positions, (N, 2, H, W).</summary>
    public void TakePositions(Tensor pooledGradient)
    {
        using DisposeScope scope = NewDisposeScope();
        nint positions = _view.Positions;
        _shift = Keep(MapView.New([_view.Batch, positions]));
        _peak = Keep(MapView.New([_view.Batch, positions]));
        Tensor given = pooledGradient.contiguous();
        float* from = MapView.Pointer(given), shift = MapView.Pointer(_shift), peak = MapView.Pointer(_peak),
            ties = MapView.Pointer(_ties!);
        float share = (float)(1.0 / _view.Channels);
        for (int sample = 0; sample < _view.Batch; sample++, from += 2 * positions, shift += positions, peak += positions,
            ties += positions)
        {
            for (nint i = 0; i < positions; i++)
            {
                shift[i] = from[i] * share;
                peak[i] = from[positions + i] / ties[i];
            }
        }

        GC.KeepAlive(given);
    }

    /// <summary>The channel gate's gradient, (N, C, 1, 1), and how many positions share each channel's maximum.</summary>
    public Tensor ChannelGradient()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor gradient = MapView.New([_view.Batch, _view.Channels, 1, 1]);
        Tensor ties = MapView.New([_view.Batch, _view.Channels]);
        MapArguments a = Arguments(gradient, ties, _view.Channels);
        if (OnlyNormPrecedes)
        {
            _centredDot = Keep(MapView.New([_view.Batch, _view.Channels]));
            _sums = Keep(ties);
            a.First = MapView.Pointer(_centredDot);
            if (_end is null) MapKernels.OverPositions<CentredDot>(_view, a, maps: 2);
            else MapKernels.OverPositions<ThroughAddRelu<CentredDot>>(_view, a, maps: 4);
            ForgetEnd();
            DeferredBatchNorm.Dot(_view, a.First, a.Second, MapView.Pointer(gradient));
            return gradient.MoveToOuterDisposeScope();
        }

        if (_spatial is null && !ReadsMaximum)
        {
            if (_end is null) MapKernels.OverPositions<ChannelDot>(_view, a, maps: 2);
            else MapKernels.OverPositions<ThroughAddRelu<ChannelDot>>(_view, a, maps: 4);
            ForgetEnd();
            return gradient.MoveToOuterDisposeScope();
        }

        // No value equals NaN: where no maximum was pooled, nothing is a maximum.
        Tensor maximum = ReadsMaximum ? _pooledChannels!.select(0, 1) : MapView.New([_view.Batch, _view.Channels]).fill_(_none);
        a.ChannelMax = MapView.Pointer(maximum);
        if (_spatial is not null) MapKernels.OverPositions<GatedChannelGradient>(_view, a, maps: 2);
        else if (_end is null) MapKernels.OverPositions<ChannelGradient>(_view, a, maps: 2);
        else MapKernels.OverPositions<ThroughAddRelu<ChannelGradient>>(_view, a, maps: 4);
        ForgetEnd();
        _channelTies = Keep(ties);
        return gradient.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The input's gradient, from what the channel gate sends back to the pooled channels; null where there is no channel gate.
    /// </summary>
    public Tensor InputGradient(Tensor? pooledGradient)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor pooled = PooledTerms(pooledGradient);
        float* shift = MapView.Pointer(pooled), slope = shift + (_view.Batch * (nint)_view.Channels);
        MapView written = _view.Like(_input, out Tensor gradient);
        MapArguments a = Arguments(null, null, 0);
        a.Y = written.Values;
        a.ChannelShift = shift;
        a.ChannelSlope = a.ChannelPeak = slope;
        a.ChannelMax = ReadsMaximum ? MapView.Pointer(_pooledChannels!) + (_view.Batch * (nint)_view.Channels) : null;
        if (OnlyNormPrecedes) WriteAtOnce(a);
        else if (_view.Norm is not null) WriteThroughNorm(a);
        else if (ReadsMaximum) Write<ChannelPeaks>(a);
        else if (_reads.HasFlag(ChannelStatistics.Magnitudes)) Write<ChannelMagnitudes>(a);
        else if ((_reads & (ChannelStatistics.SquaredDeviations | ChannelStatistics.Squares)) != 0) Write<ChannelMoments>(a);
        else if (_spatial is null) MapKernels.Write<InputGradient>(_view, a, maps: 2);
        else MapKernels.Write<GatedInputGradient<ChannelMeans>>(_view, a, maps: 3);
        return gradient.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// What the poolings send back to each channel, (2, N, C): the shift, and the slope or the
    /// share of each position at the maximum.
    /// </summary>
    private Tensor PooledTerms(Tensor? pooledGradient)
    {
        int count = _view.Batch * _view.Channels;
        Tensor terms = MapView.New([2, count]);
        if (pooledGradient is null) return terms.zero_();
        float* shift = MapView.Pointer(terms), slope = shift + count, mean = MapView.Pointer(_pooledChannels!),
            ties = ReadsMaximum ? MapView.Pointer(_channelTies!) : null;
        Tensor given = pooledGradient.contiguous();
        float* toMean = MapView.Pointer(given), toSecond = toMean + count;
        float share = (float)(1.0 / _view.Positions);
        for (int i = 0; i < count; i++) shift[i] = toMean[i] * share;
        for (int i = 0; _reads != ChannelStatistics.Mean && i < count; i++)
        {
            slope[i] = ReadsMaximum
                ? toSecond[i] / ties[i]
                : _reads.HasFlag(ChannelStatistics.Magnitudes) ? toSecond[i] : 2 * toSecond[i];
            if (_reads.HasFlag(ChannelStatistics.SquaredDeviations)) shift[i] -= slope[i] * mean[i];
        }

        GC.KeepAlive(given);
        return terms;
    }

    private void Write<TPooled>(MapArguments a)
        where TPooled : struct, IPooled
    {
        if (_spatial is null) MapKernels.Write<PooledInputGradient<TPooled>>(_view, a, maps: 3);
        else MapKernels.Write<GatedInputGradient<TPooled>>(_view, a, maps: 3);
    }

    /// <summary>
    /// Whether a deferred norm's sums follow from those that the channel gate's gradient needs; a spatial gate or a
    /// maximum in between would take more of them.
    /// </summary>
    private bool OnlyNormPrecedes => _view.Norm is not null && _spatial is null && !ReadsMaximum;

    /// <summary>dx, with its sums on the way, and then dz over it.</summary>
    private void WriteThroughNorm(MapArguments a)
    {
        _centredDot = Keep(MapView.New([_view.Batch, _view.Channels]));
        _sums = Keep(MapView.New([_view.Batch, _view.Channels]));
        a.First = MapView.Pointer(_centredDot);
        a.Second = MapView.Pointer(_sums);
        a.ResultStride = _view.Channels;
        if (_spatial is null) MapKernels.OverPositions<Written<PooledInputGradient<ChannelPeaks>>>(_view, a, maps: 3);
        else if (ReadsMaximum) MapKernels.OverPositions<Written<GatedInputGradient<ChannelPeaks>>>(_view, a, maps: 3);
        else MapKernels.OverPositions<Written<GatedInputGradient<ChannelMeans>>>(_view, a, maps: 3);
        NormGradients = DeferredBatchNorm.Backward(_view, a.Second, a.First);
        a.GradY = a.Y;
        a.ChannelGate = DeferredBatchNorm.Factors(_view);
        a.ChannelShift = a.Second;
        a.ChannelSlope = a.First;
        MapKernels.Write<NormInputGradient>(_view, a, maps: 3);
    }

    /// <summary>dz at once, where dx = dy · gate + shift.</summary>
    private void WriteAtOnce(MapArguments a)
    {
        float* sums = MapView.Pointer(_sums!), centred = MapView.Pointer(_centredDot!);
        DeferredBatchNorm.SumsOfGated(_view, a.ChannelGate, a.ChannelShift, sums, centred);
        NormGradients = DeferredBatchNorm.Backward(_view, sums, centred);
        using Tensor gate = DeferredBatchNorm.Through(_view, a.ChannelGate, a.ChannelShift, sums);
        a.ChannelGate = MapView.Pointer(gate);
        a.ChannelShift = sums;
        a.ChannelSlope = centred;
        MapKernels.Write<NormInputGradient>(_view, a, maps: 3);
    }

    public void Dispose()
    {
        ForgetEnd();
        foreach (Tensor tensor in _kept) tensor.Dispose();
    }

    /// <summary>The first reduction has read the block's output and its gradient: nobody needs them any more.</summary>
    private void ForgetEnd()
    {
        _end?.Dispose();
        _endGradient?.Dispose();
        _end = _endGradient = null;
    }

    private MapArguments Arguments(Tensor? first, Tensor? second, nint stride)
    {
        MapArguments a = _view.Arguments();
        a.X = MapView.Pointer(_input);
        a.GradY = MapView.Pointer(_gradient);
        if (_end is not null)
        {
            a.End = MapView.Pointer(_end);
            a.GradEnd = MapView.Pointer(_endGradient!);
        }

        a.First = first is null ? null : MapView.Pointer(first);
        a.Second = second is null ? null : MapView.Pointer(second);
        a.ResultStride = stride;
        a.Scale = 1;
        a.ChannelGate = MapView.Pointer(_channel);
        if (_spatial is null) return a;
        a.PositionGate = MapView.Pointer(_spatial);
        a.PositionMax = MapView.Pointer(_positionMax!);
        if (_shift is null) return a;
        a.PositionShift = MapView.Pointer(_shift);
        a.PositionPeak = MapView.Pointer(_peak!);
        return a;
    }

    /// <summary>Out of the caller's scope: steps run one by one, maybe under different scopes.</summary>
    private Tensor Keep(Tensor tensor)
    {
        Tensor kept = tensor.DetachFromDisposeScope();
        _kept.Add(kept);
        return kept;
    }
}
