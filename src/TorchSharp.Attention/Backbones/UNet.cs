// U-Net. Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, arXiv:1505.04597,
// with padded convolutions, so that the logits have the image's size, and batch norm. A backbone as encoder follows the common
// practice of segmentation libraries: its feature pyramid is the encoder, a finest level without skip restores the image's size.
// The preset AttentionUNet has the structure of MONAI's AttentionUnet, which differs in down-sampling, up-sampling and decoder.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

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
