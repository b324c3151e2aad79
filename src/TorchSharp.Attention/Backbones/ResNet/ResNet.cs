// ResNet. He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, in torchvision's form:
// the stride of a bottleneck is on its 3×3 convolution ("ResNet v1.5"). Keys as torchvision.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Kind of residual block.</summary>
public enum ResNetBlock
{
    /// <summary>Two 3×3 convolutions; the output has the stage's planes.</summary>
    Basic,

    /// <summary>1×1, 3×3, 1×1; the output has four times the stage's planes.</summary>
    Bottleneck,
}

/// <summary>What comes before the first stage.</summary>
public enum ResNetStem
{
    /// <summary>7×7 convolution of stride 2 and 3×3 max-pooling of stride 2, for images of about 224 pixels.</summary>
    Standard,

    /// <summary>3×3 convolution of stride 1, no pooling, for images of about 32 pixels.</summary>
    Small,
}

/// <summary>Settings of a <see cref="ResNet"/>, as an immutable record. The defaults are ResNet-18.</summary>
[BackboneKind("resNet", typeof(ResNet))]
public sealed record ResNetOptions : BackboneOptions
{
    /// <summary>Kind of block. Default basic.</summary>
    public ResNetBlock Block { get; init; }

    /// <summary>Blocks of each stage. Default [2, 2, 2, 2].</summary>
    public ValueList<int> Layers { get; init; } = [2, 2, 2, 2];

    /// <summary>
    /// Planes of each stage; a bottleneck's output has four times as many. Default null: 64, doubling each stage.
    /// </summary>
    public ValueList<int>? StagePlanes { get; init; }

    /// <summary>What comes before the first stage. Default 7×7 with max-pooling.</summary>
    public ResNetStem Stem { get; init; }

    /// <summary>Channels of the stem. Default 64.</summary>
    public int StemWidth { get; init; } = 64;

    /// <summary>
    /// Starts the last norm of every residual branch at zero, so that blocks start as the identity. Default false.
    /// </summary>
    public bool ZeroInitLastNorm { get; init; }

    /// <summary>Stochastic depth: rate, in [0, 1), of the last block; it grows linearly from 0 at the first. Default 0.</summary>
    public double DropPath { get; init; }

    /// <summary>Channels layer by layer, as pruning leaves them. Default null: they follow from the planes.</summary>
    public ResNetWidths? Widths { get; init; }

    /// <summary>Planes of each stage, with the default filled in.</summary>
    public ValueList<int> PlanesOfStages()
        => StagePlanes ?? ValueList.Create<int>([.. Enumerable.Range(0, Layers.Count).Select(i => 64 << i)]);

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        Check.Defined(Block);
        Check.Defined(Stem);
        ArgumentNullException.ThrowIfNull(Layers);
        if (Layers.Count is 0 or > 8)
        {
            throw new ArgumentException($"Layers is {Layers}; give the blocks of 1 to 8 stages.", nameof(Layers));
        }

        foreach (int blocks in Layers) Check.Positive(blocks, nameof(Layers));
        if (StagePlanes is not null && StagePlanes.Count != Layers.Count)
        {
            throw new ArgumentException(
                $"StagePlanes is {StagePlanes} for {Layers.Count} stages; give one number per stage.", nameof(StagePlanes));
        }

        foreach (int planes in PlanesOfStages()) Check.Positive(planes, nameof(StagePlanes));
        Check.Positive(StemWidth);
        Widths?.Validate(this);
        Check.Probability(DropPath, oneAllowed: false);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<AttentionSite> Sites()
    {
        Validate();
        List<AttentionSite> sites = [];
        foreach (ResNetBlockShape block in ResNetBlockShape.All(this))
        {
            bool basic = block.Kind == ResNetBlock.Basic;
            sites.Add(
                new AttentionSite(
                    AttentionPosition.ReplaceSpatialConv, block.Stage, block.Index, block.InStage,
                    basic ? block.Input : block.Inner1)
                {
                    OutputChannels = basic ? block.Inner1 : block.Inner2,
                    Stride = block.Stride,
                });
            Add(AttentionPosition.Before, block.Input);
            Add(AttentionPosition.AfterConv1, block.Inner1);
            Add(AttentionPosition.AfterConv2, block.Inner2);
            Add(AttentionPosition.BeforeAdd, block.Output);
            Add(AttentionPosition.Shortcut, block.Output);
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
    public override ResNet Create() => new(this);

    internal override ResNet CreateEncoder(bool fused) => new(this, encoder: true, fused);

    internal override (ValueList<int> Channels, ValueList<int> Reductions) Pyramid()
    {
        Validate();
        ResNetWidths widths = Widths ?? ResNetWidths.Of(this);
        bool small = Stem == ResNetStem.Small;
        return (
            ValueList.Create<int>([widths.Stem, .. widths.Stages]),
            ValueList.Create<int>([small ? 1 : 2, .. widths.Stages.Select((_, i) => (small ? 1 : 4) << i)]));
    }
}

/// <summary>
/// ResNet: residual stages of basic or bottleneck blocks, with any attention at any position of a plan. Without a plan it is
/// exactly torchvision's network. Keys as torchvision; attention keys: <c>layer1.0.attn</c> before the addition,
/// <c>attn_before</c>, <c>attn_conv1</c>, <c>attn_conv2</c>, <c>attn_shortcut</c>, <c>attn_after</c>, and <c>layer1_attn</c> at
/// a stage's end. What replaces a spatial convolution has its key, <c>layer1.0.conv2</c> in a bottleneck and
/// <c>layer1.0.conv1</c> in a basic block.
/// </summary>
/// <remarks>He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385. Weights start as
/// torchvision's: convolutions Kaiming normal (fan-out), norms one and zero, the classifier as PyTorch's linear layer.</remarks>
public sealed class ResNet : Backbone, IKeepsNorms
{
    [ComponentName(Name = "conv1")]
    private readonly Conv2d _conv1;

    [ComponentName(Name = "bn1")]
    private BatchNorm2d? _bn1;

    [ComponentName(Name = "fc")]
    private readonly Linear? _fc;

    private readonly ValueList<int> _planes;
    private readonly Sequential[] _stages;
    private readonly nn.Module<Tensor, Tensor>?[] _stageEnds;

    /// <summary>Builds the network.</summary>
    /// <param name="options">Its shape; null for ResNet-18.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit this network.</exception>
    public ResNet(ResNetOptions? options = null)
        : this(options ?? new ResNetOptions(), encoder: false, fused: false)
    {
    }

    internal ResNet(ResNetOptions options, bool encoder, bool fused)
        : base(nameof(ResNet), fused)
    {
        Options = options;
        AttentionPlacement placement = options.Attention.Resolve(nameof(ResNet), options.Sites());

        ResNetBlockShape[] shapes = [.. ResNetBlockShape.All(options)];
        int stem = shapes[0].Input;
        _planes = ValueList.Create<int>([.. shapes.Where(shape => shape.Index == 0).Select(shape => shape.Inner1)]);
        bool small = options.Stem == ResNetStem.Small;
        _conv1 = small
            ? nn.Conv2d(options.InputChannels, stem, 3, padding: 1, bias: fused)
            : nn.Conv2d(options.InputChannels, stem, 7, stride: 2, padding: 3, bias: fused);
        register_module("conv1", _conv1);
        if (!fused) register_module("bn1", _bn1 = nn.BatchNorm2d(stem));

        _stages = new Sequential[options.Layers.Count];
        _stageEnds = new nn.Module<Tensor, Tensor>?[_stages.Length];
        int block = 0;
        for (int stage = 1; stage <= _stages.Length; stage++)
        {
            nn.Module<Tensor, Tensor>[] members = new nn.Module<Tensor, Tensor>[options.Layers[stage - 1]];
            for (int i = 0; i < members.Length; i++, block++)
            {
                members[i] = new ResidualBlock(
                    shapes[block], TorchSharp.Attention.DropPath.At(options.DropPath, block, shapes.Length), placement, fused);
            }

            register_module($"layer{stage}", _stages[stage - 1] = nn.Sequential(members));
            _stageEnds[stage - 1] = placement.Create(AttentionPosition.StageEnd, stage);
            if (_stageEnds[stage - 1] is { } end) register_module($"layer{stage}_attn", end);
        }

        if (!encoder) _fc = nn.Linear(shapes[^1].Output, options.Classes);
        (FeatureChannels, FeatureReductions) = options.Pyramid();
        RegisterComponents();
        if (fused) return;
        BackboneInitializer.Reset(this);
        if (options.ZeroInitLastNorm) ZeroLastNorms();
    }

    /// <summary>The options that the network was built with.</summary>
    public ResNetOptions Options { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureChannels { get; }

    /// <inheritdoc/>
    public override ValueList<int> FeatureReductions { get; }

    /// <summary>ResNet-18: basic blocks, [2, 2, 2, 2].</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ResNet ResNet18(int classes = 1000, AttentionPlan? attention = null)
        => Of(ResNetBlock.Basic, [2, 2, 2, 2], classes, attention);

    /// <summary>ResNet-34: basic blocks, [3, 4, 6, 3].</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ResNet ResNet34(int classes = 1000, AttentionPlan? attention = null)
        => Of(ResNetBlock.Basic, [3, 4, 6, 3], classes, attention);

    /// <summary>ResNet-50: bottlenecks, [3, 4, 6, 3].</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ResNet ResNet50(int classes = 1000, AttentionPlan? attention = null)
        => Of(ResNetBlock.Bottleneck, [3, 4, 6, 3], classes, attention);

    /// <summary>ResNet-101: bottlenecks, [3, 4, 23, 3].</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ResNet ResNet101(int classes = 1000, AttentionPlan? attention = null)
        => Of(ResNetBlock.Bottleneck, [3, 4, 23, 3], classes, attention);

    /// <summary>ResNet-152: bottlenecks, [3, 8, 36, 3].</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="attention">Which attention goes where; null for none.</param>
    public static ResNet ResNet152(int classes = 1000, AttentionPlan? attention = null)
        => Of(ResNetBlock.Bottleneck, [3, 8, 36, 3], classes, attention);

    /// <summary>
    /// Makes a copy for inference. Each batch norm is folded into the convolution before it: w′ = w · γ / √(σ² + ε) and b′ = (b −
    /// μ) · γ / √(σ² + ε) + β. Feature maps are kept in the memory layout in which convolutions run fastest. The outputs are
    /// those of this network in evaluation mode, up to rounding. The keys are this network's without those of the norms, and
    /// convolutions that had a norm have a bias: <c>conv1.bias</c>. Attentions stay separate modules under their own keys, and
    /// their maps can be recorded as before. A module that replaces a convolution also stays, with its norms. Attention that
    /// <see cref="InsertionExtensions.InsertAttention"/> put into the network is copied under its keys. A norm directly after
    /// such an attention cannot be folded and stays a norm under its own key.
    /// </summary>
    /// <remarks>
    /// This network stays as it is, its mode included; running statistics are taken as they are now. Hooks are not copied. The
    /// copy is in evaluation mode and refuses training mode; its parameters need no gradients, though gradients of the input
    /// work. On the CPU, in float32 and bfloat16, its maps may lie channels last, also those that
    /// <see cref="FeatureNetwork.Features"/> returns.
    /// </remarks>
    /// <returns>A network of the same type and device with tensors of its own, owned by the caller.</returns>
    /// <exception cref="InvalidOperationException">
    /// This network is fused already, its values are of several types or on several devices, or it has a module that neither
    /// its options nor an insertion put there.
    /// </exception>
    /// <exception cref="ObjectDisposedException">This network was disposed.</exception>
    public override ResNet FuseForInference()
        => InferenceCopy.Of(this, () => new ResNet(Options, encoder: _fc is null, fused: true));

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
        Tensor last = Run(input, (_, map) => map, null);
        return _fc!.call(last.mean([2, 3])).MoveToOuterDisposeScope();
    }

    internal override void CountEncoder(FunctionCount count)
    {
        long stem = count.Values(_conv1);
        count.Map(stem, inPlace: true);
        if (Options.Stem == ResNetStem.Standard)
        {
            ValueList<long> shape = count.Shape(_conv1);
            count.Pool(stem, shape[0] * shape[1] * ((shape[2] + 1) / 2) * ((shape[3] + 1) / 2), 9);
        }
    }

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        CountEncoder(count);
        ValueList<long> last = count.Shape(_stages[^1]);
        count.Reduce(count.Values(_stages[^1]), last[0] * last[1]);
    }

    internal override ChannelMap ToChannelMap() => ResNetChannels.Of(this);

    internal override IEnumerable<(BatchNorm2d? Norm, int Reduction)> Norms()
    {
        int reduction = FeatureReductions[0];
        yield return (_bn1, reduction);
        if (Options.Stem == ResNetStem.Standard) reduction *= 2;
        foreach (ResidualBlock block in _stages.SelectMany(stage => stage.children()).OfType<ResidualBlock>())
        {
            foreach ((BatchNorm2d? norm, bool strided) in block.Norms)
            {
                yield return (norm, strided ? reduction * block.Stride : reduction);
            }

            reduction *= block.Stride;
        }
    }

    void IKeepsNorms.Keep(string key, BatchNorm2d norm) => register_module(key, _bn1 = norm);

    internal override BackboneOptions BaseOptions => Options;

    internal override Tensor[] Encode(Tensor input, Func<int, Tensor, Tensor> refine)
    {
        Tensor[] maps = new Tensor[_stages.Length + 1];
        Run(input, refine, maps);
        return maps;
    }

    private Tensor Run(Tensor input, Func<int, Tensor, Tensor> refine, Tensor[]? maps)
    {
        Tensor map = IsFused ? MapLayout.Fastest(input) : input;
        map = refine(0, _bn1.Norm(_conv1.call(map)).relu_());
        if (maps is not null) maps[0] = map;
        if (Options.Stem == ResNetStem.Standard) map = nn.functional.max_pool2d(map, 3, 2, 1);
        for (int i = 0; i < _stages.Length; i++)
        {
            if (IsFused) map = MapLayout.Fastest(map, _planes[i]);
            map = _stages[i].call(map);
            if (_stageEnds[i] is { } end) map = end.call(map);
            map = refine(i + 1, map);
            if (maps is not null) maps[i + 1] = map;
        }

        return map;
    }

    private void ZeroLastNorms()
    {
        using (no_grad())
        {
            foreach (Sequential stage in _stages)
            {
                foreach (nn.Module block in stage.children()) nn.init.zeros_(((ResidualBlock)block).LastNorm.weight!);
            }
        }
    }

    private static ResNet Of(ResNetBlock block, ValueList<int> layers, int classes, AttentionPlan? attention)
        => new(new ResNetOptions
        {
            Block = block,
            Layers = layers,
            Classes = classes,
            Attention = attention ?? AttentionPlan.None,
        });
}
