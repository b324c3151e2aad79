// MobileNetV2. Sandler, Howard, Zhu, Zhmoginov, Chen: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018,
// arXiv:1801.04381. Keys, rounding and initial weights as torchvision.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of a <see cref="MobileNetV2"/>, as an immutable record. The defaults are the network of the paper.</summary>
[BackboneKind("mobileNetV2", typeof(MobileNetV2))]
public sealed record MobileNetV2Options : BackboneOptions
{
    /// <summary>Width multiplier of every layer's channels, above 0 and at most 100. Default 1.</summary>
    public double WidthMultiplier { get; init; } = 1;

    /// <summary>Channels are rounded to a multiple of this. Default 8.</summary>
    public int RoundingDivisor { get; init; } = 8;

    /// <summary>Dropout before the classifier, in [0, 1). Default 0.2.</summary>
    public double Dropout { get; init; } = 0.2;

    /// <summary>For images of about 32 pixels: stride 1 instead of 2 in the stem and in stage 2. Default false.</summary>
    public bool SmallImages { get; init; }

    /// <summary>
    /// Channels layer by layer, as pruning leaves them. Default null: they follow from the table and the width multiplier.
    /// </summary>
    public MobileNetV2Widths? Widths { get; init; }

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        Check.Positive(WidthMultiplier);
        if (WidthMultiplier > 100)
        {
            throw new ArgumentOutOfRangeException(
                nameof(WidthMultiplier), WidthMultiplier,
                $"WidthMultiplier is {WidthMultiplier}; it may be at most 100 (published networks use 0.1 to 2).");
        }

        Check.Positive(RoundingDivisor);
        Check.Probability(Dropout, oneAllowed: false);
        if (Widths is not null) MobileNetV2Block.Validate(this);
    }

    /// <summary>
    /// Lists the sites of such a network, which are the places that can take an attention. Stages are the seven rows of the
    /// paper's table.
    /// </summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public override IReadOnlyList<AttentionSite> Sites()
    {
        Validate();
        List<AttentionSite> sites = [];
        foreach (MobileNetV2Block block in MobileNetV2Block.All(this))
        {
            sites.Add(
                new AttentionSite(AttentionPosition.ReplaceSpatialConv, block.Stage, block.Index, block.InStage, block.Hidden)
                {
                    OutputChannels = block.Hidden,
                    Stride = block.Stride,
                    Groups = block.Hidden,
                    Activation = GateActivation.ReLU6,
                });
            Add(AttentionPosition.Before, block.Input);
            if (block.Expands) Add(AttentionPosition.AfterExpand, block.Hidden);
            Add(AttentionPosition.AfterDepthwise, block.Hidden);
            Add(AttentionPosition.BeforeAdd, block.Output);
            if (block.HasShortcut) Add(AttentionPosition.Shortcut, block.Output);
            Add(AttentionPosition.After, block.Output);
            if (block.Index == block.InStage - 1)
            {
                sites.Add(new AttentionSite(AttentionPosition.StageEnd, block.Stage, 0, 1, block.Output));
            }

            void Add(AttentionPosition position, int channels) =>
                sites.Add(new AttentionSite(position, block.Stage, block.Index, block.InStage, channels));
        }

        return sites;
    }

    /// <inheritdoc/>
    public override MobileNetV2 Create() => new(this);

    internal override MobileNetV2 CreateEncoder(bool fused) => new(this, encoder: true, fused);

    internal override (ValueList<int> Channels, ValueList<int> Reductions) Pyramid()
    {
        Validate();
        return (MobileNetV2.PyramidChannels(this), SmallImages ? [1, 1, 2, 4, 8] : [2, 4, 8, 16, 32]);
    }
}

/// <summary>
/// MobileNetV2: seven stages of inverted residual blocks, with any attention at any position of a plan. Without a plan it is
/// exactly torchvision's network. Keys as torchvision (<c>features.3.conv.0.0.weight</c>); attention keys: <c>features.3.attn</c>
/// before the addition, <c>attn_before</c>, <c>attn_expand</c>, <c>attn_depthwise</c>, <c>attn_shortcut</c>, <c>attn_after</c>,
/// and <c>stage3_attn</c> at a stage's end. What replaces a depthwise convolution has its key, <c>features.3.conv.1.0</c>.
/// </summary>
/// <remarks>Sandler et al.: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, arXiv:1801.04381.</remarks>
public sealed class MobileNetV2 : Backbone
{
    // The stages that end each resolution.
    internal static readonly int[] PyramidStages = [1, 2, 3, 5, 7];

    [ComponentName(Name = "features")]
    private readonly ModuleList<nn.Module<Tensor, Tensor>> _features = [];

    [ComponentName(Name = "classifier")]
    private readonly Sequential? _classifier;

    private readonly nn.Module<Tensor, Tensor>?[] _stageEnds = new nn.Module<Tensor, Tensor>?[MobileNetV2Block.Stages];

    /// <summary>Builds the network.</summary>
    /// <param name="options">Its shape; null for the paper's network.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit this network.</exception>
    public MobileNetV2(MobileNetV2Options? options = null)
        : this(options ?? new MobileNetV2Options(), encoder: false, fused: false)
    {
    }

    internal MobileNetV2(MobileNetV2Options options, bool encoder, bool fused)
        : base(nameof(MobileNetV2), fused)
    {
        Options = options;
        AttentionPlacement placement = options.Attention.Resolve(nameof(MobileNetV2), options.Sites());

        MobileNetV2Widths widths = MobileNetV2Block.WidthsOf(options);
        _features.Add(
            new ConvNormActivation(
                options.InputChannels, widths.Stem, 3, options.SmallImages ? 1 : 2, GateActivation.ReLU6, fused));
        foreach (MobileNetV2Block block in MobileNetV2Block.All(options))
        {
            _features.Add(new InvertedResidual(block, placement, fused));
        }

        if (!encoder)
        {
            _features.Add(new ConvNormActivation(widths.Stages[^1], widths.Last, 1, 1, GateActivation.ReLU6, fused));
            _classifier = nn.Sequential(nn.Dropout(options.Dropout), nn.Linear(widths.Last, options.Classes));
        }

        for (int stage = 1; stage <= MobileNetV2Block.Stages; stage++)
        {
            _stageEnds[stage - 1] = placement.Create(AttentionPosition.StageEnd, stage);
            if (_stageEnds[stage - 1] is { } end) register_module($"stage{stage}_attn", end);
        }

        (FeatureChannels, FeatureReductions) = options.Pyramid();
        RegisterComponents();
        if (!fused) BackboneInitializer.Reset(this, classifierStd: 0.01);
    }

    /// <summary>The options that the network was built with.</summary>
    public MobileNetV2Options Options { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureChannels { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureReductions { get; }

    /// <summary>
    /// Makes a copy for inference. Each batch norm is folded into the convolution before it. Feature maps are kept in the memory
    /// layout in which convolutions run fastest. The keys are this network's without those of the norms, and convolutions that
    /// had a norm have a bias: <c>features.0.0.bias</c>. See <see cref="ResNet.FuseForInference"/>.
    /// </summary>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/remarks"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/returns"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/exception"/>
    public override MobileNetV2 FuseForInference()
        => InferenceCopy.Of(this, () => new MobileNetV2(Options, encoder: _classifier is null, fused: true));

    /// <summary>Classifies images.</summary>
    /// <param name="input">Images, (N, channels, H, W); any size.</param>
    /// <returns>Logits, (N, classes), owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// The input's rank, channels, type or device do not fit, or a batch norm in training mode would see a single value per
    /// channel: one image that is a single position there. Nothing has changed then, no running statistic either.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The input or the network was disposed.</exception>
    public override Tensor forward(Tensor input)
    {
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        Tensor last = _features[^1].call(Run(input, (_, map) => map, null));
        return _classifier!.call(last.mean([2, 3])).MoveToOuterDisposeScope();
    }

    internal static ValueList<int> PyramidChannels(MobileNetV2Options options) =>
        ValueList.Create<int>([.. PyramidStages.Select(stage => MobileNetV2Block.WidthsOf(options).Stages[stage - 1])]);

    internal override ChannelMap ToChannelMap() => MobileNetV2Channels.Of(this);

    internal override IEnumerable<(BatchNorm2d? Norm, int Reduction)> Norms()
    {
        int reduction = 1;
        foreach (nn.Module<Tensor, Tensor> feature in _features)
        {
            (IEnumerable<(BatchNorm2d?, bool)> norms, int stride) = feature switch
            {
                InvertedResidual block => (block.Norms, block.Shape.Stride),
                ConvNormActivation layer => ([(layer.Norm, true)], layer.Stride),
                _ => ([], 1),
            };
            foreach ((BatchNorm2d? norm, bool strided) in norms) yield return (norm, strided ? reduction * stride : reduction);
            reduction *= stride;
        }
    }

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        ValueList<long> last = count.Shape(_features[^1]);
        count.Reduce(count.Values(_features[^1]), last[0] * last[1]);
    }

    internal override BackboneOptions BaseOptions => Options;

    internal override Tensor[] Encode(Tensor input, Func<int, Tensor, Tensor> refine)
    {
        Tensor[] maps = new Tensor[PyramidStages.Length];
        Run(input, refine, maps);
        return maps;
    }

    private Tensor Run(Tensor input, Func<int, Tensor, Tensor> refine, Tensor[]? maps)
    {
        Tensor map = _features[0].call(IsFused ? MapLayout.Fastest(input) : input);
        int feature = 1, level = 0;
        for (int stage = 1; stage <= MobileNetV2Block.Stages; stage++)
        {
            for (int i = 0; i < MobileNetV2Block.InStageOf(stage); i++) map = _features[feature++].call(map);
            if (_stageEnds[stage - 1] is { } end) map = end.call(map);
            if (stage != PyramidStages[level]) continue;
            map = refine(level, map);
            if (maps is not null) maps[level] = map;
            level++;
        }

        return map;
    }
}
