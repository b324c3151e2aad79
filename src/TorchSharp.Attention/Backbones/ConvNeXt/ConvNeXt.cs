// ConvNeXt. Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: "A ConvNet for the 2020s", 2022, arXiv:2201.03545. Keys, epsilons and
// initial weights as torchvision. torchvision draws weights by trunc_normal_ with a standard deviation of 0.02 and bounds of ±2,
// which are 100 standard deviations away, so that a normal distribution is the same.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of a <see cref="ConvNeXt"/>, as an immutable record. The defaults are ConvNeXt-Tiny.</summary>
[BackboneKind("convNeXt", typeof(ConvNeXt))]
public sealed record ConvNeXtOptions : BackboneOptions
{
    /// <summary>Blocks of each stage. Default [3, 3, 9, 3].</summary>
    public ValueList<int> Blocks { get; init; } = [3, 3, 9, 3];

    /// <summary>Channels of each stage. Default [96, 192, 384, 768].</summary>
    public ValueList<int> Channels { get; init; } = [96, 192, 384, 768];

    /// <summary>
    /// Kernel size and stride of the first convolution: 1, 2, 4 or 8. Default 4, for images of
    /// about 224 pixels; use 1 or 2 for 32.
    /// </summary>
    public int PatchSize { get; init; } = 4;

    /// <summary>Start of the factors that multiply each block's branch. Default 10⁻⁶.</summary>
    public double LayerScale { get; init; } = 1e-6;

    /// <summary>
    /// Stochastic depth: rate, in [0, 1), of the last block; it grows linearly from 0 at the first. Default 0.1.
    /// </summary>
    public double DropPath { get; init; } = 0.1;

    /// <summary>How many times smaller than the image the last stage's map is.</summary>
    internal int Reduction => PatchSize << (Blocks.Count - 1);

    internal override string PruningObstacle
        => "each layer norm computes its statistics over all channels of a position, so that the removal of some channels " +
            "changes the others";

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        ArgumentNullException.ThrowIfNull(Blocks);
        ArgumentNullException.ThrowIfNull(Channels);
        if (Blocks.Count is 0 or > 8)
        {
            throw new ArgumentException($"Blocks is {Blocks}; give the blocks of 1 to 8 stages.", nameof(Blocks));
        }

        foreach (int blocks in Blocks) Check.Positive(blocks, nameof(Blocks));
        Check.Widths(Channels, Blocks.Count, "stages");
        if (PatchSize is not (1 or 2 or 4 or 8))
        {
            throw new ArgumentOutOfRangeException(
                nameof(PatchSize), PatchSize, $"PatchSize is {PatchSize}; it must be 1, 2, 4 or 8.");
        }

        if (!double.IsFinite(LayerScale))
        {
            throw new ArgumentOutOfRangeException(
                nameof(LayerScale), LayerScale, $"LayerScale is {LayerScale}; it must be a number, such as 1e-6.");
        }

        Check.Probability(DropPath, oneAllowed: false);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<AttentionSite> Sites()
    {
        Validate();
        List<AttentionSite> sites = [];
        for (int stage = 1; stage <= Blocks.Count; stage++)
        {
            int blocks = Blocks[stage - 1], channels = Channels[stage - 1];
            for (int i = 0; i < blocks; i++)
            {
                foreach (AttentionPosition position in CnBlock.Positions)
                {
                    sites.Add(new AttentionSite(position, stage, i, blocks, channels));
                }
            }

            sites.Add(new AttentionSite(AttentionPosition.StageEnd, stage, 0, 1, channels));
        }

        return sites;
    }

    /// <inheritdoc/>
    public override ConvNeXt Create() => new(this);

    internal override ConvNeXt CreateEncoder(bool fused) => new(this, encoder: true, fused);

    internal override (ValueList<int> Channels, ValueList<int> Reductions) Pyramid()
    {
        Validate();
        return (Channels, ValueList.Create<int>([.. Blocks.Select((_, stage) => PatchSize << stage)]));
    }
}

/// <summary>
/// ConvNeXt: stages of depthwise 7×7 convolutions and inverted bottlenecks with layer norms, with any attention at any position
/// of a plan. Without a plan it is exactly torchvision's network. Keys as torchvision (<c>features.1.0.block.0.weight</c>,
/// <c>features.1.0.layer_scale</c>); attention keys: <c>features.1.0.attn</c> before the addition, <c>attn_before</c>,
/// <c>attn_depthwise</c>, <c>attn_after</c>, and <c>stage1_attn</c> at a stage's end.
/// </summary>
/// <remarks>
/// Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: "A ConvNet for the 2020s", 2022, arXiv:2201.03545. Weights start as torchvision's:
/// normal with a standard deviation of 0.02, biases zero, layer norms one and zero. Convolutions of stride 4 and 2 have no
/// padding, so that the maps of <see cref="FeatureNetwork.Features"/> have ⌊H / <see cref="FeatureReductions"/>[i]⌋ rows.
/// </remarks>
public sealed class ConvNeXt : Backbone
{
    internal const double Epsilon = 1e-6;

    [ComponentName(Name = "features")]
    private readonly ModuleList<nn.Module<Tensor, Tensor>> _features = [];

    [ComponentName(Name = "classifier")]
    private readonly Sequential? _classifier;

    private readonly nn.Module<Tensor, Tensor>?[] _stageEnds;

    /// <summary>Builds the network.</summary>
    /// <param name="options">Its shape; null for ConvNeXt-Tiny.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit this network.</exception>
    public ConvNeXt(ConvNeXtOptions? options = null)
        : this(options ?? new ConvNeXtOptions(), encoder: false, fused: false)
    {
    }

    internal ConvNeXt(ConvNeXtOptions options, bool encoder, bool fused)
        : base(nameof(ConvNeXt), fused)
    {
        Options = options;
        AttentionPlacement placement = options.Attention.Resolve(nameof(ConvNeXt), options.Sites());
        int block = 0, blocks = options.Blocks.Sum(), patch = options.PatchSize;
        ValueList<int> channels = options.Channels;
        _features.Add(
            nn.Sequential(
                nn.Conv2d(options.InputChannels, channels[0], patch, stride: patch), new LayerNorm2d(channels[0], Epsilon)));
        _stageEnds = new nn.Module<Tensor, Tensor>?[channels.Count];
        for (int stage = 1; stage <= channels.Count; stage++)
        {
            int width = channels[stage - 1];
            nn.Module<Tensor, Tensor>[] members = new nn.Module<Tensor, Tensor>[options.Blocks[stage - 1]];
            for (int i = 0; i < members.Length; i++, block++)
            {
                members[i] = new CnBlock(
                    width, options.LayerScale, TorchSharp.Attention.DropPath.At(options.DropPath, block, blocks), placement,
                    stage, i);
            }

            _features.Add(nn.Sequential(members));
            if (stage < channels.Count)
            {
                _features.Add(nn.Sequential(new LayerNorm2d(width, Epsilon), nn.Conv2d(width, channels[stage], 2, stride: 2)));
            }

            _stageEnds[stage - 1] = placement.Create(AttentionPosition.StageEnd, stage);
            if (_stageEnds[stage - 1] is { } end) register_module($"stage{stage}_attn", end);
        }

        if (!encoder)
        {
            _classifier = nn.Sequential(
                new LayerNorm2d(channels[^1], Epsilon), nn.Flatten(1), nn.Linear(channels[^1], options.Classes));
        }

        (FeatureChannels, FeatureReductions) = options.Pyramid();
        RegisterComponents();
        if (!fused) BackboneInitializer.ResetNormal(this, 0.02);
    }

    /// <summary>The options that the network was built with.</summary>
    public ConvNeXtOptions Options { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureChannels { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureReductions { get; }

    /// <summary>ConvNeXt-Tiny: [3, 3, 9, 3] blocks of 96 to 768 channels, stochastic depth 0.1.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ConvNeXt Tiny(int classes = 1000, AttentionPlan? attention = null)
        => Of([3, 3, 9, 3], [96, 192, 384, 768], 0.1, classes, attention);

    /// <summary>ConvNeXt-Small: [3, 3, 27, 3] blocks of 96 to 768 channels, stochastic depth 0.4.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ConvNeXt Small(int classes = 1000, AttentionPlan? attention = null)
        => Of([3, 3, 27, 3], [96, 192, 384, 768], 0.4, classes, attention);

    /// <summary>ConvNeXt-Base: [3, 3, 27, 3] blocks of 128 to 1024 channels, stochastic depth 0.5.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ConvNeXt Base(int classes = 1000, AttentionPlan? attention = null)
        => Of([3, 3, 27, 3], [128, 256, 512, 1024], 0.5, classes, attention);

    /// <summary>
    /// Makes a copy for inference. Its keys are this network's, because layer norms depend on the image and cannot be folded.
    /// Feature maps are kept channels-last from the first convolution on, which is the layout that layer norms and linear layers
    /// need.
    /// </summary>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/remarks"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/returns"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/exception"/>
    public override ConvNeXt FuseForInference()
        => InferenceCopy.Of(this, () => new ConvNeXt(Options, encoder: _classifier is null, fused: true));

    /// <summary>Classifies images.</summary>
    /// <param name="input">
    /// Images, (N, channels, H, W); H and W at least <see cref="FeatureReductions"/>[^1], 32 by default.
    /// </param>
    /// <returns>Logits, (N, classes), owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// The input's rank, channels, type, device or size do not fit. Nothing has changed then.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The input or the network was disposed.</exception>
    public override Tensor forward(Tensor input)
    {
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        return _classifier!.call(Run(input, (_, map) => map, null).mean([2, 3], keepdim: true)).MoveToOuterDisposeScope();
    }

    internal override BackboneOptions BaseOptions => Options;

    internal override Tensor[] Encode(Tensor input, Func<int, Tensor, Tensor> refine)
    {
        Tensor[] maps = new Tensor[_stageEnds.Length];
        Run(input, refine, maps);
        return maps;
    }

    internal override void CheckImages(Tensor input)
    {
        long least = Options.Reduction;
        if (input.size(2) >= least && input.size(3) >= least) return;
        throw new ArgumentException(
            $"{GetName()} makes the image {least} times smaller and so needs a height and width of at least {least}; " +
            $"input has shape {Check.Shape(input)}. " +
            $"Use larger images or a smaller {nameof(ConvNeXtOptions.PatchSize)} than {Options.PatchSize}.", nameof(input));
    }

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        ValueList<long> last = count.Shape(_features[^1]);
        count.Reduce(count.Values(_features[^1]), last[0] * last[1]);
    }

    private Tensor Run(Tensor input, Func<int, Tensor, Tensor> refine, Tensor[]? maps)
    {
        Tensor map = IsFused ? MapLayout.Fastest(input) : input;
        for (int stage = 0; stage < _stageEnds.Length; stage++)
        {
            map = _features[2 * stage].call(map);
            map = _features[(2 * stage) + 1].call(map);
            if (_stageEnds[stage] is { } end) map = end.call(map);
            map = refine(stage, map);
            if (maps is not null) maps[stage] = map;
        }

        return map;
    }

    private static ConvNeXt Of(
        ValueList<int> blocks, ValueList<int> channels, double dropPath, int classes, AttentionPlan? attention)
            => new(new ConvNeXtOptions
            {
                Blocks = blocks,
                Channels = channels,
                DropPath = dropPath,
                Classes = classes,
                Attention = attention ?? AttentionPlan.None,
            });
}
