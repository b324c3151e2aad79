using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// One forward pass of a gate over one map, and what its backward pass hands from step to step. The backward steps run in the
/// opposite order: <see cref="ApplyFunction"/>, <see cref="PoolPositionsFunction"/>, <see cref="PoolChannelsFunction"/>. The
/// first of the forward steps writes the input's gradient, all of it, in one pass; the others pass none back.
/// </summary>
internal sealed unsafe class GatePass(GateParts parts, MapView view) : IBackwardPass
{
    public GateParts Parts { get; } = parts;

    public MapView View { get; private set; } = view;

    /// <summary>
    /// The norm before the gate whose output nobody writes: then the map's values are those of the norm's input.
    /// </summary>
    public Modules.BatchNorm2d? Norm { get; private set; }

    /// <summary>What the kernels need of it, (arrays, N, C); every step saves it, for the view points to it.</summary>
    public Tensor? NormValues { get; set; }

    /// <summary>From the backward step that did the norm's part to the norm's own.</summary>
    public NormGradients? NormGradients { get; set; }

    public bool InputNeedsGradient { get; set; }

    public bool PooledNeedsGradient { get; set; }

    public bool ResidualNeedsGradient { get; set; }

    /// <summary>Whether a second derivative was asked for: from then on every step answers with libtorch's operations.</summary>
    public bool Composed { get; set; }

    /// <summary>What the forward steps pooled, until the last step has saved it.</summary>
    public Tensor? PooledChannels { get; set; }

    public Tensor? PooledPositions { get; set; }

    /// <summary>Set from the backward of the last step to the backward of the first.</summary>
    public GateBackward? Backward { get; set; }

    /// <summary>In the checked build, the sums of the steps' derivatives by libtorch's operations.</summary>
    public DerivedGradients? Derived { get; set; }

    /// <summary>The gate's modules, for messages.</summary>
    public string Name
        => string.Join(
            " and ", new IFusableGate?[] { Parts.Channel, Parts.Spatial }.OfType<IFusableGate>().Select(
                half => $"{half.Module.GetName()}({half.Module.Channels})"));

    /// <summary>Compares the input's gradient, of all steps together, with what libtorch's operations make of it.</summary>
    public void CheckInputGradient(Tensor map, Tensor? gradient)
    {
        if (Derived?.Input is not { } expected || gradient is null) return;
        if (Norm is null)
        {
            KernelCheck.Same($"The gradient of the feature map of {Name}", map, expected, gradient);
            return;
        }

        Tensor?[] behind = KernelCheck.Derive(() => [.. DeferredBatchNorm.Derive(map, Norm.weight!, Norm.eps, expected)])!;
        KernelCheck.Same($"The gradient of the feature map of a batch norm before {Name}", map, behind[0], gradient);
        if (NormGradients is { } norm)
        {
            using Tensor weight = DeferredBatchNorm.New(norm.Weight), bias = DeferredBatchNorm.New(norm.Bias);
            KernelCheck.Same($"The gradient of the weight of a batch norm before {Name}", map, behind[1], weight);
            KernelCheck.Same($"The gradient of the bias of a batch norm before {Name}", map, behind[2], bias);
        }

        GateAutograd.Dispose(behind);
    }

    /// <summary>Begins behind a norm.</summary>
    public void Await(Modules.BatchNorm2d norm)
    {
        Norm = norm;
        NormValues = MapView.New([DeferredBatchNorm.Arrays, View.Batch, View.Channels]);
        View = View.AfterNorm(MapView.Pointer(NormValues));
    }

    public void Forget()
    {
        Backward?.Dispose();
        Backward = null;
        Derived?.Dispose();
        Derived = null;
    }

    /// <summary>Mean and, where the gate reads one, a second value of each channel, (1 or 2, N, C, 1, 1) in float32.</summary>
    public Tensor PoolChannels(Tensor input)
    {
        ChannelStatistics reads = Parts.Channel!.Statistics;
        Tensor pooled = MapView.New([ChannelPooling.Results(reads), View.Batch, View.Channels, 1, 1]);
        if (Norm is null) ChannelPooling.Run(View, reads, MapView.Pointer(pooled));
        else DeferredBatchNorm.Pool(View, reads, MapView.Pointer(pooled));
        GC.KeepAlive(input);
        return pooled;
    }

    /// <summary>Mean and maximum over channels of the gated map, (N, 2, H, W) in float32.</summary>
    public Tensor PoolPositions(Tensor input, Tensor? channel, long height, long width)
    {
        Tensor pooled = MapView.New([View.Batch, 2, height, width]);
        MapArguments a = View.Arguments();
        a.First = MapView.Pointer(pooled);
        a.Second = a.First + View.Positions;
        a.ResultStride = 2 * (nint)View.Positions;
        a.Scale = 1f / View.Channels;
        if (channel is null)
        {
            MapKernels.OverChannels<Pooling>(View, a);
        }
        else
        {
            a.ChannelGate = MapView.Pointer(channel);
            MapKernels.OverChannels<GatedPooling>(View, a);
        }

        GC.KeepAlive(input);
        GC.KeepAlive(channel);
        return pooled;
    }

    /// <summary>y = x · c · s, into a new map or over the input; with a residual, y = max(x · c · s + residual, 0).</summary>
    public Tensor Apply(Tensor input, Tensor? channel, Tensor? spatial, bool overwrite = false, Tensor? residual = null)
    {
        Tensor? output = null;
        void* values = overwrite ? View.Values : View.Like(input, out output).Values;
        using Tensor? ones = channel is null ? MapView.New([View.Batch, View.Channels]).fill_(Scalars.One) : null;
        MapArguments a = View.Arguments();
        a.Y = values;
        a.ChannelGate = MapView.Pointer(channel ?? ones!);
        a.PositionGate = spatial is null ? null : MapView.Pointer(spatial);
        if (residual is null)
        {
            if (spatial is null) MapKernels.Write<ApplyChannel>(View, a);
            else MapKernels.Write<ApplyBoth>(View, a);
        }
        else
        {
            a.Residual = MapView.Pointer(residual);
            if (spatial is null) MapKernels.Write<AddRectified<ApplyChannel>>(View, a, maps: 3);
            else MapKernels.Write<AddRectified<ApplyBoth>>(View, a, maps: 3);
        }

        GC.KeepAlive(input);
        GC.KeepAlive(channel);
        GC.KeepAlive(spatial);
        GC.KeepAlive(residual);
        return output ?? input;
    }
}
