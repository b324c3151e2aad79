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

    private ChannelSummary(long positions, Tensor? mean, Tensor? second, Tensor? stacked)
    {
        Positions = positions;
        _mean = mean;
        _second = second;
        _stacked = stacked;
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
            : reads.HasFlag(ChannelStatistics.SquaredDeviations) ? map.sub(mean).square().sum([2, 3], keepdim: true)
            : reads.HasFlag(ChannelStatistics.Squares) ? map.square().sum([2, 3], keepdim: true)
            : reads.HasFlag(ChannelStatistics.Magnitudes) ? map.abs().sum([2, 3], keepdim: true)
            : null;
        return new ChannelSummary(map.size(2) * map.size(3), mean, second, null);
    }

    /// <summary>The functions of <see cref="Of(Tensor, ChannelStatistics)"/>; returns the number of pooled channels.</summary>
    public static long Count(FunctionCount count, Tensor map, ChannelStatistics reads)
    {
        long values = map.numel(), channels = map.size(0) * map.size(1);
        count.Reduce(values, channels);
        if (reads.HasFlag(ChannelStatistics.SquaredDeviations)) count.Combine(values, values, channels);
        if (reads.HasFlag(ChannelStatistics.SquaredDeviations) || reads.HasFlag(ChannelStatistics.Squares)) count.Map(values);
        if (reads != ChannelStatistics.Mean) count.Reduce(values, channels);
        return channels;
    }

    /// <summary>From the kernel's stacked results, (1 or 2, N, C, 1, 1).</summary>
    public static ChannelSummary Of(Tensor stacked, MapView view)
        => new(view.Positions, null, null, view.IsBFloat16 ? stacked.to_type(ScalarType.BFloat16) : stacked);

    /// <summary>What was read, one tensor each.</summary>
    public IEnumerable<Tensor> Parts(ChannelStatistics reads) => reads == ChannelStatistics.Mean ? [Mean] : [Mean, Second];

    /// <summary>
    /// A layer of 1×1 convolution on pooled channels. From the kernels it is a matrix product, without a convolution's
    /// preparation.
    /// </summary>
    public Tensor Layer(Modules.Conv2d convolution, Tensor pooled)
    {
        if (_stacked is null || Hooks.Any(convolution)) return convolution.call(pooled);
        Tensor weight = convolution.weight!;
        long rows = pooled.size(0), outputs = weight.size(0);
        if (FewRowsProduct.TryRun(pooled, rows, weight, convolution.bias) is { } product) return product;
        return nn.functional.linear(pooled.view(rows, -1), weight.view(outputs, -1), convolution.bias).view(rows, outputs, 1, 1);
    }

    /// <summary>
    /// The gate σ(W₂ δ(W₁ mean + b₁) + b₂) in training, or of both branches' sum; null where the layers must run.
    /// </summary>
    public Tensor? Bottleneck(Modules.Conv2d first, GateActivation activation, Modules.Conv2d second, GateFunction gate)
        => _stacked is null ? null : BottleneckGate.TryRun(_stacked, first, activation, second, gate);

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
        Tensor hidden = activation.Apply(Layer(first, _stacked.view(2 * batch, channels, 1, 1))).view(2, batch, -1, 1, 1).sum([0L]);
        Tensor logits = Layer(second, hidden);
        return second.bias is null ? logits : logits.Plus(second.bias.view(1, channels, 1, 1));
    }
}
