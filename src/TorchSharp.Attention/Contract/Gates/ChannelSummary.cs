using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// What was pooled of each channel, each (N, C, 1, 1): by libtorch's operations, or by a kernel and then stacked.
/// </summary>
internal readonly struct ChannelSummary
{
    private readonly Tensor? _mean;
    private readonly Tensor? _second;
    private readonly Tensor? _stacked;
    private readonly IPooledLayers? _layers;

    private ChannelSummary(long positions, Tensor? mean, Tensor? second)
    {
        Positions = positions;
        _mean = mean;
        _second = second;
    }

    /// <summary>Of channels that the kernels have pooled.</summary>
    /// <param name="positions">Positions of the map.</param>
    /// <param name="stacked">The statistics, (1 or 2, N, C, 1, 1), in the type of the map.</param>
    /// <param name="layers">The kernels' layers.</param>
    public ChannelSummary(long positions, Tensor stacked, IPooledLayers layers)
    {
        Positions = positions;
        _stacked = stacked;
        _layers = layers;
    }

    /// <summary>Positions of the map.</summary>
    public long Positions { get; }

    public Tensor Mean => _mean ?? _stacked!.select(0, 0);

    public Tensor Maximum => Second;

    public Tensor SquaredDeviations => Second;

    public Tensor Squares => Second;

    /// <summary>Σ |x|.</summary>
    public Tensor Magnitudes => Second;

    private Tensor Second => _second ?? _stacked!.select(0, 1);

    /// <summary>By libtorch's operations.</summary>
    public static ChannelSummary Of(Tensor map, ChannelStatistics reads)
    {
        Tensor mean = map.mean([2, 3], keepdim: true);
        Tensor? second = reads.HasFlag(ChannelStatistics.Maximum) ? map.amax([2, 3], keepdim: true)
            : reads.HasFlag(ChannelStatistics.SquaredDeviations) ? map.sub(mean).Squared().sum([2, 3], keepdim: true)
            : reads.HasFlag(ChannelStatistics.Squares) ? map.Squared().sum([2, 3], keepdim: true)
            : reads.HasFlag(ChannelStatistics.Magnitudes) ? map.abs().sum([2, 3], keepdim: true)
            : null;
        return new ChannelSummary(map.size(2) * map.size(3), mean, second);
    }

    /// <summary>
    /// The gate of a map, (N, C, 1, 1), by libtorch's operations, before the blend of the identity initialization.
    /// </summary>
    public static Tensor Excite(IChannelGate gate, Tensor map) => gate.ExciteChannels(Of(map, gate.Statistics));

    /// <summary>Counts the functions that pool a map for a gate; returns the number of pooled channels.</summary>
    public static long Count(IChannelGate gate, FunctionCount count, Tensor map)
    {
        ChannelStatistics reads = gate.Statistics;
        long values = map.numel(), channels = map.size(0) * map.size(1);
        count.Reduce(values, channels);
        if (reads.HasFlag(ChannelStatistics.SquaredDeviations)) count.Combine(values, values, channels);
        if (reads.HasFlag(ChannelStatistics.SquaredDeviations) || reads.HasFlag(ChannelStatistics.Squares)) count.Map(values);
        if (reads != ChannelStatistics.Mean) count.Reduce(values, channels);
        return channels;
    }

    /// <summary>What was read, one tensor each.</summary>
    public IEnumerable<Tensor> Parts(ChannelStatistics reads) => reads == ChannelStatistics.Mean ? [Mean] : [Mean, Second];

    /// <summary>
    /// A layer of 1×1 convolution on pooled channels. From the kernels it is a matrix product, without a convolution's
    /// preparation.
    /// </summary>
    public Tensor Layer(Modules.Conv2d convolution, Tensor pooled)
        => _layers is null || Hooks.Any(convolution) ? convolution.call(pooled) : _layers.Convolve(convolution, pooled);

    /// <summary>
    /// The gate σ(W₂ δ(W₁ mean + b₁) + b₂) in training, or of both branches' sum; null where the layers must run.
    /// </summary>
    public Tensor? Bottleneck(Modules.Conv2d first, GateActivation activation, Modules.Conv2d second, GateFunction gate)
        => _layers?.Bottleneck(_stacked!, first, activation, second, gate);

    /// <summary>
    /// M(mean) + M(maximum), M(z) = W₂ δ(W₁ z). From the kernels both go through W₁ together and through W₂ as a sum, which is
    /// the same.
    /// </summary>
    public Tensor SumOfBoth(Modules.Conv2d first, GateActivation activation, Modules.Conv2d second)
    {
        if (_stacked is null || Hooks.Any(first) || Hooks.Any(second))
        {
            return second.call(activation.Apply(first.call(Mean))).Plus(second.call(activation.Apply(first.call(Maximum))));
        }

        long batch = _stacked.size(1), channels = _stacked.size(2);
        Tensor hidden = activation.Apply(
            Layer(first, _stacked.view(2 * batch, channels, 1, 1))).view(2, batch, -1, 1, 1).sum([0L]);
        Tensor logits = Layer(second, hidden);
        return second.bias is null ? logits : logits.Plus(second.bias.view(1, channels, 1, 1));
    }
}
