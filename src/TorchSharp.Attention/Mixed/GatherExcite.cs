// Gather-excite. Jie Hu, Li Shen, Samuel Albanie, Gang Sun, Andrea Vedaldi: "Gather-Excite: Exploiting Feature Context in
// Convolutional Neural Networks", 2018, arXiv:1810.12348. The released Caffe code holds a part of it; timm has all of it and
// always excites through an MLP by default. timm pads the convolution over the whole map, so that its result is a map, not the
// paper's single position: see PadWholeMap.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="GatherExcite"/>. Defaults: the paper's GE-θ⁻ of global extent.</summary>
[AttentionKind("ge")]
public sealed record GatherExciteOptions : AttentionOptions
{
    /// <summary>The paper's GE-θ⁻, global: means over the whole map, no parameters.</summary>
    public static GatherExciteOptions Paper { get; } = new();

    /// <summary>The paper's GE-θ: gathered by depthwise convolutions, extent 8.</summary>
    public static GatherExciteOptions Theta { get; } = new() { Extent = 8, GatherParameters = true };

    /// <summary>The paper's GE-θ⁺: gathered by depthwise convolutions and excited through a bottleneck, extent 8.</summary>
    public static GatherExciteOptions ThetaPlus { get; } = new() { Extent = 8, GatherParameters = true, Mlp = true };

    /// <summary>timm's <c>ge</c>: global means excited through a bottleneck of C / 16 rounded to the nearest integer.</summary>
    public static GatherExciteOptions Timm { get; } = new() { Mlp = true, RoundingDivisor = 1 };

    /// <summary>
    /// timm's <c>ge</c> with <c>extra_params</c> over the whole map: a padded convolution of the
    /// map's size gathers, a bottleneck excites.
    /// </summary>
    /// <param name="mapHeight">Height of the maps, timm's <c>feat_size[0]</c>.</param>
    /// <param name="mapWidth">Width of the maps, timm's <c>feat_size[1]</c>.</param>
    public static GatherExciteOptions TimmWholeMap(int mapHeight, int mapWidth)
        => Timm with { GatherParameters = true, PadWholeMap = true, MapHeight = mapHeight, MapWidth = mapWidth };

    /// <summary>
    /// Extent e in positions: how far a position gathers, at a stride of e. 0 for the whole map. Otherwise even; a power of two
    /// with <see cref="GatherParameters"/>. Default 0.
    /// </summary>
    public int Extent { get; init; }

    /// <summary>
    /// Whether depthwise convolutions gather, log₂ e of 3×3 and stride 2 with batch norms (ReLU between), or for the whole map
    /// one of the map's size, instead of a mean. Default false.
    /// </summary>
    public bool GatherParameters { get; init; }

    /// <summary>Height of the maps. It is needed only by a convolution over the whole map. Default null.</summary>
    public int? MapHeight { get; init; }

    /// <summary>Width of the maps. It is needed only by a convolution over the whole map. Default null.</summary>
    public int? MapWidth { get; init; }

    /// <summary>
    /// Whether the convolution over the whole map is padded with zeros by half its size, as timm's: every position then gathers
    /// what the kernel around it covers, and maps of any size fit. Default false: the paper's, one value per channel.
    /// </summary>
    public bool PadWholeMap { get; init; }

    /// <summary>Gathers the average of mean and maximum instead of the mean; not with parameters. Default false.</summary>
    public bool MaxPool { get; init; }

    /// <summary>
    /// Whether a bottleneck of two 1×1 convolutions with biases excites, W₂ δ(W₁ z), instead of z itself. Default false.
    /// </summary>
    public bool Mlp { get; init; }

    /// <summary>Reduction r: the bottleneck has C / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Activation of the bottleneck and between gathering convolutions. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.NotNegative(Extent);
        if (Extent % 2 != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(Extent), Extent, $"Extent is {Extent}; it must be 0 (the whole map) or even, for example {Extent + 1}.");
        }

        if (GatherParameters && Extent > 0 && !int.IsPow2(Extent))
        {
            throw new ArgumentOutOfRangeException(
                nameof(Extent), Extent,
                $"Extent is {Extent}; gathering with parameters halves the map, so it must be a power of two, or 0.");
        }

        bool needsSize = GatherParameters && Extent == 0;
        CheckSize(MapHeight, nameof(MapHeight), needsSize);
        CheckSize(MapWidth, nameof(MapWidth), needsSize);
        if (PadWholeMap && !needsSize)
        {
            throw new ArgumentException(
                "PadWholeMap is true, but no convolution gathers the whole map. Set it to false, or GatherParameters = true " +
                "and Extent = 0.",
                nameof(PadWholeMap));
        }

        if (MaxPool && GatherParameters)
        {
            throw new ArgumentException(
                "MaxPool is true, but convolutions gather. Set GatherParameters = false.", nameof(MaxPool));
        }

        if (Mlp) ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
        Check.Defined(Activation);
        Check.Defined(Gate);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new GatherExcite(channels, this);

    private static void CheckSize(int? size, string name, bool needed)
    {
        if (needed && size is null)
        {
            throw new ArgumentException(
                $"{name} is null; gathering the whole map with parameters takes a kernel of the map's size. " +
                "Set it, or an Extent.", name);
        }

        if (!needed && size is not null)
        {
            throw new ArgumentException(
                $"{name} is {size}, but only gathering the whole map with parameters depends on the map's size. Leave it null.",
                name);
        }

        if (size is int given) Check.Positive(given, name);
    }
}

/// <summary>
/// Gather-excite: y = x · σ(up(E(ξ(x)))), ξ gathers neighbourhoods of 2e − 1 positions at a stride of e (means, or depthwise
/// convolutions; the whole map for e = 0), E is nothing or a bottleneck W₂ δ(W₁ z), up repeats to the size of x (nearest). With e
/// = 0, means and a bottleneck this is squeeze-and-excitation. Gate (N, C, H, W), for the whole map (N, C, 1, 1). Keys
/// <c>gather.conv1</c>, <c>gather.norm1</c>, …, <c>mlp.fc1</c>, <c>mlp.fc2</c>, as timm.
/// </summary>
/// <remarks>
/// Hu, Shen, Albanie, Sun, Vedaldi: "Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks", 2018,
/// arXiv:1810.12348. Means count positions of the map alone, not the padding. A module that gathers the whole map with
/// parameters takes maps of <see cref="GatherExciteOptions.MapHeight"/> × <see cref="GatherExciteOptions.MapWidth"/> and
/// refuses others, unless <see cref="GatherExciteOptions.PadWholeMap"/>: then its gate is (N, C, H, W), and an even kernel
/// leaves a row and a column less, which nearest places stretch again. <see cref="AttentionInitialization.Paper"/> is
/// PyTorch's own start of a convolution.
/// </remarks>
public sealed class GatherExcite : GateModule, IChannelGate
{
    private static readonly Scalar Half = 0.5.ToScalar();

    [ComponentName(Name = "gather")]
    private readonly Gatherer? _gather;

    [ComponentName(Name = "mlp")]
    private readonly Bottleneck? _mlp;

    private readonly GatherExciteOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or two do not go together.</exception>
    public GatherExcite(int channels, GatherExciteOptions? options = null)
        : base(channels, options ??= GatherExciteOptions.Paper)
    {
        _options = options;
        if (options.GatherParameters) _gather = new Gatherer(channels, options);
        if (options.Mlp) _mlp = new Bottleneck(channels, options);
        Complete();
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), channels = input.size(0) * Channels, gathered;
        if (_gather is not null)
        {
            gathered = count.Values(_gather);
        }
        else
        {
            long stride = Math.Max(1, _options.Extent), window = (2 * stride) - 1;
            gathered = _options.Extent == 0
                ? channels
                : channels * ((input.size(2) + stride - 1) / stride) * ((input.size(3) + stride - 1) / stride);
            for (int pool = 0; pool < (_options.MaxPool ? 2 : 1); pool++)
            {
                if (_options.Extent == 0) count.Reduce(values, gathered);
                else count.Pool(values, gathered, window * window);
            }

            if (_options.MaxPool)
            {
                count.Combine(gathered, gathered, gathered);
                count.Map(gathered);
            }
        }

        bool sized = _options.Extent > 0 || _options.PadWholeMap;
        if (sized) count.Resize(gathered, values, 0);
        count.Map(sized ? values : gathered);
        return sized ? values : gathered;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        Tensor gathered = _gather is null ? Pool(input) : Gather(_gather, input);
        if (_mlp is not null) gathered = _mlp.call(gathered);
        if (_options.Extent > 0 || _options.PadWholeMap)
        {
            gathered = nn.functional.interpolate(gathered, [input.size(2), input.size(3)]);
        }

        return _options.Gate.Apply(gathered);
    }

    /// <summary>Over the whole map and without parameters, gathering is pooling.</summary>
    bool IChannelGate.IsChannelGate => _gather is null && _options.Extent == 0;

    ChannelStatistics IChannelGate.Statistics
        => _options.MaxPool ? ChannelStatistics.Mean | ChannelStatistics.Maximum : ChannelStatistics.Mean;

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled)
    {
        Tensor gathered = _options.MaxPool ? pooled.Mean.Plus(pooled.Maximum).mul(Half) : pooled.Mean;
        return _options.Gate.Apply(_mlp is null ? gathered : _mlp.call(gathered));
    }

    private Tensor Gather(Gatherer gather, Tensor input)
    {
        if (_options.PadWholeMap)
        {
            bool reached = (_options.MapHeight % 2 == 1 || input.size(2) > 1)
                && (_options.MapWidth % 2 == 1 || input.size(3) > 1);
            return reached ? gather.call(input) : throw new ArgumentException(
                $"{GetName()} has an even kernel, {_options.MapHeight}×{_options.MapWidth}, whose padding leaves nothing of a " +
                "single row or " +
                $"column; input has shape {Check.Shape(input)}. Use odd MapHeight and MapWidth, or larger maps.", nameof(input));
        }

        bool fits = _options.Extent > 0 || (input.size(2) == _options.MapHeight && input.size(3) == _options.MapWidth);
        return fits ? gather.call(input) : throw new ArgumentException(
            $"{GetName()} gathers whole maps of {_options.MapHeight}×{_options.MapWidth} positions with parameters; " +
            "input has shape " +
            $"{Check.Shape(input)}. Set an Extent for maps of any size.", nameof(input));
    }

    private Tensor Pool(Tensor input)
    {
        if (_options.Extent == 0)
        {
            Tensor mean = input.mean([2, 3], keepdim: true);
            return _options.MaxPool ? mean.Plus(input.amax([2, 3], keepdim: true)).mul(Half) : mean;
        }

        long stride = _options.Extent, kernel = (2 * stride) - 1, padding = stride - 1;
        Tensor means = nn.functional.avg_pool2d(
            input, kernel, stride: stride, padding: padding, ceil_mode: false, count_include_pad: false);
        return _options.MaxPool
            ? means.Plus(nn.functional.max_pool2d(input, kernel, stride: stride, padding: padding)).mul(Half)
            : means;
    }

    /// <summary>Depthwise convolutions and their norms, conv1, norm1, conv2, ….</summary>
    private sealed class Gatherer : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        private readonly (Conv2d Conv, BatchNorm2d Norm)[] _steps;
        private readonly GateActivation _activation;

        public Gatherer(int channels, GatherExciteOptions options)
            : base(nameof(Gatherer))
        {
            _activation = options.Activation;
            _steps = new (Conv2d, BatchNorm2d)[options.Extent == 0 ? 1 : int.Log2(options.Extent)];
            for (int i = 0; i < _steps.Length; i++)
            {
                Conv2d conv = options.Extent == 0
                    ? Whole(options.MapHeight!.Value, options.MapWidth!.Value)
                    : nn.Conv2d(channels, channels, 3, stride: 2, padding: 1, groups: channels, bias: false);
                _steps[i] = (conv, nn.BatchNorm2d(channels));
                register_module($"conv{i + 1}", conv);
                register_module($"norm{i + 1}", _steps[i].Norm);
            }

            RegisterComponents();

            Conv2d Whole(long height, long width)
            {
                (long, long) padding = options.PadWholeMap ? ((height - 1) / 2, (width - 1) / 2) : (0, 0);
                return nn.Conv2d(channels, channels, (height, width), padding: padding, groups: channels, bias: false);
            }
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor map = input;
            for (int i = 0; i < _steps.Length; i++)
            {
                if (i > 0) map = _activation.Apply(map);
                map = _steps[i].Norm.CallAnyBatch(_steps[i].Conv.call(map));
            }

            return map.MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs)
        {
            foreach ((Conv2d conv, _) in _steps[..^1]) count.Map(count.Values(conv));
        }
    }

    private sealed class Bottleneck : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "fc1")]
        private readonly Conv2d _fc1;

        [ComponentName(Name = "fc2")]
        private readonly Conv2d _fc2;

        private readonly GateActivation _activation;

        public Bottleneck(int channels, GatherExciteOptions options)
            : base(nameof(Bottleneck))
        {
            int width = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
            _activation = options.Activation;
            _fc1 = nn.Conv2d(channels, width, 1);
            _fc2 = nn.Conv2d(width, channels, 1);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            return _fc2.call(_activation.Apply(_fc1.call(input))).MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs) => count.Map(count.Values(_fc1));
    }
}
