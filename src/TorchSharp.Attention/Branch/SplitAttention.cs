// Split attention. Hang Zhang and others: "ResNeSt: Split-Attention Networks", 2020, arXiv:2004.08955. The released code's
// bottleneck has max(⌊C · radix / 4⌋, 32) channels; timm rounds to a multiple of 8. timm's module alone has no norms, its ResNeSt
// has both; alone and dilated, timm's module shrinks the map, which its networks prevent as this module does.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="SplitAttention"/>. Defaults: the paper's, as in ResNeSt-50.</summary>
[AttentionKind("split-attention")]
public sealed record SplitAttentionOptions : BranchAttentionOptions
{
    /// <summary>The paper's ResNeSt 2s1x: two splits, one cardinal group.</summary>
    public static SplitAttentionOptions Paper { get; } = new();

    /// <summary>timm's ResNeSt: the bottleneck's width rounded to a multiple of 8.</summary>
    public static SplitAttentionOptions Timm { get; } = new() { RoundingDivisor = 8 };

    /// <summary>Number of splits, whose weights are a softmax; 1 makes the weight a sigmoid. Default 2.</summary>
    public int Radix { get; init; } = 2;

    /// <summary>Kernel size of the convolution, odd. Default 3.</summary>
    public int KernelSize { get; init; } = 3;

    /// <summary>Whether the convolution has a bias. Default false.</summary>
    public bool Bias { get; init; }

    /// <summary>Whether batch norms follow the convolution and the bottleneck. Default true.</summary>
    public bool Norm { get; init; } = true;

    /// <summary>Reduction r: the bottleneck has C · radix / r channels. Default 4.</summary>
    public int Reduction { get; init; } = 4;

    /// <summary>Width of the bottleneck in channels, instead of C · radix / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Least width of the bottleneck, unless <see cref="ReducedChannels"/> is set. Default 32.</summary>
    public int MinimumReducedChannels { get; init; } = 32;

    /// <summary>Rounds C · radix / r to a multiple of this, never more than 10 % down. Default null: ⌊C · radix / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <inheritdoc/>
    public override void Validate(ConvolutionSpec convolution)
    {
        base.Validate(convolution);
        (int channels, int outputChannels, _) = convolution;
        if (Radix is < 1 or > 16)
        {
            throw new ArgumentOutOfRangeException(nameof(Radix), Radix, $"Radix is {Radix}; it must be 1 to 16.");
        }

        Check.OddKernel(KernelSize);
        CheckGroups(
            ConvolutionGroups(convolution), channels, "input channels", "Choose Groups and Radix whose product divides them.");
        CheckGroups(Cardinality, outputChannels, "output channels");
        CheckGroups(Cardinality, ReducedWidth(channels), "channels of the bottleneck");
    }

    /// <inheritdoc/>
    public override SplitAttention Create(int channels, int? outputChannels = null, int stride = 1)
        => new(channels, this, outputChannels, stride);

    /// <inheritdoc/>
    public override SplitAttention Create(ConvolutionSpec convolution) => new(convolution, this);

    /// <summary>Cardinal groups of the bottleneck: the paper's where they are set, otherwise one.</summary>
    internal int Cardinality => Groups ?? 1;

    /// <summary>
    /// Whether each channel yields its splits by itself, because the replaced convolution is depthwise and nothing else is set.
    /// </summary>
    internal bool IsDepthwise(ConvolutionSpec convolution) => Groups is null && convolution.IsDepthwise;

    /// <summary>Groups of the convolution: each split sees its share of the channels, unless it is depthwise.</summary>
    internal int ConvolutionGroups(ConvolutionSpec convolution) =>
        IsDepthwise(convolution) ? convolution.Groups : (Groups ?? convolution.Groups) * Radix;

    internal int ReducedWidth(int channels) => ChannelReduction.WidthOfSelection(
        channels * Radix, Reduction, ReducedChannels, MinimumReducedChannels, RoundingDivisor);
}

/// <summary>
/// Split attention: y = Σ_m w_m · U_m, U_1 … U_radix the splits of δ(BN(conv(x))), a convolution to radix · C′ channels in groups
/// · radix groups, δ the replaced convolution's activation; w = softmax over the splits of W₂ ReLU(BN(W₁ z)) (sigmoid for radix
/// 1), z = mean over positions of Σ_m U_m. (N, C, H, W) to (N, C′, ⌈H / stride⌉, ⌈W / stride⌉), weights (N, radix, C′, 1, 1).
/// Keys as timm: <c>conv</c>, <c>bn0</c>, <c>fc1</c>, <c>bn1</c>, <c>fc2</c>.
/// </summary>
/// <remarks>
/// Zhang, Wu, Zhang and others: "ResNeSt: Split-Attention Networks", 2020, arXiv:2004.08955. It contains norm and activation δ of
/// the convolution that it replaces (ReLU, if not said otherwise). In place of a depthwise convolution each channel yields radix
/// candidates by itself: the outputs of the convolution, C groups, lie together by input channel.
/// <see cref="AttentionInitialization.Paper"/>: Kaiming normal convolutions, biases zero.
/// </remarks>
public sealed class SplitAttention : BranchModule
{
    [ComponentName(Name = "conv")]
    private readonly Conv2d _conv;

    [ComponentName(Name = "bn0")]
    private readonly BatchNorm2d? _bn0;

    [ComponentName(Name = "fc1")]
    private readonly Conv2d _fc1;

    [ComponentName(Name = "bn1")]
    private readonly BatchNorm2d? _bn1;

    [ComponentName(Name = "fc2")]
    private readonly Conv2d _fc2;

    private readonly SplitAttentionOptions _options;
    private readonly bool _depthwise;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Channels of the input.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <param name="outputChannels">Channels of the output; null for as many as the input has.</param>
    /// <param name="stride">Stride. Default 1.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    public SplitAttention(int channels, SplitAttentionOptions? options = null, int? outputChannels = null, int stride = 1)
        : this(new ConvolutionSpec(channels, outputChannels ?? channels, stride), options ?? SplitAttentionOptions.Paper)
    {
    }

    /// <summary>Builds the module in place of a convolution.</summary>
    /// <param name="convolution">The convolution that it replaces.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the convolution.</exception>
    public SplitAttention(ConvolutionSpec convolution, SplitAttentionOptions options)
        : base(convolution, options)
    {
        _options = options;
        _depthwise = options.IsDepthwise(convolution);
        ReducedChannels = options.ReducedWidth(Channels);
        int inner = OutputChannels * options.Radix;
        _conv = nn.Conv2d(
            Channels, inner, options.KernelSize, stride: Stride, padding: options.Dilation * (options.KernelSize / 2),
            dilation: options.Dilation,
            groups: options.ConvolutionGroups(convolution), bias: options.Bias);
        _fc1 = nn.Conv2d(OutputChannels, ReducedChannels, 1, groups: options.Cardinality);
        _fc2 = nn.Conv2d(ReducedChannels, inner, 1, groups: options.Cardinality);
        if (options.Norm)
        {
            _bn0 = nn.BatchNorm2d(inner);
            _bn1 = nn.BatchNorm2d(ReducedChannels);
        }

        Complete();
    }

    /// <summary>Width of the bottleneck in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountBranches(FunctionCount count, long output)
    {
        long branches = _options.Radix * output, selected = count.Values(_fc2), channels = selected / _options.Radix;
        count.Map(branches, Convolution.ActivatesInPlace);
        if (_depthwise && _options.Radix > 1 && Channels > 1) count.Copy(branches);
        count.Reduce(branches, output);
        count.Reduce(output, channels);
        count.Map(count.Values(_fc1), inPlace: true);
        if (_options.Radix == 1) count.Map(selected);
        else count.Softmax(selected);
        return branches;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeBranches(Tensor input)
    {
        Tensor map = Convolution.Activate(Normalize(_bn0, _conv.call(input)));
        long samples = map.size(0), height = map.size(2), width = map.size(3);
        if (!_depthwise) return map.view(samples, _options.Radix, OutputChannels, height, width);

        // The candidates of an input channel lie together; a split takes one of each.
        return map.view(samples, Channels, _options.Radix, OutputChannels / Channels, height, width)
            .transpose(1, 2).reshape(samples, _options.Radix, OutputChannels, height, width);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor branches)
    {
        Tensor squeezed = branches.sum(1).mean([2, 3], keepdim: true);
        Tensor logits = _fc2.call(Normalize(_bn1, _fc1.call(squeezed)).relu_());
        if (_options.Radix == 1) return logits.sigmoid().unsqueeze(1);

        // The logits of a cardinal group lie together, one split after the other.
        int groups = _options.Cardinality;
        Tensor weights = logits.view(logits.size(0), groups, _options.Radix, OutputChannels / groups).transpose(1, 2).softmax(1);
        return weights.reshape(logits.size(0), _options.Radix, OutputChannels, 1, 1);
    }

    private static Tensor Normalize(BatchNorm2d? norm, Tensor map) => norm is null ? map : norm.CallAnyBatch(map);
}
