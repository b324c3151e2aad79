// EfficientNet and EfficientNetV2. Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019,
// arXiv:1905.11946; Tan, Le: "EfficientNetV2: Smaller Models and Faster Training", 2021, arXiv:2104.00298. Keys, rounding,
// epsilons and initial weights as torchvision.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of an <see cref="EfficientNet"/>, as an immutable record. The defaults are EfficientNet-B0.</summary>
[BackboneKind("efficientNet", typeof(EfficientNet))]
public sealed record EfficientNetOptions : BackboneOptions
{
    /// <summary>EfficientNet-B0.</summary>
    public static EfficientNetOptions B0 { get; } = new();

    /// <summary>EfficientNet-B1: B0 of 1.1 times the depth.</summary>
    public static EfficientNetOptions B1 { get; } = new() { DepthMultiplier = 1.1 };

    /// <summary>EfficientNet-B2: B0 of 1.1 times the width and 1.2 times the depth, dropout 0.3.</summary>
    public static EfficientNetOptions B2 { get; } = new() { WidthMultiplier = 1.1, DepthMultiplier = 1.2, Dropout = 0.3 };

    /// <summary>EfficientNet-B3: B0 of 1.2 times the width and 1.4 times the depth, dropout 0.3.</summary>
    public static EfficientNetOptions B3 { get; } = new() { WidthMultiplier = 1.2, DepthMultiplier = 1.4, Dropout = 0.3 };

    /// <summary>EfficientNetV2-S: three stages of fused blocks, three of inverted ones; batch norms with ε = 10⁻³.</summary>
    public static EfficientNetOptions V2Small { get; } = new()
    {
        Stem = 24,
        Last = 1280,
        NormEpsilon = 1e-3,
        Stages =
        [
            new(1, 3, 1, 24, 2) { Fused = true }, new(4, 3, 2, 48, 4) { Fused = true }, new(4, 3, 2, 64, 4) { Fused = true },
            new(4, 3, 2, 128, 6), new(6, 3, 1, 160, 9), new(6, 3, 2, 256, 15),
        ],
    };

    /// <summary>The stages. Default: the seven of EfficientNet-B0.</summary>
    public ValueList<EfficientNetStage> Stages { get; init; } =
    [
        new(1, 3, 1, 16, 1), new(6, 3, 2, 24, 2), new(6, 5, 2, 40, 2), new(6, 3, 2, 80, 3), new(6, 5, 1, 112, 3),
        new(6, 5, 2, 192, 4), new(6, 3, 1, 320, 1),
    ];

    /// <summary>Channels of the first convolution, before the width multiplier. Default 32.</summary>
    public int Stem { get; init; } = 32;

    /// <summary>Channels of the last convolution. Default null: four times those of the last stage.</summary>
    public int? Last { get; init; }

    /// <summary>
    /// Width multiplier of the channels, above 0 and at most 100; products are rounded to a multiple of 8. Default 1.
    /// </summary>
    public double WidthMultiplier { get; init; } = 1;

    /// <summary>
    /// Depth multiplier of the blocks of each stage, above 0 and at most 100; products are rounded up. Default 1.
    /// </summary>
    public double DepthMultiplier { get; init; } = 1;

    /// <summary>
    /// Whether each inverted block has its own squeeze-and-excitation after the depthwise convolution. An attention that the plan
    /// places at <see cref="AttentionPosition.AfterDepthwise"/> of a block replaces it there. Default true.
    /// </summary>
    public bool SqueezeExcitation { get; init; } = true;

    /// <summary>ε of the batch norms, above 0. Default 10⁻⁵.</summary>
    public double NormEpsilon { get; init; } = 1e-5;

    /// <summary>Dropout before the classifier, in [0, 1). Default 0.2.</summary>
    public double Dropout { get; init; } = 0.2;

    /// <summary>
    /// Stochastic depth: block i of n drops its branch at this rate times i / n, counted from 0. In [0, 1). Default 0.2.
    /// </summary>
    public double DropPath { get; init; } = 0.2;

    /// <summary>
    /// For images of about 32 pixels: stride 1 instead of 2 in the stem and in the first stage with a stride. Default false.
    /// </summary>
    public bool SmallImages { get; init; }

    /// <summary>
    /// Channels layer by layer, as pruning leaves them. Default null: they follow from the stages and the multipliers.
    /// </summary>
    public EfficientNetWidths? Widths { get; init; }

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        ArgumentNullException.ThrowIfNull(Stages);
        if (Stages.Count is 0 or > 12)
        {
            throw new ArgumentException($"Stages has {Stages.Count} items; give 1 to 12 stages.", nameof(Stages));
        }

        foreach (EfficientNetStage stage in Stages) Validate(stage);
        Check.Positive(Stem);
        if (Last is int last) Check.Positive(last, nameof(Last));
        Multiplier(WidthMultiplier, nameof(WidthMultiplier));
        Multiplier(DepthMultiplier, nameof(DepthMultiplier));
        Check.Positive(NormEpsilon);
        Check.Probability(Dropout, oneAllowed: false);
        Check.Probability(DropPath, oneAllowed: false);
        Widths?.Validate(this);
    }

    /// <summary>
    /// Lists the sites of such a network, which are the places that can take an attention. Stages are the items of
    /// <see cref="Stages"/>.
    /// </summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public override IReadOnlyList<AttentionSite> Sites()
    {
        Validate();
        List<AttentionSite> sites = [];
        foreach (EfficientNetBlock block in EfficientNetBlock.All(this))
        {
            Add(AttentionPosition.Before, block.Input);
            if (block.Expands) Add(AttentionPosition.AfterExpand, block.Hidden);
            if (!block.Fused) Add(AttentionPosition.AfterDepthwise, block.Hidden);
            Add(AttentionPosition.BeforeAdd, block.Output);
            if (block.HasShortcut) Add(AttentionPosition.Shortcut, block.Output);
            Add(AttentionPosition.After, block.Output);
            if (block.Index == block.InStage - 1)
            {
                sites.Add(new AttentionSite(AttentionPosition.StageEnd, block.Stage, 0, 1, block.Output));
            }

            void Add(AttentionPosition position, int channels)
                => sites.Add(new AttentionSite(position, block.Stage, block.Index, block.InStage, channels));
        }

        return sites;
    }

    /// <inheritdoc/>
    public override EfficientNet Create() => new(this);

    internal override EfficientNet CreateEncoder(bool fused) => new(this, encoder: true, fused);

    internal override (ValueList<int> Channels, ValueList<int> Reductions) Pyramid()
    {
        Validate();
        ValueList<int> widths = EfficientNetWidths.Of(this).Stages;
        int[] ends = [.. PyramidStages()];
        return (
            ValueList.Create<int>([.. ends.Select(stage => widths[stage - 1])]),
            ValueList.Create<int>(
                [.. ends.Select(
                    stage => (SmallImages ? 1 : 2)
                        * Enumerable.Range(1, stage).Aggregate(1, (product, s) => product * StrideOf(s)))]));
    }

    /// <summary>The stages that end each resolution, from 1. With small images, one more may have the first resolution.</summary>
    internal IEnumerable<int> PyramidStages()
        => Enumerable.Range(1, Stages.Count).Where(stage => stage == Stages.Count || Stages[stage].Stride > 1);

    /// <summary>Stride of a stage, which counts from 1.</summary>
    internal int StrideOf(int stage)
        => SmallImages && Stages[stage - 1].Stride == 2 && Stages.Take(stage - 1).All(before => before.Stride == 1)
            ? 1
            : Stages[stage - 1].Stride;

    private static void Validate(EfficientNetStage stage)
    {
        ArgumentNullException.ThrowIfNull(stage, nameof(Stages));
        Check.Positive(stage.Expansion, nameof(stage.Expansion));
        Check.OddKernel(stage.Kernel, nameof(stage.Kernel));
        Check.Positive(stage.Channels, nameof(stage.Channels));
        Check.Positive(stage.Blocks, nameof(stage.Blocks));
        if (stage.Stride is not (1 or 2))
        {
            throw new ArgumentOutOfRangeException(
                nameof(stage.Stride), stage.Stride, $"Stride of {stage} is {stage.Stride}; it must be 1 or 2.");
        }
    }

    private static void Multiplier(double value, string name)
    {
        Check.Positive(value, name);
        if (value > 100)
        {
            throw new ArgumentOutOfRangeException(
                name, value, $"{name} is {value}; it may be at most 100 (published networks use 1 to 2).");
        }
    }
}

/// <summary>
/// EfficientNet and EfficientNetV2: stages of inverted residual blocks with SiLU and their own squeeze-and-excitation, with any
/// attention at any position of a plan. Without a plan it is exactly torchvision's network. Keys as torchvision
/// (<c>features.2.0.block.0.0.weight</c>); attention keys: <c>features.2.0.attn</c> before the addition, <c>attn_before</c>,
/// <c>attn_expand</c>, <c>attn_shortcut</c>, <c>attn_after</c>, and <c>stage2_attn</c> at a stage's end. An attention after the
/// depthwise convolution replaces the block's squeeze-and-excitation and has its key, <c>features.2.0.block.2</c>
/// (<c>features.1.0.block.1</c> without expansion).
/// </summary>
/// <remarks>
/// Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, arXiv:1905.11946;
/// "EfficientNetV2: Smaller Models and Faster Training", 2021, arXiv:2104.00298. Weights start as torchvision's:
/// convolutions Kaiming normal (fan-out), biases zero, the classifier uniform in ±1/√classes. The excitation's width is a
/// quarter of the block's input channels.
/// </remarks>
public sealed class EfficientNet : Backbone
{
    [ComponentName(Name = "features")]
    private readonly ModuleList<nn.Module<Tensor, Tensor>> _features = [];

    [ComponentName(Name = "classifier")]
    private readonly Sequential? _classifier;

    private readonly nn.Module<Tensor, Tensor>?[] _stageEnds;
    private readonly int[] _pyramidStages;

    /// <summary>Builds the network.</summary>
    /// <param name="options">Its shape; null for EfficientNet-B0.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit this network.</exception>
    public EfficientNet(EfficientNetOptions? options = null)
        : this(options ?? EfficientNetOptions.B0, encoder: false, fused: false)
    {
    }

    internal EfficientNet(EfficientNetOptions options, bool encoder, bool fused)
        : base(nameof(EfficientNet), fused)
    {
        Options = options;
        AttentionPlacement placement = options.Attention.Resolve(nameof(EfficientNet), options.Sites());
        EfficientNetWidths widths = EfficientNetWidths.Of(options);
        _pyramidStages = [.. options.PyramidStages()];
        _stageEnds = new nn.Module<Tensor, Tensor>?[options.Stages.Count];
        _features.Add(Convolution(options.InputChannels, widths.Stem, 3, options.SmallImages ? 1 : 2));
        EfficientNetBlock[] blocks = [.. EfficientNetBlock.All(options)];
        foreach (IGrouping<int, (EfficientNetBlock Shape, int Number)> stage in blocks.Select((block, i) => (block, i)).GroupBy(
            entry => entry.block.Stage))
        {
            _features.Add(nn.Sequential([.. stage.Select(nn.Module<Tensor, Tensor> (block) =>
                new MbConv(block.Shape, options, options.DropPath * block.Number / blocks.Length, placement, fused))]));
            _stageEnds[stage.Key - 1] = placement.Create(AttentionPosition.StageEnd, stage.Key);
            if (_stageEnds[stage.Key - 1] is { } end) register_module($"stage{stage.Key}_attn", end);
        }

        if (!encoder)
        {
            _features.Add(Convolution(widths.Stages[^1], widths.Last, 1, 1));
            _classifier = nn.Sequential(nn.Dropout(options.Dropout), nn.Linear(widths.Last, options.Classes));
        }

        (FeatureChannels, FeatureReductions) = options.Pyramid();
        RegisterComponents();
        if (fused) return;
        BackboneInitializer.Reset(this);
        if (_classifier is not null) BackboneInitializer.ResetClassifier((Linear)_classifier[1]);

        ConvNormActivation Convolution(int input, int output, int kernel, int stride)
            => new(input, output, kernel, stride, GateActivation.SiLU, fused, epsilon: options.NormEpsilon);
    }

    /// <summary>The options that the network was built with.</summary>
    public EfficientNetOptions Options { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureChannels { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureReductions { get; }

    /// <summary>EfficientNet-B0.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for the network's own squeeze-and-excitation alone.</param>
    public static EfficientNet B0(int classes = 1000, AttentionPlan? attention = null)
        => Of(EfficientNetOptions.B0, classes, attention);

    /// <summary>EfficientNet-B1.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for the network's own squeeze-and-excitation alone.</param>
    public static EfficientNet B1(int classes = 1000, AttentionPlan? attention = null)
        => Of(EfficientNetOptions.B1, classes, attention);

    /// <summary>EfficientNet-B2.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for the network's own squeeze-and-excitation alone.</param>
    public static EfficientNet B2(int classes = 1000, AttentionPlan? attention = null)
        => Of(EfficientNetOptions.B2, classes, attention);

    /// <summary>EfficientNet-B3.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for the network's own squeeze-and-excitation alone.</param>
    public static EfficientNet B3(int classes = 1000, AttentionPlan? attention = null)
        => Of(EfficientNetOptions.B3, classes, attention);

    /// <summary>EfficientNetV2-S.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for the network's own squeeze-and-excitation alone.</param>
    public static EfficientNet V2Small(int classes = 1000, AttentionPlan? attention = null)
        => Of(EfficientNetOptions.V2Small, classes, attention);

    /// <summary>
    /// Makes a copy for inference. Each batch norm is folded into the convolution before it. Feature maps are kept in the memory
    /// layout in which convolutions run fastest. The keys are this network's without those of the norms, and convolutions that
    /// had a norm have a bias: <c>features.0.0.bias</c>. See <see cref="ResNet.FuseForInference"/>.
    /// </summary>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/remarks"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/returns"/>
    /// <inheritdoc cref="ResNet.FuseForInference" path="/exception"/>
    public override EfficientNet FuseForInference()
        => InferenceCopy.Of(this, () => new EfficientNet(Options, encoder: _classifier is null, fused: true));

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

    internal override BackboneOptions BaseOptions => Options;

    internal override Tensor[] Encode(Tensor input, Func<int, Tensor, Tensor> refine)
    {
        Tensor[] maps = new Tensor[_pyramidStages.Length];
        Run(input, refine, maps);
        return maps;
    }

    internal override ChannelMap ToChannelMap() => EfficientNetChannels.Of(this);

    internal override IEnumerable<(BatchNorm2d? Norm, int Reduction)> Norms()
    {
        int reduction = Options.SmallImages ? 1 : 2;
        yield return (((ConvNormActivation)_features[0]).Norm, reduction);
        foreach (MbConv block in _features.OfType<Sequential>().SelectMany(stage => stage.children()).OfType<MbConv>())
        {
            foreach ((BatchNorm2d? norm, bool strided) in block.Norms)
            {
                yield return (norm, strided ? reduction * block.Shape.Stride : reduction);
            }

            reduction *= block.Shape.Stride;
        }

        if (_classifier is not null) yield return (((ConvNormActivation)_features[^1]).Norm, reduction);
    }

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        ValueList<long> last = count.Shape(_features[^1]);
        count.Reduce(count.Values(_features[^1]), last[0] * last[1]);
    }

    private Tensor Run(Tensor input, Func<int, Tensor, Tensor> refine, Tensor[]? maps)
    {
        Tensor map = _features[0].call(IsFused ? MapLayout.Fastest(input) : input);
        int level = 0;
        for (int stage = 1; stage <= _stageEnds.Length; stage++)
        {
            map = _features[stage].call(map);
            if (_stageEnds[stage - 1] is { } end) map = end.call(map);
            if (stage != _pyramidStages[level]) continue;
            map = refine(level, map);
            if (maps is not null) maps[level] = map;
            level++;
        }

        return map;
    }

    private static EfficientNet Of(EfficientNetOptions options, int classes, AttentionPlan? attention)
        => new(options with { Classes = classes, Attention = attention ?? AttentionPlan.None });
}
