// U-Net. Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, arXiv:1505.04597,
// with padded convolutions, so that the logits have the image's size, and batch norm. A backbone as encoder follows the common
// practice of segmentation libraries: its feature pyramid is the encoder, a finest level without skip restores the image's size.
// The preset AttentionUNet has the structure of MONAI's AttentionUnet, which differs in down-sampling, up-sampling and decoder.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The norm after each convolution of a <see cref="UNet"/>.</summary>
public enum UNetNorm
{
    /// <summary>Batch norm.</summary>
    Batch,

    /// <summary>Instance norm with learnable scale and shift.</summary>
    Instance,

    /// <summary>Group norm of <see cref="UNetOptions.NormGroups"/> groups.</summary>
    Group,

    /// <summary>None; the convolutions have biases instead.</summary>
    None,
}

/// <summary>How the decoder of a <see cref="UNet"/> doubles its resolution.</summary>
public enum UNetUpSampling
{
    /// <summary>Transposed convolution of kernel and stride 2 (or the level's stride).</summary>
    Transposed,

    /// <summary>Bilinear interpolation (half-pixel centres) and a 1×1 convolution.</summary>
    Bilinear,

    /// <summary>
    /// Transposed convolution of <see cref="UNetOptions.UpKernelSize"/>, padded to exactly double the size (or as the level's stride
    /// says), its norm and ReLU.
    /// </summary>
    TransposedBlock,
}

/// <summary>How the plain encoder of a <see cref="UNet"/> halves its resolution.</summary>
public enum UNetDownSampling
{
    /// <summary>Max-pooling, which leaves out a last odd row or column.</summary>
    MaxPool,

    /// <summary>Stride of the next level's first convolution.</summary>
    Strided,
}

/// <summary>What a decoder level of a <see cref="UNet"/> makes of the concatenated skip and deeper map.</summary>
public enum UNetDecoder
{
    /// <summary>Two 3×3 convolutions with norm and ReLU, as the encoder's levels.</summary>
    DoubleConvolution,

    /// <summary>One 3×3 convolution with bias, an instance norm without parameters, and a PReLU with one slope: MONAI's.</summary>
    Merge,
}

/// <summary>The shape of a <see cref="UNet"/>. A value; the defaults are the paper's widths.</summary>
public sealed record UNetOptions
{
    private const int DefaultDepth = 4;

    /// <summary>
    /// MONAI's <c>AttentionUnet</c>: strided convolutions down, 3×3 transposed convolutions with norm and ReLU up, one merging
    /// convolution a decoder level, biases throughout, attention gates on all skip connections. Set <see cref="Widths"/>,
    /// <see cref="Strides"/>, <see cref="InputChannels"/> and <see cref="Classes"/>.
    /// </summary>
    public static UNetOptions AttentionUNet { get; } = new()
    {
        DownSampling = UNetDownSampling.Strided,
        UpSampling = UNetUpSampling.TransposedBlock,
        Decoder = UNetDecoder.Merge,
        ConvolutionBias = true,
        Attention = AttentionPlan.Of(new AttentionGateOptions(), AttentionPosition.Skip),
    };

    /// <summary>
    /// Number of times that the plain encoder halves the resolution. Default null: 4 (or one less than there are
    /// <see cref="Widths"/>). With an <see cref="Encoder"/> its pyramid says how many, and this must be null.
    /// </summary>
    public int? Depth { get; init; }

    /// <summary>
    /// Channels of each level, finest first. Plain encoder: depth + 1 numbers, the last one the bottleneck's; default 64, doubling each
    /// level. With an <see cref="Encoder"/>: the decoder's levels; default 16, doubling each level.
    /// </summary>
    public ValueList<int>? Widths { get; init; }

    /// <summary>Channels of the image. Default 3. With an <see cref="Encoder"/>, this and not the encoder's number counts.</summary>
    public int InputChannels { get; init; } = 3;

    /// <summary>Number of maps in the output, one logit a class and pixel. Default 1.</summary>
    public int Classes { get; init; } = 1;

    /// <summary>Norm after each convolution of the plain encoder and the decoder. Default batch norm.</summary>
    public UNetNorm Norm { get; init; }

    /// <summary>Groups of a group norm; they must divide every width. Default 8.</summary>
    public int NormGroups { get; init; } = 8;

    /// <summary>How the decoder doubles its resolution. Default transposed convolution.</summary>
    public UNetUpSampling UpSampling { get; init; }

    /// <summary>Kernel size of the transposed convolutions of <see cref="UNetUpSampling.TransposedBlock"/>, odd. Default 3.</summary>
    public int UpKernelSize { get; init; } = 3;

    /// <summary>How the plain encoder halves its resolution. Default max-pooling.</summary>
    public UNetDownSampling DownSampling { get; init; }

    /// <summary>Step of resolution below each level of the plain encoder, finest first. Default null: 2 each.</summary>
    public ValueList<int>? Strides { get; init; }

    /// <summary>What a decoder level consists of. Default two convolutions.</summary>
    public UNetDecoder Decoder { get; init; }

    /// <summary>Kernel size of the double convolutions, odd. Default 3.</summary>
    public int KernelSize { get; init; } = 3;

    /// <summary>
    /// Gives convolutions a bias although a norm follows that takes it away again, as released networks do. Default false: only
    /// convolutions without a norm have one.
    /// </summary>
    public bool ConvolutionBias { get; init; }

    /// <summary>
    /// Probability, in [0, 1), of zeroing an element between norm and activation of encoder and decoder convolutions, in training.
    /// Default 0.
    /// </summary>
    public double Dropout { get; init; }

    /// <summary>A ResNet or MobileNetV2 whose feature pyramid is the encoder, with its own plan. Default null: the plain encoder.</summary>
    public BackboneOptions? Encoder { get; init; }

    /// <summary>Which attention goes where. Default none.</summary>
    public AttentionPlan Attention { get; init; } = AttentionPlan.None;

    /// <summary>Checks the shape without building anything.</summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public void Validate() => Levels();

    /// <summary>The levels above the bottleneck, finest first, and the bottleneck's channels.</summary>
    internal (IReadOnlyList<UNetLevel> Levels, int Bottleneck) Levels()
    {
        Check.Positive(InputChannels);
        Check.Positive(Classes);
        Check.Defined(Norm);
        Check.Positive(NormGroups);
        Check.Defined(UpSampling);
        Check.Defined(DownSampling);
        Check.Defined(Decoder);
        Check.OddKernel(KernelSize);
        Check.OddKernel(UpKernelSize);
        Check.Probability(Dropout, oneAllowed: false);
        ArgumentNullException.ThrowIfNull(Attention);
        (List<UNetLevel> levels, int bottleneck) = Encoder is null ? PlainLevels() : BackboneLevels(Encoder);
        if (Norm == UNetNorm.Group)
        {
            IEnumerable<int> normed = levels.Select(level => level.Width);
            foreach (int width in Encoder is null ? normed.Append(bottleneck) : normed)
            {
                if (width % NormGroups != 0)
                {
                    throw new ArgumentOutOfRangeException(
                        nameof(NormGroups), NormGroups, $"NormGroups is {NormGroups}, which does not divide the width {width}. Choose a divisor of every width.");
                }
            }
        }

        return (levels, bottleneck);
    }

    private (List<UNetLevel> Levels, int Bottleneck) PlainLevels()
    {
        int depth = Depth ?? (Widths?.Count - 1) ?? DefaultDepth;
        if (depth is < 1 or > 8) throw new ArgumentOutOfRangeException(nameof(Depth), depth, $"Depth is {depth}; it must be 1 to 8.");
        ValueList<int> widths = Widths ?? ValueList.Create<int>([.. Enumerable.Range(0, depth + 1).Select(i => 64 << i)]);
        if (widths.Count != depth + 1)
        {
            throw new ArgumentException($"Widths is {widths}; a depth of {depth} has {depth + 1} levels with the bottleneck.", nameof(Widths));
        }

        foreach (int width in widths) Check.Positive(width, nameof(Widths));
        if (Strides is not null && Strides.Count != depth)
        {
            throw new ArgumentException($"Strides is {Strides}; a depth of {depth} has {depth} steps.", nameof(Strides));
        }

        List<UNetLevel> levels = [];
        int reduction = 1;
        for (int i = 0; i < depth; i++)
        {
            int stride = Strides?[i] ?? 2;
            if (stride is < 1 or > 8)
            {
                throw new ArgumentOutOfRangeException(nameof(Strides), stride, $"Strides is {Strides}; each must be 1 to 8.");
            }

            levels.Add(new UNetLevel(reduction, widths[i], widths[i], i, stride));
            reduction *= stride;
        }

        return (levels, widths[^1]);
    }

    private (List<UNetLevel> Levels, int Bottleneck) BackboneLevels(BackboneOptions backbone)
    {
        if (Depth is int depth)
        {
            throw new ArgumentException($"Depth is {depth}, but the encoder's pyramid says how deep the network is. Leave Depth null.", nameof(Depth));
        }

        if (Strides is not null || DownSampling != default)
        {
            string name = Strides is null ? nameof(DownSampling) : nameof(Strides);
            throw new ArgumentException($"{name} is set, but the encoder halves the resolution in its own way. Leave it at its default.", name);
        }

        (ValueList<int> channels, ValueList<int> reductions) = backbone.Pyramid();
        List<UNetLevel> levels = [];
        for (int i = 0; i < channels.Count - 1; i++)
        {
            // Of several maps of one resolution the last one is the level's.
            if (reductions[i] != reductions[i + 1]) levels.Add(new UNetLevel(reductions[i], 0, channels[i], i));
        }

        if (reductions[0] > 1) levels.Insert(0, new UNetLevel(1, 0, 0, null));
        ValueList<int> widths = Widths ?? ValueList.Create<int>([.. Enumerable.Range(0, levels.Count).Select(i => 16 << i)]);
        if (widths.Count != levels.Count)
        {
            throw new ArgumentException($"Widths is {widths}; with this encoder the decoder has {levels.Count} levels.", nameof(Widths));
        }

        foreach (int width in widths) Check.Positive(width, nameof(Widths));
        return ([.. levels.Select((level, i) => level with { Width = widths[i] })], channels[^1]);
    }
}

/// <summary>A level of a U-Net above the bottleneck.</summary>
/// <param name="Reduction">How many times smaller than the image its map is.</param>
/// <param name="Width">Channels of its decoder.</param>
/// <param name="SkipChannels">Channels of its skip connection; 0 where there is none.</param>
/// <param name="Feature">Index of its map among the encoder's; null where there is none.</param>
/// <param name="Stride">How many times smaller the next level's map is.</param>
internal sealed record UNetLevel(int Reduction, int Width, int SkipChannels, int? Feature, int Stride = 2);

/// <summary>
/// U-Net: an encoder that halves the resolution level by level, a decoder that doubles it again and reads the encoder's map of each
/// level through a skip connection, with any attention at any position of a plan. The logits have the image's height and width,
/// whatever they are. Keys: <c>encoder1</c> … (or <c>encoder.*</c> with a backbone's own keys), <c>bottleneck</c>, <c>up1</c> …,
/// <c>decoder1</c> …, <c>head</c>; attention: <c>encoder1_attn</c>, <c>bottleneck_attn</c>, <c>skip1_attn</c>, <c>concat1_attn</c>,
/// <c>decoder1_attn</c>. Levels count from 1, the finest.
/// </summary>
/// <remarks>Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, arXiv:1505.04597.
/// An <see cref="AttentionGateOptions"/> at <see cref="AttentionPosition.Skip"/> makes it an Attention U-Net (Oktay et al., 2018,
/// arXiv:1804.03999), and <see cref="UNetOptions.AttentionUNet"/> has MONAI's structure. Convolutions start Kaiming normal.</remarks>
public sealed class UNet : FeatureNetwork
{
    [ComponentName(Name = "head")]
    private readonly Conv2d _head;

    [ComponentName(Name = "encoder")]
    private readonly FeatureNetwork? _backbone;

    [ComponentName(Name = "bottleneck")]
    private readonly DoubleConvolution? _bottleneck;

    [ComponentName(Name = "bottleneck_attn")]
    private readonly nn.Module<Tensor, Tensor>? _bottleneckAttention;

    private readonly Level[] _levels;

    /// <summary>Builds the network.</summary>
    /// <param name="options">Its shape; null for the paper's widths.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit this network.</exception>
    public UNet(UNetOptions? options = null)
        : base(nameof(UNet))
    {
        Options = options ??= new UNetOptions();
        AttentionPlacement placement = options.Attention.Resolve(nameof(UNet), Sites(options));
        (IReadOnlyList<UNetLevel> levels, int bottleneck) = options.Levels();

        if (options.Encoder is { } backbone)
        {
            _backbone = (backbone with { InputChannels = options.InputChannels }).CreateEncoder();
        }
        else
        {
            _bottleneck = new DoubleConvolution(levels[^1].Width, bottleneck, StrideInto(levels.Count, levels, options), options);
        }

        _levels = new Level[levels.Count];
        for (int i = 0; i < _levels.Length; i++)
        {
            int above = i == 0 ? options.InputChannels : levels[i - 1].Width;
            int below = i == _levels.Length - 1 ? bottleneck : levels[i + 1].Width;
            _levels[i] = new Level(levels[i], i + 1, above, below, StrideInto(i, levels, options), options, placement);
            _levels[i].RegisterIn(this);
        }

        _bottleneckAttention = placement.Create(AttentionPosition.Bottleneck, _levels.Length + 1);
        _head = nn.Conv2d(levels[0].Width, options.Classes, 1);
        FeatureChannels = ValueList.Create<int>([.. levels.Select(level => level.Width), bottleneck]);
        FeatureReductions = ValueList.Create<int>([.. levels.Select(level => level.Reduction), levels[^1].Stride * levels[^1].Reduction]);
        RegisterComponents();
        BackboneInitializer.Reset(this);
    }

    /// <summary>The shape that the network was built with.</summary>
    public UNetOptions Options { get; }

    /// <inheritdoc/>
    public override int InputChannels => Options.InputChannels;

    /// <summary>Channels of each decoder level, finest first, then of the bottleneck.</summary>
    public override ValueList<int> FeatureChannels { get; }

    /// <summary>How many times smaller than the image each of these maps is.</summary>
    public override ValueList<int> FeatureReductions { get; }

    /// <summary>Every place of such a network where an attention can stand. Stages are levels, from 1, the finest; the bottleneck is the last.</summary>
    /// <param name="options">The network's shape.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public static IReadOnlyList<AttentionSite> Sites(UNetOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        (IReadOnlyList<UNetLevel> levels, int bottleneck) = options.Levels();
        List<AttentionSite> sites = [];
        for (int i = 0; i < levels.Count; i++)
        {
            UNetLevel level = levels[i];
            int stage = i + 1;
            if (level.SkipChannels > 0)
            {
                Add(AttentionPosition.EncoderEnd, level.SkipChannels);
                Add(AttentionPosition.Skip, level.SkipChannels, level.Width);
                Add(AttentionPosition.AfterConcat, level.SkipChannels + level.Width);
            }

            Add(AttentionPosition.DecoderEnd, level.Width);

            void Add(AttentionPosition position, int channels, int? guide = null) =>
                sites.Add(new AttentionSite(position, stage, 0, 1, channels) { GuideChannels = guide });
        }

        sites.Add(new AttentionSite(AttentionPosition.Bottleneck, levels.Count + 1, 0, 1, bottleneck));
        return sites;
    }

    /// <summary>Segments images.</summary>
    /// <param name="input">Images, (N, channels, H, W). The plain encoder needs H and W of at least 2^depth (the product of its strides).</param>
    /// <returns>Logits, (N, classes, H, W), owned by the caller.</returns>
    /// <exception cref="ArgumentException">The input's rank, channels, type or size do not fit.</exception>
    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        return _head.call(Run(input)[0]).MoveToOuterDisposeScope();
    }

    /// <summary>The decoder's maps, finest first, then the bottleneck's.</summary>
    private protected override Tensor[] ComputeFeatures(Tensor input) => Run(input);

    private Tensor[] Run(Tensor input)
    {
        CheckSize(input);
        Tensor?[] skips = new Tensor?[_levels.Length];
        Tensor[] maps = new Tensor[_levels.Length + 1];
        Tensor map = _backbone is null ? EncodePlain(input, skips) : EncodeBackbone(input, skips);
        if (_bottleneckAttention is not null) map = _bottleneckAttention.call(map);
        maps[^1] = map;
        for (int i = _levels.Length - 1; i >= 0; i--) maps[i] = map = _levels[i].Decode(map, skips[i], input);
        return maps;
    }

    private Tensor EncodePlain(Tensor input, Tensor?[] skips)
    {
        Tensor map = input;
        for (int i = 0; i < _levels.Length; i++)
        {
            skips[i] = map = _levels[i].Encode(map);
            if (Options.DownSampling == UNetDownSampling.MaxPool) map = nn.functional.max_pool2d(map, _levels[i].Stride, _levels[i].Stride);
        }

        return _bottleneck!.call(map);
    }

    private Tensor EncodeBackbone(Tensor input, Tensor?[] skips)
    {
        Tensor[] pyramid = ((IEncoder)_backbone!).Encode(input, (feature, map) =>
            Array.Find(_levels, level => level.Feature == feature) is { } level ? level.Encode(map) : map);
        for (int i = 0; i < _levels.Length; i++)
        {
            if (_levels[i].Feature is int feature) skips[i] = pyramid[feature];
        }

        return pyramid[^1];
    }

    private void CheckSize(Tensor input)
    {
        Check.FeatureMap(input, InputChannels, GetName());
        long least = FeatureReductions[^1];
        if (_backbone is null && (input.size(2) < least || input.size(3) < least))
        {
            throw new ArgumentException(
                $"{GetName()} makes the image {least} times smaller and so needs a height and width of at least {least}; " +
                $"input has shape {Check.Shape(input)}. Use larger images or a smaller Depth.", nameof(input));
        }
    }

    private static nn.Module<Tensor, Tensor>? NormOf(int width, UNetOptions options) => options.Norm switch
    {
        UNetNorm.Batch => nn.BatchNorm2d(width),
        UNetNorm.Instance => nn.InstanceNorm2d(width, affine: true),
        UNetNorm.Group => nn.GroupNorm(options.NormGroups, width),
        _ => null,
    };

    /// <summary>Stride of the first convolution of a level of the plain encoder (the bottleneck is the last).</summary>
    private static int StrideInto(int level, IReadOnlyList<UNetLevel> levels, UNetOptions options)
        => level == 0 || options.DownSampling == UNetDownSampling.MaxPool ? 1 : levels[level - 1].Stride;

    private static Tensor Normalize(nn.Module<Tensor, Tensor>? norm, Tensor map) => norm switch
    {
        null => map,
        BatchNorm2d batch => batch.CallAnyBatch(map),
        _ => norm.call(map),
    };

    /// <summary>One level above the bottleneck: its encoder if it is a plain one, its decoder, and its attentions.</summary>
    private sealed class Level
    {
        private readonly int _number;
        private readonly DoubleConvolution? _encoder;
        private readonly UpSampling _up;
        private readonly nn.Module<Tensor, Tensor> _decoder;
        private readonly nn.Module<Tensor, Tensor>? _encoderEnd;
        private readonly nn.Module<Tensor, Tensor, Tensor>? _skip;
        private readonly nn.Module<Tensor, Tensor>? _afterConcat;
        private readonly nn.Module<Tensor, Tensor>? _decoderEnd;

        public Level(UNetLevel level, int number, int above, int below, int stride, UNetOptions options, AttentionPlacement placement)
        {
            _number = number;
            Feature = level.Feature;
            Stride = level.Stride;
            if (options.Encoder is null) _encoder = new DoubleConvolution(above, level.Width, stride, options);
            _up = new UpSampling(below, level, options);
            _decoder = options.Decoder == UNetDecoder.Merge
                ? new Merge(level.Width + level.SkipChannels, level.Width, options.Dropout)
                : new DoubleConvolution(level.Width + level.SkipChannels, level.Width, 1, options);
            _encoderEnd = placement.Create(AttentionPosition.EncoderEnd, number);
            _skip = placement.CreateGuided(AttentionPosition.Skip, number);
            _afterConcat = placement.Create(AttentionPosition.AfterConcat, number);
            _decoderEnd = placement.Create(AttentionPosition.DecoderEnd, number);
        }

        /// <summary>Index of the level's map among the encoder's; null where there is none.</summary>
        public int? Feature { get; }

        /// <summary>How many times smaller the next level's map is.</summary>
        public int Stride { get; }

        public void RegisterIn(UNet network)
        {
            Register(_encoder, $"encoder{_number}");
            Register(_encoderEnd, $"encoder{_number}_attn");
            Register(_up, $"up{_number}");
            Register(_skip, $"skip{_number}_attn");
            Register(_afterConcat, $"concat{_number}_attn");
            Register(_decoder, $"decoder{_number}");
            Register(_decoderEnd, $"decoder{_number}_attn");

            void Register(nn.Module? module, string name)
            {
                if (module is not null) network.register_module(name, module);
            }
        }

        public Tensor Encode(Tensor map)
        {
            if (_encoder is not null) map = _encoder.call(map);
            return _encoderEnd is null ? map : _encoderEnd.call(map);
        }

        public Tensor Decode(Tensor deeper, Tensor? skip, Tensor image)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor size = skip ?? image;
            Tensor map = _up.To(deeper, size.size(2), size.size(3));
            if (skip is not null)
            {
                map = cat([_skip is null ? skip : _skip.call(skip, map), map], 1);
                if (_afterConcat is not null) map = _afterConcat.call(map);
            }

            map = _decoder.call(map);
            if (_decoderEnd is not null) map = _decoderEnd.call(map);
            return map.MoveToOuterDisposeScope();
        }
    }

    /// <summary>Twice: convolution, norm, ReLU.</summary>
    private sealed class DoubleConvolution : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "conv1")]
        private readonly Conv2d _conv1;

        [ComponentName(Name = "norm1")]
        private readonly nn.Module<Tensor, Tensor>? _norm1;

        [ComponentName(Name = "conv2")]
        private readonly Conv2d _conv2;

        [ComponentName(Name = "norm2")]
        private readonly nn.Module<Tensor, Tensor>? _norm2;

        private readonly double _dropout;

        public DoubleConvolution(int input, int width, int stride, UNetOptions options)
            : base(nameof(DoubleConvolution))
        {
            bool bias = options.ConvolutionBias || options.Norm == UNetNorm.None;
            int padding = options.KernelSize / 2;
            _dropout = options.Dropout;
            _conv1 = nn.Conv2d(input, width, options.KernelSize, stride: stride, padding: padding, bias: bias);
            _norm1 = NormOf(width, options);
            _conv2 = nn.Conv2d(width, width, options.KernelSize, padding: padding, bias: bias);
            _norm2 = NormOf(width, options);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor map = Drop(Normalize(_norm1, _conv1.call(input))).relu_();
            return Drop(Normalize(_norm2, _conv2.call(map))).relu_().MoveToOuterDisposeScope();
        }

        private Tensor Drop(Tensor map) => training && _dropout > 0 ? nn.functional.dropout(map, _dropout, training: true) : map;
    }

    /// <summary>3×3 convolution, instance norm without parameters, PReLU.</summary>
    private sealed class Merge : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "conv")]
        private readonly Conv2d _conv;

        [ComponentName(Name = "act")]
        private readonly PReLU _act;

        private readonly double _dropout;

        public Merge(int input, int width, double dropout)
            : base(nameof(Merge))
        {
            _dropout = dropout;
            _conv = nn.Conv2d(input, width, 3, padding: 1);
            _act = nn.PReLU(1);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor map = nn.functional.instance_norm(_conv.call(input));
            if (training && _dropout > 0) map = nn.functional.dropout(map, _dropout, training: true);
            return _act.call(map).MoveToOuterDisposeScope();
        }
    }

    /// <summary>Doubles the resolution (or as the level's stride says) and changes the channels; the result has exactly the size that is asked for.</summary>
    private sealed class UpSampling : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "conv")]
        private readonly nn.Module<Tensor, Tensor> _conv;

        [ComponentName(Name = "norm")]
        private readonly nn.Module<Tensor, Tensor>? _norm;

        private readonly UNetUpSampling _kind;
        private readonly int _stride;

        public UpSampling(int input, UNetLevel level, UNetOptions options)
            : base(nameof(UpSampling))
        {
            _kind = options.UpSampling;
            _stride = level.Stride;
            switch (_kind)
            {
                case UNetUpSampling.Bilinear:
                    _conv = nn.Conv2d(input, level.Width, 1);
                    break;
                case UNetUpSampling.TransposedBlock:
                    _conv = nn.ConvTranspose2d(
                        input, level.Width, options.UpKernelSize, stride: _stride, padding: options.UpKernelSize / 2, output_padding: _stride - 1,
                        bias: options.ConvolutionBias || options.Norm == UNetNorm.None);
                    _norm = NormOf(level.Width, options);
                    break;
                default:
                    _conv = nn.ConvTranspose2d(input, level.Width, _stride, stride: _stride);
                    break;
            }

            RegisterComponents();
        }

        public override Tensor forward(Tensor input) => To(input, _stride * input.size(2), _stride * input.size(3));

        /// <summary>
        /// Sizes that are not divisible by two lose a row or column on the way down; here it comes back. Bilinear: interpolation to
        /// the size. Transposed: the last row and column are repeated, or cut where there is one too many.
        /// </summary>
        public Tensor To(Tensor map, long height, long width)
        {
            using DisposeScope scope = NewDisposeScope();
            if (_kind == UNetUpSampling.Bilinear)
            {
                // The 1×1 convolution commutes with interpolation; before it, it has a quarter of the work.
                Tensor mixed = _conv.call(map);
                return nn.functional.interpolate(mixed, size: [height, width], mode: InterpolationMode.Bilinear, align_corners: false)
                    .MoveToOuterDisposeScope();
            }

            Tensor doubled = _conv.call(map);
            if (_kind == UNetUpSampling.TransposedBlock) doubled = Normalize(_norm, doubled).relu_();
            if (doubled.size(2) > height) doubled = doubled.narrow(2, 0, height);
            if (doubled.size(3) > width) doubled = doubled.narrow(3, 0, width);
            long missingRows = height - doubled.size(2), missingColumns = width - doubled.size(3);
            if (missingRows > 0 || missingColumns > 0)
            {
                doubled = nn.functional.pad(doubled, [0, missingColumns, 0, missingRows], PaddingModes.Replicate);
            }

            return doubled.MoveToOuterDisposeScope();
        }
    }
}
