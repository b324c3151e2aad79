namespace TorchSharp.Attention.Golden;

/// <summary>The arguments of timm's attention modules as options. Names and defaults are timm's.</summary>
internal static class TimmAttentions
{
    private static readonly (string, GateFunction)[] Gates =
        [("sigmoid", GateFunction.Sigmoid), ("hard_sigmoid", GateFunction.HardSigmoid)];

    private static readonly (string, GateActivation)[] Activations =
    [
        ("relu", GateActivation.ReLU), ("relu6", GateActivation.ReLU6), ("silu", GateActivation.SiLU), ("swish", GateActivation.SiLU),
        ("hard_swish", GateActivation.HardSwish), ("gelu", GateActivation.GELU),
    ];

    public static SqueezeExcitationOptions Se(ReferenceArguments arguments, int channels)
    {
        Reduction reduction = ReducedWidth(arguments, channels, 8);
        return new SqueezeExcitationOptions
        {
            Reduction = reduction.Ratio,
            RoundingDivisor = reduction.Divisor,
            ReducedChannels = reduction.Channels,
            MaxPool = arguments.Flag("add_maxpool", false),
            Bias = arguments.Flag("bias", true),
            Norm = arguments.Choice("norm_layer", "none", ("none", false), ("batchnorm2d", true)),
            Activation = arguments.Choice("act_layer", "relu", Activations),
            Gate = arguments.Choice("gate_layer", "sigmoid", Gates),
        };
    }

    /// <summary>eca and ceca. The argument <c>kernel_size</c> is the kernel that was used; null asks for the adaptive one.</summary>
    public static EfficientChannelAttentionOptions Eca(ReferenceArguments arguments, int channels, ChannelPadding padding)
    {
        bool mlp = padding == ChannelPadding.Zeros && arguments.Flag("use_mlp", false);
        EfficientChannelAttentionOptions options = new()
        {
            KernelSize = arguments.Integer("kernel_size"),
            Gamma = arguments.Number("gamma", 2),
            Beta = arguments.Number("beta", 1),
            Padding = padding,
            Gate = arguments.Choice("gate_layer", "sigmoid", Gates),
        };
        if (mlp)
        {
            return options with
            {
                Mlp = true,
                HiddenWidth = EcaHiddenWidth(arguments, channels),
                Activation = arguments.Choice("act_layer", "relu", Activations),
            };
        }

        if (padding == ChannelPadding.Zeros) arguments.Ignore("rd_ratio", "rd_divisor", "rd_channels"); // Sizes of the MLP that is not there.
        Without(arguments, "act_layer");
        return options;
    }

    /// <summary>C · rd_ratio rounded to a multiple of rd_divisor, but never more than a tenth down.</summary>
    private static int EcaHiddenWidth(ReferenceArguments arguments, int channels)
    {
        double width = channels * arguments.Number("rd_ratio", 1.0 / 8);
        int divisor = arguments.Integer("rd_divisor", 8);
        if (arguments.Integer("rd_channels") is int explicitly) return explicitly;
        if (width <= 0 || divisor < 1) throw new InvalidDataException($"rd_ratio gives a width of {width} and rd_divisor is {divisor}; both must be above 0");
        int rounded = MakeDivisible(width, divisor);
        return rounded < 0.9 * width ? rounded + divisor : rounded;
    }

    /// <summary>eca with use_mlp, whose file has no arguments: both sizes show in the weights.</summary>
    public static EfficientChannelAttentionOptions EcaMlp(GoldenCase golden) => EfficientChannelAttentionOptions.TimmMlp with
    {
        KernelSize = golden.StateSize("conv2.weight", 2),
        HiddenWidth = golden.StateSize("conv.weight", 0),
    };

    public static EffectiveSqueezeExcitationOptions Ese(ReferenceArguments arguments) => new()
    {
        MaxPool = arguments.Flag("add_maxpool", false),
        Gate = arguments.Choice("gate_layer", "hard_sigmoid", Gates),
    };

    /// <summary>lcbam. Its gates are sigmoids whatever gate_layer says, so only that is understood.</summary>
    public static LightCbamOptions LightCbam(ReferenceArguments arguments, int channels)
    {
        Reduction reduction = ReducedWidth(arguments, channels, 1);
        return LightCbamOptions.Timm with
        {
            Reduction = reduction.Ratio,
            RoundingDivisor = reduction.Divisor,
            ReducedChannels = reduction.Channels,
            Bias = arguments.Flag("mlp_bias", false),
            KernelSize = arguments.Integer("spatial_kernel_size", 7),
            Activation = arguments.Choice("act_layer", "relu", Activations),
            Gate = arguments.Choice("gate_layer", "sigmoid", ("sigmoid", GateFunction.Sigmoid)),
        };
    }

    /// <summary>
    /// ge. timm cannot construct it at the commit that made the files; they are explained by its defaults: no parameters gather,
    /// and a bottleneck of C · rd_ratio rounded to the nearest integer excites, with biases and ReLU. The size of a kernel over the whole
    /// map shows in its weight. With parameters timm overlooks add_maxpool.
    /// </summary>
    public static GatherExciteOptions GatherExcite(GoldenCase golden)
    {
        (ReferenceArguments arguments, int channels) = (golden.Arguments, golden.Channels());
        Reduction reduction = ReducedWidth(arguments, channels, 1);
        (bool parameters, int extent) = (arguments.Flag("extra_params", false), arguments.Integer("extent", 0));
        bool whole = parameters && extent == 0;
        if (whole) arguments.Ignore("feat_size");
        else Without(arguments, "feat_size");
        bool maximum = arguments.Flag("add_maxpool", false);
        return new GatherExciteOptions
        {
            Extent = extent,
            GatherParameters = parameters,
            PadWholeMap = whole,
            MapHeight = whole ? golden.StateSize("gather.conv1.weight", 2) : null,
            MapWidth = whole ? golden.StateSize("gather.conv1.weight", 3) : null,
            Mlp = arguments.Flag("use_mlp", true),
            MaxPool = maximum && !parameters,
            Reduction = reduction.Ratio,
            RoundingDivisor = reduction.Divisor,
            ReducedChannels = reduction.Channels,
            Activation = arguments.Choice("act_layer", "relu", Activations),
            Gate = arguments.Choice("gate_layer", "sigmoid", Gates),
        };
    }

    public static CoordinateAttentionOptions Coordinate(ReferenceArguments arguments, int channels)
    {
        Reduction reduction = ReducedWidth(arguments, channels, 8, arguments.Number("se_factor", 2.0 / 3));
        return CoordinateAttentionOptions.Timm with
        {
            Reduction = reduction.Ratio,
            RoundingDivisor = reduction.Divisor,
            ReducedChannels = reduction.Channels,
            MinReducedChannels = 1,
            Residual = arguments.Flag("has_skip", false),
            Bias = arguments.Flag("bias", false),
            Activation = arguments.Choice("act_layer", "hard_swish", Activations),
            Gate = arguments.Choice("gate_layer", "sigmoid", Gates),
        };
    }

    /// <summary>scoord, ela and strip: their files have no arguments, and every size shows in the weights.</summary>
    public static SimpleCoordinateAttentionOptions SimpleCoordinate(GoldenCase golden) =>
        SimpleCoordinateAttentionOptions.Timm with { ReducedChannels = golden.StateSize("fc1.weight", 0) };

    /// <inheritdoc cref="SimpleCoordinate"/>
    public static EfficientLocalAttentionOptions Local(GoldenCase golden) =>
        EfficientLocalAttentionOptions.Timm with { KernelSize = golden.StateSize("conv_h.weight", 2) };

    /// <inheritdoc cref="SimpleCoordinate"/>
    public static StripAttentionOptions Strip(GoldenCase golden) => golden.State.Count == 0
        ? StripAttentionOptions.WithoutParameters
        : StripAttentionOptions.Timm with { KernelSize = golden.StateSize("conv_h.weight", 2) };

    public static CbamOptions Cbam(ReferenceArguments arguments, int channels)
    {
        Reduction reduction = ReducedWidth(arguments, channels, 1);
        return CbamOptions.Timm with
        {
            Reduction = reduction.Ratio,
            RoundingDivisor = reduction.Divisor,
            ReducedChannels = reduction.Channels,
            Bias = arguments.Flag("mlp_bias", false),
            KernelSize = arguments.Integer("spatial_kernel_size", 7),
            Activation = arguments.Choice("act_layer", "relu", Activations),
            Gate = arguments.Choice("gate_layer", "sigmoid", Gates),
        };
    }

    /// <summary>gc and gca. How the last layer starts has no effect: its state is loaded.</summary>
    public static GlobalContextOptions GlobalContext(ReferenceArguments arguments, int channels)
    {
        Reduction reduction = ReducedWidth(arguments, channels, 1, defaultRatio: 1.0 / 8);
        arguments.Ignore("init_last_zero");
        return GlobalContextOptions.Timm with
        {
            Fusion = (arguments.Flag("fuse_scale", true), arguments.Flag("fuse_add", false)) switch
            {
                (true, true) => GlobalContextFusion.ScaleAndAdd,
                (true, false) => GlobalContextFusion.Scale,
                (false, true) => GlobalContextFusion.Add,
                _ => throw new InvalidDataException("neither 'fuse_scale' nor 'fuse_add' is true: the module would do nothing"),
            },
            AttentionPooling = arguments.Flag("use_attn", true),
            Reduction = reduction.Ratio,
            RoundingDivisor = reduction.Divisor,
            ReducedChannels = reduction.Channels,
            Activation = arguments.Choice("act_layer", "relu", Activations),
            Gate = arguments.Choice("gate_layer", "sigmoid", Gates),
        };
    }

    /// <summary>gca without arguments: timm's name for the form that adds.</summary>
    public static GlobalContextOptions GlobalContextAdded(GoldenCase golden) =>
        GlobalContext(golden.Arguments, golden.Channels()) with { Fusion = GlobalContextFusion.Add };

    public static NonLocalOptions NonLocal(ReferenceArguments arguments, int channels)
    {
        Reduction reduction = ReducedWidth(arguments, channels, 8, defaultRatio: 1.0 / 8);
        return NonLocalOptions.Timm with
        {
            Scale = arguments.Flag("use_scale", true) ? NonLocalScale.Channels : NonLocalScale.None,
            Reduction = reduction.Ratio,
            RoundingDivisor = reduction.Divisor,
            ReducedChannels = reduction.Channels,
        };
    }

    /// <summary>Swin's window attention on windows that were cut out already.</summary>
    public static Blueprint Window(GoldenCase golden)
    {
        int channels = Required(golden, "dim");
        WindowAttentionOptions options = new() { Heads = Required(golden, "num_heads"), WindowSize = Required(golden, "window") };
        return new Blueprint(() => options.Create(channels), KeyMap.Identity, Forward: (module, x, x1) => x1 is null
            ? ((WindowAttention)module).AttendWindows(x)
            : throw new InvalidDataException("the tensor 'x1' is not understood: one input is taken"));
    }

    /// <summary>Block and width show in the weights of the transform.</summary>
    public static BatAttentionOptions Bat(GoldenCase golden) => new()
    {
        BlockSize = golden.StateSize("ba.conv_p.weight", 2),
        Groups = golden.StateSize("ba.conv1.conv.weight", 0),
        ReducedChannels = golden.StateSize("conv1.conv.weight", 0),
    };

    /// <summary>A table of 2n − 1 offsets is made for n positions; its rows are as wide as a head.</summary>
    public static BottleneckAttentionOptions Bottleneck(GoldenCase golden) => new()
    {
        Heads = golden.Channels() / golden.StateSize("pos_embed.height_rel", 1),
        FeatureHeight = (golden.StateSize("pos_embed.height_rel", 0) + 1) / 2,
        FeatureWidth = (golden.StateSize("pos_embed.width_rel", 0) + 1) / 2,
    };

    /// <summary>The table of offsets is made for block + 2 · halo positions; the source says how they split: "b=2,h=1".</summary>
    public static HaloAttentionOptions Halo(GoldenCase golden)
    {
        int window = (golden.StateSize("pos_embed.height_rel", 0) + 1) / 2;
        int block = ReleasedAttentions.Setting(golden, "b") ?? throw new InvalidDataException("the source does not say the block, as \"b=2\"");
        int halo = ReleasedAttentions.Setting(golden, "h") ?? (window - block) / 2;
        return block + (2 * halo) == window
            ? new() { Heads = golden.Channels() / golden.StateSize("pos_embed.height_rel", 1), BlockSize = block, HaloSize = halo }
            : throw new InvalidDataException($"block {block} and halo {halo} make windows of {block + (2 * halo)}; the state has {window}");
    }

    /// <summary>Everything shows in the shapes: r and the keys' width in the convolution, the heads in the norm of the queries.</summary>
    public static LambdaLayerOptions Lambda(GoldenCase golden)
    {
        int width = golden.StateSize("conv_lambda.weight", 0);
        return new() { Heads = golden.StateSize("norm_q.weight", 0) / width, KeyWidth = width, KernelSize = golden.StateSize("conv_lambda.weight", 2) };
    }

    private static int Required(GoldenCase golden, string name) => golden.Arguments.Integer(name)
        ?? throw new InvalidDataException($"the argument '{name}' is missing");

    /// <summary>
    /// timm's rule: rd_channels if given, else C · rd_ratio (times a factor that some modules have) rounded to the nearest
    /// multiple of rd_divisor, at least that. Where rd_ratio is one over an integer, our own rule is asked for the same;
    /// otherwise the width is given explicitly.
    /// </summary>
    internal static Reduction ReducedWidth(
        ReferenceArguments arguments, int channels, int defaultDivisor, double factor = 1, double defaultRatio = 1.0 / 16)
    {
        double ratio = arguments.Number("rd_ratio", defaultRatio) * factor;
        int divisor = arguments.Integer("rd_divisor", defaultDivisor);
        int? explicitly = arguments.Integer("rd_channels");
        if (explicitly is not (null or 0)) return new Reduction(1, null, explicitly);
        if (ratio <= 0 || divisor < 1)
        {
            throw new InvalidDataException($"rd_ratio is {ratio} and rd_divisor {divisor}; both must be above 0");
        }

        int width = MakeDivisible(channels * ratio, divisor);
        double reduction = Math.Round(1 / ratio);
        bool whole = Math.Abs((1 / ratio) - reduction) < 1e-9 && MakeDivisible(channels / reduction, divisor) == width;
        return whole ? new Reduction((int)reduction, divisor, null) : new Reduction(1, null, width);
    }

    private static int MakeDivisible(double value, int divisor) =>
        Math.Max(divisor, (int)(value + (divisor / 2.0)) / divisor * divisor);

    internal static void Without(ReferenceArguments arguments, params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
        {
            if (arguments.Text(name) is string layer)
            {
                throw new InvalidDataException($"the argument '{name}' is \"{layer}\"; only null is supported");
            }
        }
    }

    /// <summary>A reduced width as our options say it.</summary>
    internal readonly record struct Reduction(int Ratio, int? Divisor, int? Channels);
}
