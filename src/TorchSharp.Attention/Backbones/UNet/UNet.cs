// U-Net. Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, arXiv:1505.04597,
// with padded convolutions, so that the logits have the image's size, and batch norm. A backbone as encoder follows the common
// practice of segmentation libraries: its feature pyramid is the encoder, a finest level without skip restores the image's size.
// The preset AttentionUNet has the structure of MONAI's AttentionUnet, which differs in down-sampling, up-sampling and decoder.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// U-Net: an encoder that halves the resolution level by level, a decoder that doubles it again and reads the encoder's map of
/// each level through a skip connection, with any attention at any position of a plan. The logits have the image's height and
/// width, whatever they are. Keys: <c>encoder1</c> … (or <c>encoder.*</c> with a backbone's own keys), <c>bottleneck</c>,
/// <c>up1</c> …, <c>decoder1</c> …, <c>head</c>; attention: <c>encoder1_attn</c>, <c>bottleneck_attn</c>, <c>skip1_attn</c>,
/// <c>concat1_attn</c>, <c>decoder1_attn</c>. Levels count from 1, the finest.
/// </summary>
/// <remarks>
/// Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015,
/// arXiv:1505.04597. An <see cref="AttentionGateOptions"/> at <see cref="AttentionPosition.Skip"/> makes it an
/// Attention U-Net (Oktay et al., 2018, arXiv:1804.03999), and <see cref="UNetOptions.AttentionUNet"/> has MONAI's
/// structure. Convolutions start Kaiming normal.</remarks>
public sealed class UNet : FeatureNetwork
{
    [ComponentName(Name = "head")]
    private readonly Conv2d _head;

    [ComponentName(Name = "encoder")]
    private readonly Backbone? _backbone;

    [ComponentName(Name = "bottleneck")]
    private readonly DoubleConvolution? _bottleneck;

    [ComponentName(Name = "bottleneck_attn")]
    private readonly nn.Module<Tensor, Tensor>? _bottleneckAttention;

    private readonly UNetStage[] _levels;

    /// <summary>Builds the network.</summary>
    /// <param name="options">Its shape; null for the paper's widths.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit this network.</exception>
    public UNet(UNetOptions? options = null)
        : this(options ?? new UNetOptions(), fused: false)
    {
    }

    private UNet(UNetOptions options, bool fused)
        : base(nameof(UNet), fused)
    {
        Options = options;
        AttentionPlacement placement = options.Attention.Resolve(nameof(UNet), options.Sites());
        (IReadOnlyList<UNetLevel> levels, int bottleneck) = options.Levels();

        if (options.Encoder is { } backbone)
        {
            _backbone = (backbone with { InputChannels = options.InputChannels }).CreateEncoder(fused);
        }
        else
        {
            _bottleneck = new DoubleConvolution(
                levels[^1].Width, bottleneck, StrideInto(levels.Count, levels, options), options, fused);
        }

        _levels = new UNetStage[levels.Count];
        for (int i = 0; i < _levels.Length; i++)
        {
            int above = i == 0 ? options.InputChannels : levels[i - 1].Width;
            int below = i == _levels.Length - 1 ? bottleneck : levels[i + 1].Width;
            _levels[i] = new UNetStage(levels[i], i + 1, above, below, StrideInto(i, levels, options), options, placement, fused);
            _levels[i].RegisterIn(this);
        }

        _bottleneckAttention = placement.Create(AttentionPosition.Bottleneck, _levels.Length + 1);
        _head = nn.Conv2d(levels[0].Width, options.Classes, 1);
        FeatureChannels = ValueList.Create<int>([.. levels.Select(level => level.Width), bottleneck]);
        FeatureReductions = ValueList.Create<int>(
            [.. levels.Select(level => level.Reduction), levels[^1].Stride * levels[^1].Reduction]);
        RegisterComponents();
        if (!fused) BackboneInitializer.Reset(this);
    }

    /// <summary>The options that the network was built with.</summary>
    public UNetOptions Options { get; }

    /// <inheritdoc/>
    public override int InputChannels => Options.InputChannels;

    /// <summary>Channels of each decoder level, finest first, then of the bottleneck.</summary>
    public override ValueList<int> FeatureChannels { get; }

    /// <summary>
    /// How many times smaller than the image each map of <see cref="FeatureNetwork.Features"/> is, in the order of
    /// <see cref="FeatureChannels"/>.
    /// </summary>
    public override ValueList<int> FeatureReductions { get; }

    /// <summary>
    /// Makes a copy for inference. Each batch norm is folded into the convolution before it, which may be a transposed one.
    /// Feature maps are kept in the memory layout in which convolutions run fastest. The keys are this network's without those of
    /// the norms, and convolutions that had a norm have a bias: <c>encoder1.conv1.bias</c>. Instance and group norms depend on
    /// the image and stay. See <see cref="ResNet.FuseForInference"/>.
    /// </summary>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/remarks"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/returns"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/exception"/>
    public override UNet FuseForInference() => InferenceCopy.Of(this, () => new UNet(Options, fused: true));

    /// <summary>Segments images.</summary>
    /// <param name="input">
    /// Images, (N, channels, H, W). The plain encoder needs H and W of at least 2^depth (the product of its strides).
    /// </param>
    /// <returns>Logits, (N, classes, H, W), owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// The input's rank, channels, type, device or size do not fit, or a batch norm of a backbone as encoder would see a single
    /// value per channel in training. Nothing has changed then. The other batch norms normalise such a map with their running
    /// statistics, which stay as they are.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The input or the network was disposed.</exception>
    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor logits = _head.call(Run(input)[0]);
        return (IsFused ? logits.contiguous() : logits).MoveToOuterDisposeScope();
    }

    internal override AttentionPlan Plan => Options.Attention;

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        _backbone?.CountEncoder(count);
        foreach (UNetStage level in _levels)
        {
            level.Count(count, pools: _backbone is null && Options.DownSampling == UNetDownSampling.MaxPool);
        }
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
        // An instance norm is so much slower channels last that nothing is won.
        Tensor map = IsFused && Options.Norm != UNetNorm.Instance ? MapLayout.Fastest(input) : input;
        for (int i = 0; i < _levels.Length; i++)
        {
            skips[i] = map = _levels[i].Encode(map);
            if (Options.DownSampling == UNetDownSampling.MaxPool)
            {
                map = nn.functional.max_pool2d(map, _levels[i].Stride, _levels[i].Stride);
            }
        }

        return _bottleneck!.call(map);
    }

    private Tensor EncodeBackbone(Tensor input, Tensor?[] skips)
    {
        Tensor[] pyramid = _backbone!.Encode(input, (feature, map) =>
            Array.Find(_levels, level => level.Feature == feature) is { } level ? level.Encode(map) : map);
        for (int i = 0; i < _levels.Length; i++)
        {
            if (_levels[i].Feature is int feature) skips[i] = pyramid[feature];
        }

        return pyramid[^1];
    }

    private void CheckSize(Tensor input)
    {
        CheckInput(input);
        _backbone?.CheckImages(input);
        long least = FeatureReductions[^1];
        if (_backbone is null && (input.size(2) < least || input.size(3) < least))
        {
            throw new ArgumentException(
                $"{GetName()} makes the image {least} times smaller and so needs a height and width of at least {least}; " +
                $"input has shape {Check.Shape(input)}. Use larger images or a smaller Depth.", nameof(input));
        }

        if (DeepestInstanceNorm() is long reduction && Positions(2) * Positions(3) == 1)
        {
            throw new ArgumentException(
                $"{GetName()} makes the image {reduction} times smaller before an instance norm, which needs more than one " +
                "position; " +
                $"input has shape {Check.Shape(input)}. Use larger images or another Norm and Decoder.", nameof(input));
        }

        long Positions(int dimension) => Options.DownSampling == UNetDownSampling.MaxPool && _backbone is null
            ? input.size(dimension) / reduction
            : (input.size(dimension) + reduction - 1) / reduction;
    }

    /// <summary>
    /// How many times smaller than the image the smallest map is that an instance norm sees; null without instance norms.
    /// </summary>
    private long? DeepestInstanceNorm() =>
        Options.Norm == UNetNorm.Instance && _backbone is null ? FeatureReductions[^1]
        : Options.Norm == UNetNorm.Instance || Options.Decoder == UNetDecoder.Merge ? FeatureReductions[^2]
        : null;

    /// <summary>Stride of the first convolution of a level of the plain encoder (the bottleneck is the last).</summary>
    private static int StrideInto(int level, IReadOnlyList<UNetLevel> levels, UNetOptions options)
        => level == 0 || options.DownSampling == UNetDownSampling.MaxPool ? 1 : levels[level - 1].Stride;
}
