using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// One forward pass of a mixing gate over one map, and what its backward pass hands from step to step:
/// <see cref="CombineFunction"/> finds the gradients of the factors, <see cref="CombinationPoolFunction"/> afterwards writes the
/// input's, all of it, in one pass.
/// </summary>
internal sealed unsafe class CombinationPass(GateCombination mix, MapView view, long height, long width) : IBackwardPass
{
    public GateCombination Mix { get; } = mix;

    public MapView View { get; } = view;

    public CombinationKernels Kernels { get; } = CombinationKernels.For(mix.Kind);

    public bool InputNeedsGradient { get; set; }

    /// <summary>Whether a second derivative was asked for: from then on every step answers with libtorch's operations.</summary>
    public bool Composed { get; set; }

    /// <summary>What the first step pooled, until the last step has saved it.</summary>
    public Tensor? Pooled { get; set; }

    public CombinationBackward? Backward { get; set; }

    /// <summary>In the checked build, the sum of the steps' derivatives by libtorch's operations.</summary>
    public DerivedGradients? Derived { get; set; }

    /// <summary>For messages.</summary>
    public string Name => $"a gate of kind {Mix.Kind}";

    public void Forget()
    {
        Backward?.Dispose();
        Backward = null;
        Derived?.Dispose();
        Derived = null;
    }

    public bool HasThird => Mix.Kind == CombinationKind.SumOfThree;

    /// <summary>Values of rows and columns together.</summary>
    public long StripValues => (long)View.Batch * View.Channels * (height + width);

    public long ChannelValues => (long)View.Batch * View.Channels;

    public long PositionValues => (long)View.Batch * View.Positions;

    private int StripKinds => Mix.Strips == StripReads.MeansAndMaxima ? 2 : 1;

    private long PooledChannels
        => Mix.Channels == ChannelStatistics.Nothing ? 0 : ChannelPooling.Results(Mix.Channels) * ChannelValues;

    private long PooledStrips => Mix.HasStrips ? StripKinds * StripValues : 0;

    private long PooledPositions => Mix.Positions ? 2 * PositionValues : 0;

    /// <summary>Everything that the gate reads of the map, float32, one after the other: channels, strips, positions.</summary>
    public Tensor Pool(Tensor input)
    {
        Tensor pooled = MapView.New([PooledChannels + PooledStrips + PooledPositions]);
        float* results = MapView.Pointer(pooled);
        if (PooledChannels > 0) ChannelPooling.Run(View, Mix.Channels, results);
        if (PooledStrips > 0)
        {
            MapArguments a = Arguments();
            a.First = results + PooledChannels;
            a.Second = a.First + StripValues;
            a.Scale = 1f / width;
            a.ColumnScale = 1f / height;
            if (StripKinds == 2) StripKernels.Reduce<Pooling>(View, a);
            else StripKernels.Reduce<Summing>(View, a);
        }

        if (PooledPositions > 0)
        {
            MapArguments a = View.Arguments();
            a.First = results + PooledChannels + PooledStrips;
            a.Second = a.First + View.Positions;
            a.ResultStride = 2 * (nint)View.Positions;
            a.Scale = 1f / View.Channels;
            MapKernels.OverChannels<Pooling>(View, a);
        }

        GC.KeepAlive(input);
        return pooled;
    }

    /// <summary>Pools the map by libtorch's operations, which can be differentiated again.</summary>
    public Tensor PoolComposed(Tensor input)
    {
        List<Tensor> parts = [];
        PooledMap read = new(input, Mix);
        if (PooledChannels > 0) parts.AddRange(read.Channels.Parts(Mix.Channels));
        if (PooledStrips > 0) parts.Add(InMemory(read.Strips));
        if (StripKinds == 2) parts.Add(InMemory(cat([read.RowMaxima, read.ColumnMaxima.transpose(2, 3)], 2)));
        if (PooledPositions > 0) parts.Add(read.Positions);
        return cat([.. parts.Select(part => part.reshape(-1))], 0).to_type(ScalarType.Float32);
    }

    /// <summary>What the factors are made of.</summary>
    public PooledMap Read(Tensor input, Tensor? pooled)
    {
        if (pooled is null) return new(input, Mix);
        ChannelSummary? channels = Channels(pooled) is { } c ? PooledLayers.Summarize(c, View) : null;
        return new(input, Mix, channels, Typed(Strips(pooled)), Typed(Positions(pooled)));
    }

    /// <summary>Pooled channels or their gradient, (1 or 2, N, C, 1, 1).</summary>
    public Tensor? Channels(Tensor pooled)
        => PooledChannels == 0 ? null : pooled.narrow(0, 0, PooledChannels).view(-1, View.Batch, View.Channels, 1, 1);

    /// <summary>Pooled positions or their gradient, (N, 2, H, W).</summary>
    public Tensor? Positions(Tensor pooled)
        => PooledPositions == 0
            ? null
            : pooled.narrow(0, PooledChannels + PooledStrips, PooledPositions).view(View.Batch, 2, height, width);

    /// <summary>Pooled strips or their gradient, (1 or 2, N, C, H + W, 1).</summary>
    public Tensor? Strips(Tensor pooled)
        => PooledStrips == 0 ? null : FromMemory(pooled.narrow(0, PooledChannels, PooledStrips), StripKinds);

    /// <summary>Whether the factors and an identity start's scale have the map's type, so that the refined map has it.</summary>
    public bool KeepsType(CombinationFactors factors, Tensor? alpha)
        => factors.First.dtype == View.Type && factors.Second.dtype == View.Type
            && (factors.Third is null || factors.Third.dtype == View.Type)
            && (alpha is null || alpha.dtype == View.Type);

    /// <summary>
    /// The factors as the kernels read them, float32: the first two of strips together, a third or another second by itself.
    /// </summary>
    public (Tensor First, Tensor? Second) Arrange(CombinationFactors factors)
    {
        if (!Mix.HasStrips) return (Plain(factors.First), Plain(factors.Second));
        return (Join(factors), factors.Third is null ? null : Plain(factors.Third));
    }

    /// <summary>Values of rows and of columns together as they lie in memory.</summary>
    public Tensor Join(CombinationFactors factors)
        => Plain(InMemory(cat([factors.First, factors.Second.transpose(2, 3)], 2)));

    /// <summary>The factors in their own shapes, of what <see cref="Arrange"/> made of them.</summary>
    public CombinationFactors Disarrange(Tensor first, Tensor? second)
    {
        if (!Mix.HasStrips) return new(first, second!);
        Tensor joined = FromMemory(first.reshape(-1), 1)[0];
        return new(joined.narrow(2, 0, height), joined.narrow(2, height, width).transpose(2, 3), second);
    }

    /// <summary>y = x · g, into a new map or over the input; with a residual, y = max(x · g + residual, 0).</summary>
    public Tensor Apply(Tensor input, Tensor first, Tensor? second, float? alpha, bool overwrite = false, Tensor? residual = null)
    {
        Tensor? output = null;
        void* values = overwrite ? View.Values : View.Like(input, out output).Values;
        MapArguments a = Arguments(first, second, alpha);
        a.Y = values;
        if (residual is not null) a.Residual = MapView.Pointer(residual);
        Kernels.Apply(View, a, Mix.HasStrips, residual is not null);
        GC.KeepAlive(input);
        GC.KeepAlive(first);
        GC.KeepAlive(second);
        GC.KeepAlive(residual);
        return output ?? input;
    }

    /// <summary>With the factors and, of an identity start, 1 + alpha (g − 1).</summary>
    public MapArguments Arguments(Tensor first, Tensor? second, float? alpha)
    {
        MapArguments a = Arguments();
        a.FirstFactor = MapView.Pointer(first);
        a.SecondFactor = Mix.HasStrips ? a.FirstFactor : MapView.Pointer(second!);
        if (HasThird) a.ThirdFactor = MapView.Pointer(second!);
        a.MixScale = alpha ?? 1;
        a.MixOffset = Mix.PlusOne ? 1 : 1 - a.MixScale;
        return a;
    }

    public MapArguments Arguments()
    {
        MapArguments a = View.Arguments();
        a.Channels = View.Channels;
        a.Height = (int)height;
        a.Width = (int)width;
        return a;
    }

    /// <summary>(N, C, H + W, 1) in the order in which strips lie in memory.</summary>
    private Tensor InMemory(Tensor strips) => View.IsChannelsLast ? strips.permute(0, 2, 3, 1) : strips;

    /// <summary>(kinds, N, C, H + W, 1) of values as they lie in memory.</summary>
    public Tensor FromMemory(Tensor values, int kinds) => View.IsChannelsLast
        ? values.view(kinds, View.Batch, height + width, 1, View.Channels).permute(0, 1, 4, 2, 3)
        : values.view(kinds, View.Batch, View.Channels, height + width, 1);

    private Tensor? Typed(Tensor? pooled) => View.IsBFloat16 ? pooled?.to_type(ScalarType.BFloat16) : pooled;

    private static Tensor Plain(Tensor factor) => factor.to_type(ScalarType.Float32).contiguous();
}
