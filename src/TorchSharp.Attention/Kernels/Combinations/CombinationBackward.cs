using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>The backward pass of one mixing gate by kernels. Small tensors are float32.</summary>
internal sealed unsafe class CombinationBackward : IDisposable
{
    private readonly CombinationPass _pass;
    private readonly MapView _view;
    private readonly GateCombination _mix;
    private readonly Tensor _input;
    private readonly Tensor _gradient;
    private readonly Tensor _first;
    private readonly Tensor? _second;
    private readonly float? _alpha;
    private readonly Tensor? _pooled;
    private readonly List<Tensor> _kept = [];
    private Tensor? _channelTies;
    private Tensor? _positionTies;

    /// <summary>
    /// Begins with the gradient of the output and what the last step saved: x, f, s or t, alpha, what was pooled.
    /// </summary>
    public CombinationBackward(CombinationPass pass, List<Tensor> saved, Tensor gradient)
    {
        using DisposeScope scope = NewDisposeScope();
        _pass = pass;
        _view = pass.View;
        _mix = pass.Mix;

        // Detached: what is kept here must not keep the graph that keeps it.
        _input = saved[0].detach();
        _gradient = _view.Align(gradient);
        _first = saved[1].detach();
        _second = saved[2]?.detach();
        _alpha = saved[3]?.ToSingle();
        _pooled = saved[4]?.detach();
        GateAutograd.Dispose([.. saved]);
        Tensor?[] held = [_input, gradient, _gradient, _first, _second, _pooled];
        foreach (Tensor? tensor in held)
        {
            if (tensor is not null) Keep(tensor);
        }
    }

    private bool PeaksOfChannels => _mix.Channels.HasFlag(ChannelStatistics.Maximum);

    private bool PeaksOfStrips => _mix.Strips == StripReads.MeansAndMaxima;

    /// <summary>
    /// The factors' gradients as <see cref="CombinationPass.Arrange"/> shapes them, and how many elements share each maximum.
    /// </summary>
    public (Tensor First, Tensor? Second) FactorGradients()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor first = MapView.New(_first.shape);
        Tensor? second = _second is null ? null : MapView.New(_second.shape);
        MapArguments a = Arguments();
        a.First = MapView.Pointer(first);
        if (_mix.HasStrips)
        {
            _pass.Kernels.Factors(_view, a, strips: true);
            if (PeaksOfStrips)
            {
                _channelTies = Keep(MapView.New([_pass.StripValues]));
                a.First = MapView.Pointer(_channelTies);
                StripKernels.Reduce<SharedMaxima>(_view, a);
            }

            if (second is not null) Positions(second, a, third: true);
        }
        else if (_mix.Kind == CombinationKind.Energy)
        {
            a.Second = MapView.Pointer(second!);
            a.ResultStride = _view.Channels;
            _pass.Kernels.Factors(_view, a, strips: false);
        }
        else
        {
            _channelTies = Keep(MapView.New([_pass.ChannelValues]));
            a.Second = MapView.Pointer(_channelTies);
            a.ResultStride = _view.Channels;
            _pass.Kernels.First(_view, a);
            Positions(second!, a, third: false);
        }

        return (first.MoveToOuterDisposeScope(), second?.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// The gradient of an identity start's alpha: the sum of dy · x · (g − 1), g before the blend; null where there is none.
    /// </summary>
    public Tensor? AlphaGradient()
    {
        if (_alpha is null) return null;
        using DisposeScope scope = NewDisposeScope();
        MapArguments a = Arguments();
        Tensor sums = MapView.New([_mix.HasStrips ? _pass.StripValues : 2 * _pass.ChannelValues]);
        a.First = MapView.Pointer(sums);
        a.Second = a.First + _pass.ChannelValues;
        a.ResultStride = _view.Channels;
        _pass.Kernels.Totals(_view, a, _mix.HasStrips);
        Tensor mixed, plain;
        if (_mix.HasStrips)
        {
            CombinationFactors strips = _pass.Disarrange(sums, null);
            (mixed, plain) = (strips.First.Total(), strips.Second.Total());
        }
        else
        {
            (mixed, plain) = (sums.narrow(0, 0, _pass.ChannelValues).Total(),
                sums.narrow(0, _pass.ChannelValues, _pass.ChannelValues).Total());
        }

        return (_mix.PlusOne ? mixed : mixed.sub(plain)).view(1).MoveToOuterDisposeScope();
    }

    /// <summary>The input's gradient, from the gradient of what was pooled, if anything was.</summary>
    public Tensor InputGradient(Tensor? pooledGradient)
    {
        using DisposeScope scope = NewDisposeScope();
        MapArguments a = Arguments();
        List<Tensor> alive = [];
        if (pooledGradient is not null)
        {
            if (_pass.Channels(pooledGradient) is { } channels) SendToChannels(channels, ref a, alive);
            if (_pass.Strips(pooledGradient) is { } strips) SendToStrips(strips, ref a, alive);
            if (_pass.Positions(pooledGradient) is { } positions) SendToPositions(positions, ref a, alive);
        }

        a.Y = _view.Like(_input, out Tensor gradient).Values;
        _pass.Kernels.Input(_view, a, _mix);
        GC.KeepAlive(alive);
        return gradient.MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        foreach (Tensor tensor in _kept) tensor.Dispose();
    }

    /// <summary>The gradient of a factor of positions, with the ties of their maxima.</summary>
    private void Positions(Tensor gradient, MapArguments a, bool third)
    {
        _positionTies = Keep(MapView.New([_pass.PositionValues]));
        Tensor? maximum = _mix.Positions ? Keep(_pass.Positions(_pooled!)!.select(1, 1).contiguous()) : null;
        a.First = MapView.Pointer(gradient);
        a.Second = MapView.Pointer(_positionTies);
        a.ResultStride = _view.Positions;
        a.PositionMax = maximum is null ? null : MapView.Pointer(maximum);
        if (third) MapKernels.OverChannels<ThirdGradient>(_view, a, maps: 2);
        else _pass.Kernels.Second(_view, a);
    }

    private void SendToChannels(Tensor gradient, ref MapArguments a, List<Tensor> alive)
    {
        using Scalar share = (1.0 / _view.Positions).ToScalar();
        Tensor shift = gradient[0].mul(share).contiguous();
        if (PeaksOfChannels)
        {
            a.ChannelPeak = Pointer(gradient[1].div(_channelTies!.view(_view.Batch, _view.Channels, 1, 1)), alive);
        }
        else if (_mix.Channels.HasFlag(ChannelStatistics.SquaredDeviations))
        {
            Tensor slope = gradient[1].Plus(gradient[1]);
            a.ChannelSlope = Pointer(slope, alive);
            shift = shift.sub(slope.mul(_pass.Channels(_pooled!)![0]));
        }

        a.ChannelShift = Pointer(shift, alive);
    }

    private void SendToStrips(Tensor gradient, ref MapArguments a, List<Tensor> alive)
    {
        using Scalar ofRow = (1.0 / a.Width).ToScalar(), ofColumn = (1.0 / a.Height).ToScalar();
        Tensor means = gradient[0];
        CombinationFactors strips = new(
            means.narrow(2, 0, a.Height).mul(ofRow), means.narrow(2, a.Height, a.Width).mul(ofColumn).transpose(2, 3));
        a.ChannelShift = a.PositionShift = Pointer(_pass.Join(strips), alive);
        if (!PeaksOfStrips) return;
        Tensor peaks = gradient[1].div(_pass.FromMemory(_channelTies!, 1)[0]);
        CombinationFactors both = new(peaks.narrow(2, 0, a.Height), peaks.narrow(2, a.Height, a.Width).transpose(2, 3));
        a.ChannelPeak = a.PositionPeak = Pointer(_pass.Join(both), alive);
    }

    private void SendToPositions(Tensor gradient, ref MapArguments a, List<Tensor> alive)
    {
        using Scalar share = (1.0 / _view.Channels).ToScalar();
        Tensor ties = _positionTies!.view(gradient.size(0), gradient.size(2), gradient.size(3));
        float* shift = Pointer(gradient.select(1, 0).mul(share), alive), peak = Pointer(gradient.select(1, 1).div(ties), alive);
        float* maximum = Pointer(_pass.Positions(_pooled!)!.select(1, 1), alive);
        if (_pass.HasThird)
        {
            a.ThirdShift = shift;
            a.ThirdPeak = peak;
            a.ThirdMax = maximum;
            return;
        }

        a.PositionShift = shift;
        a.PositionPeak = peak;
        a.PositionMax = maximum;
    }

    private MapArguments Arguments()
    {
        MapArguments a = _pass.Arguments(_first, _second, _alpha);
        a.X = MapView.Pointer(_input);
        a.GradY = MapView.Pointer(_gradient);
        a.Scale = 1;
        a.ColumnScale = 1;
        if (PeaksOfChannels) a.ChannelMax = MapView.Pointer(_pooled!) + _pass.ChannelValues;
        if (PeaksOfStrips) a.ChannelMax = a.PositionMax = MapView.Pointer(_pooled!) + _pass.StripValues;
        return a;
    }

    private static float* Pointer(Tensor tensor, List<Tensor> alive)
    {
        Tensor plain = tensor.contiguous();
        alive.Add(plain);
        return MapView.Pointer(plain);
    }

    /// <summary>Out of the caller's scope: steps run one by one, maybe under different scopes.</summary>
    private Tensor Keep(Tensor tensor)
    {
        Tensor kept = tensor.DetachFromDisposeScope();
        _kept.Add(kept);
        return kept;
    }
}
