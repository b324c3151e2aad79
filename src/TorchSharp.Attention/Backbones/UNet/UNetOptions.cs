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
    /// Transposed convolution with kernel <see cref="UNetOptions.UpKernelSize"/>, its norm and ReLU. The convolution is padded so
    /// that the size exactly doubles, or grows by the stride of the level.
    /// </summary>
    TransposedBlock,
}

/// <summary>How the plain encoder of a <see cref="UNet"/> halves its resolution.</summary>
public enum UNetDownSampling
{
    /// <summary>Max-pooling, which ignores the last row or column of a map of odd size.</summary>
    MaxPool,

    /// <summary>The first convolution of the next level has a stride.</summary>
    Strided,
}

/// <summary>How a decoder level of a <see cref="UNet"/> combines the map of the skip connection with the deeper map.</summary>
public enum UNetDecoder
{
    /// <summary>Two 3×3 convolutions with norm and ReLU, as the encoder's levels.</summary>
    DoubleConvolution,

    /// <summary>
    /// One 3×3 convolution with bias, an instance norm without parameters, and a PReLU with one slope, as in MONAI.
    /// </summary>
    Merge,
}

/// <summary>Settings of a <see cref="UNet"/>, as an immutable record. The defaults are the widths of the paper.</summary>
public sealed record UNetOptions
{
    private const int DefaultDepth = 4, DefaultInputChannels = 3;

    /// <summary>
    /// The settings of MONAI's <c>AttentionUnet</c>: strided convolutions down, 3×3 transposed convolutions with norm and ReLU
    /// up, one merging convolution per decoder level, biases in all convolutions, and attention gates on all skip connections.
    /// Set <see cref="Widths"/>, <see cref="Strides"/>, <see cref="InputChannels"/> and <see cref="Classes"/>.
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
    /// How many times the plain encoder halves the resolution. Default null: 4, or one less than the number of
    /// <see cref="Widths"/>. With an <see cref="Encoder"/> it must be null, because the encoder determines the depth.
    /// </summary>
    public int? Depth { get; init; }

    /// <summary>
    /// Channels of each level, finest first. Plain encoder: depth + 1 numbers, the last one the bottleneck's; default 64,
    /// doubling each level. With an <see cref="Encoder"/>: the decoder's levels; default 16, doubling each level.
    /// </summary>
    public ValueList<int>? Widths { get; init; }

    /// <summary>
    /// Channels of the image. Default 3. With an <see cref="Encoder"/>, this number is used for the encoder too. The encoder's
    /// own number must be equal to it or left at its default.
    /// </summary>
    public int InputChannels { get; init; } = DefaultInputChannels;

    /// <summary>Number of classes: the output has one logit per class and pixel. Default 1.</summary>
    public int Classes { get; init; } = 1;

    /// <summary>Norm after each convolution of the plain encoder and the decoder. Default batch norm.</summary>
    public UNetNorm Norm { get; init; }

    /// <summary>Groups of a group norm; they must divide every width. Default 8.</summary>
    public int NormGroups { get; init; } = 8;

    /// <summary>How the decoder doubles its resolution. Default transposed convolution.</summary>
    public UNetUpSampling UpSampling { get; init; }

    /// <summary>
    /// Kernel size of the transposed convolutions of <see cref="UNetUpSampling.TransposedBlock"/>, odd; others have none. Default
    /// 3.
    /// </summary>
    public int UpKernelSize { get; init; } = 3;

    /// <summary>How the plain encoder halves its resolution. Default max-pooling.</summary>
    public UNetDownSampling DownSampling { get; init; }

    /// <summary>
    /// Factor by which the resolution decreases after each level of the plain encoder, finest first. Default null: 2 for each.
    /// </summary>
    public ValueList<int>? Strides { get; init; }

    /// <summary>What a decoder level consists of. Default two convolutions.</summary>
    public UNetDecoder Decoder { get; init; }

    /// <summary>Kernel size of the double convolutions, odd. Default 3.</summary>
    public int KernelSize { get; init; } = 3;

    /// <summary>
    /// Whether convolutions have a bias even if a norm follows, which makes the bias useless. Released networks with such biases
    /// need true. Default false: only convolutions without a norm have a bias.
    /// </summary>
    public bool ConvolutionBias { get; init; }

    /// <summary>
    /// Probability, in [0, 1), of zeroing an element between norm and activation of encoder and decoder
    /// convolutions, in training. Default 0.
    /// </summary>
    public double Dropout { get; init; }

    /// <summary>The backbone whose feature pyramid is the encoder, with its own plan. Default null: the plain encoder.</summary>
    public BackboneOptions? Encoder { get; init; }

    /// <summary>The plan that says which attention goes where. Default: no attention.</summary>
    public AttentionPlan Attention { get; init; } = AttentionPlan.None;

    /// <summary>Checks these settings without building the network.</summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public void Validate() => Levels();

    /// <summary>
    /// Lists the sites of such a network, which are the places that can take an attention. Stages are levels, counted from 1, the
    /// finest. The bottleneck is the last.
    /// </summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public IReadOnlyList<AttentionSite> Sites()
    {
        (IReadOnlyList<UNetLevel> levels, int bottleneck) = Levels();
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
        if (UpKernelSize != 3 && UpSampling != UNetUpSampling.TransposedBlock)
        {
            throw new ArgumentException(
                $"UpKernelSize is {UpKernelSize}, but UpSampling is {UpSampling}, which has no such kernel. " +
                $"Set UpSampling to {nameof(UNetUpSampling.TransposedBlock)}, or leave UpKernelSize at 3.", nameof(UpKernelSize));
        }

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
                        nameof(NormGroups), NormGroups,
                        $"NormGroups is {NormGroups}, which does not divide the width {width}. Choose a divisor of every width.");
                }
            }
        }

        return (levels, bottleneck);
    }

    private (List<UNetLevel> Levels, int Bottleneck) PlainLevels()
    {
        int depth = Depth ?? (Widths?.Count - 1) ?? DefaultDepth;
        if (depth is < 1 or > 8)
        {
            throw new ArgumentOutOfRangeException(nameof(Depth), depth, $"Depth is {depth}; it must be 1 to 8.");
        }

        ValueList<int> widths = Widths ?? ValueList.Create<int>([.. Enumerable.Range(0, depth + 1).Select(i => 64 << i)]);
        if (widths.Count != depth + 1)
        {
            throw new ArgumentException(
                $"Widths is {widths}; a depth of {depth} has {depth + 1} levels with the bottleneck.", nameof(Widths));
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
            throw new ArgumentException(
                $"Depth is {depth}, but the encoder's pyramid says how deep the network is. Leave Depth null.", nameof(Depth));
        }

        if (Strides is not null || DownSampling != default)
        {
            string name = Strides is null ? nameof(DownSampling) : nameof(Strides);
            throw new ArgumentException(
                $"{name} is set, but the encoder halves the resolution in its own way. Leave it at its default.", name);
        }

        if (backbone.InputChannels != InputChannels && backbone.InputChannels != DefaultInputChannels)
        {
            throw new ArgumentException(
                $"Encoder.InputChannels is {backbone.InputChannels} and InputChannels is {InputChannels}; " +
                "which images does the network take? " +
                $"Set InputChannels = {backbone.InputChannels} on the {nameof(UNetOptions)}, which counts for both.",
                nameof(Encoder));
        }

        (ValueList<int> channels, ValueList<int> reductions) = backbone.Pyramid();
        List<UNetLevel> levels = [];
        for (int i = 0; i < channels.Count - 1; i++)
        {
            // Of several maps of one resolution the last one is the level's.
            if (reductions[i] != reductions[i + 1]) levels.Add(new UNetLevel(reductions[i], 0, channels[i], i));
        }

        if (levels.Count == 0 && reductions[0] == 1)
        {
            throw new ArgumentException(
                "The encoder never halves the resolution, so there is nothing to decode. Give it more stages.", nameof(Encoder));
        }

        // Levels without a skip connection lead from the encoder's finest map to the image's size.
        for (int reduction = reductions[0] / 2; reduction >= 1; reduction /= 2)
        {
            levels.Insert(0, new UNetLevel(reduction, 0, 0, null));
        }

        ValueList<int> widths = Widths ?? ValueList.Create<int>([.. Enumerable.Range(0, levels.Count).Select(i => 16 << i)]);
        if (widths.Count != levels.Count)
        {
            throw new ArgumentException(
                $"Widths is {widths}; with this encoder the decoder has {levels.Count} levels.", nameof(Widths));
        }

        foreach (int width in widths) Check.Positive(width, nameof(Widths));
        return ([.. levels.Select((level, i) => level with { Width = widths[i] })], channels[^1]);
    }
}
