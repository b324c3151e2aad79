// Efficient channel attention. Wang, Wu, Zhu, Li, Zuo, Hu: "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural
// Networks", 2019, arXiv:1910.03151. The released ResNet-50 sets its kernels by hand (3, 5, 5, 7 by stage); timm never goes below
// 3, and has an experiment with a hidden layer (ecam).
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How the ends of the channel axis are padded.</summary>
public enum ChannelPadding
{
    /// <summary>With zeros, as the paper.</summary>
    Zeros,

    /// <summary>With the other end, so that the first and the last channel are neighbours (timm's <c>ceca</c>).</summary>
    Circular,
}

/// <summary>Settings of <see cref="EfficientChannelAttention"/>. Defaults: the paper's.</summary>
[AttentionKind("eca")]
public sealed record EfficientChannelAttentionOptions : AttentionOptions
{
    /// <summary>
    /// The paper: kernel from the channels with gamma 2 and beta 1, zero padding. timm's <c>eca</c> is the same, and below 8
    /// channels, where the paper's formula gives 1, it is timm's 3.
    /// </summary>
    public static EfficientChannelAttentionOptions Paper { get; } = new();

    /// <summary>timm's <c>ceca</c>: circular padding.</summary>
    public static EfficientChannelAttentionOptions Circular { get; } = new() { Padding = ChannelPadding.Circular };

    /// <summary>
    /// timm's <c>ecam</c>: a hidden layer with biases before the convolution, C / 8 wide, rounded to a multiple of 8. Not in the
    /// paper.
    /// </summary>
    public static EfficientChannelAttentionOptions TimmMlp { get; } = new() { Mlp = true };

    /// <summary>Kernel size over the channels, odd. Default null: from the channels, see <see cref="KernelFor"/>.</summary>
    public int? KernelSize { get; init; }

    /// <summary>Gamma of the adaptive kernel, above 0. Default 2.</summary>
    public double Gamma { get; init; } = 2;

    /// <summary>Beta of the adaptive kernel. Default 1.</summary>
    public double Beta { get; init; } = 1;

    /// <summary>Padding of the channel axis. Default zeros.</summary>
    public ChannelPadding Padding { get; init; }

    /// <summary>Function of the gate. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <summary>
    /// Whether every channel's mean first passes a hidden layer, the same for all channels, and both layers have biases (timm's
    /// <c>use_mlp</c>). Default false.
    /// </summary>
    public bool Mlp { get; init; }

    /// <summary>
    /// Width of the hidden layer, where there is one. Default null: C / 8 rounded to a multiple of 8, at least 8, and never more
    /// than a tenth down.
    /// </summary>
    public int? HiddenWidth { get; init; }

    /// <summary>Activation of the hidden layer, where there is one. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>
    /// The kernel for a number of channels: t = ⌊|log₂ C + beta| / gamma⌋, made odd by adding 1 if even, at least 3:
    /// 64 → 3, 128 to 1024 → 5, 2048 → 7.
    /// </summary>
    /// <param name="channels">Number of channels.</param>
    /// <exception cref="ArgumentException">
    /// The channels are below 1, or the formula gives no kernel that an integer can hold.
    /// </exception>
    public int KernelFor(int channels)
    {
        Check.Positive(channels);
        if (KernelSize is int explicitly) return explicitly;
        double t = Math.Floor(Math.Abs(Math.Log2(channels) + Beta) / Gamma);
        if (!(t < int.MaxValue))
        {
            throw new ArgumentOutOfRangeException(
                nameof(Gamma), Gamma,
                $"Gamma is {Gamma} and Beta is {Beta}, which gives a kernel of {t}. Use Gamma 2 and Beta 1, or set KernelSize.");
        }

        return Math.Max(3, t % 2 == 1 ? (int)t : (int)t + 1);
    }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        if (KernelSize is int kernelSize) Check.OddKernel(kernelSize, nameof(KernelSize));
        Check.Positive(Gamma);
        Check.Finite(Beta);
        Check.Defined(Padding);
        Check.Defined(Gate);
        Check.Defined(Activation);
        if (HiddenWidth is int hiddenWidth) Check.Positive(hiddenWidth, nameof(HiddenWidth));
        if (HiddenWidth is not null && !Mlp)
        {
            throw new ArgumentException(
                $"HiddenWidth is {HiddenWidth}, but there is no hidden layer. Set Mlp = true.", nameof(HiddenWidth));
        }

        int kernel = KernelFor(channels);
        if (Padding == ChannelPadding.Circular && kernel / 2 > channels)
        {
            throw new ArgumentOutOfRangeException(
                nameof(KernelSize), kernel,
                $"KernelSize is {kernel}; circular padding of {channels} channels allows at most {(2 * channels) + 1}.");
        }
    }

    internal int WidthOfHidden(int channels) => HiddenWidth ?? ChannelReduction.MakeDivisible(channels / 8.0, 8);

    /// <inheritdoc/>
    public override AttentionOptions WithWidthsOf(int channels)
        => this with { KernelSize = KernelFor(channels), HiddenWidth = Mlp ? WidthOfHidden(channels) : HiddenWidth };

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new EfficientChannelAttention(channels, this);
}

/// <summary>
/// Efficient channel attention: y = x · σ(k ∗ z), z = mean of x over positions, ∗ a convolution of k weights along the channels,
/// without bias. Gate (N, C, 1, 1). Key <c>conv</c>, as timm. With <see cref="EfficientChannelAttentionOptions.Mlp"/>
/// y = x · σ(b + k ∗ δ(u z + c)): every mean is a hidden vector before the convolution; keys <c>conv</c>, <c>conv2</c>, as timm.
/// </summary>
/// <remarks>
/// Wang et al.: "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", 2019, arXiv:1910.03151.
/// <see cref="AttentionInitialization.Paper"/> is PyTorch's own start of a convolution.
/// </remarks>
public sealed class EfficientChannelAttention : GateModule, IChannelGate, IInferenceGate
{
    [ComponentName(Name = "conv")]
    private readonly Conv1d _conv;

    [ComponentName(Name = "conv2")]
    private readonly Conv1d? _conv2;

    private readonly EfficientChannelAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, for example an even kernel.</exception>
    public EfficientChannelAttention(int channels, EfficientChannelAttentionOptions? options = null)
        : base(channels, options ??= EfficientChannelAttentionOptions.Paper)
    {
        _options = options;
        KernelSize = options.KernelFor(channels);
        long padding = options.Padding == ChannelPadding.Circular ? 0 : KernelSize / 2;
        if (options.Mlp)
        {
            int width = options.WidthOfHidden(channels);
            _conv = nn.Conv1d(1, width, 1);
            _conv2 = nn.Conv1d(width, 1, KernelSize, padding: padding);
        }
        else
        {
            _conv = nn.Conv1d(1, 1, KernelSize, padding: padding, bias: false);
        }

        Complete();
    }

    /// <summary>Kernel size over the channels.</summary>
    public int KernelSize { get; }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long channels = ChannelSummary.Count(this, count, input);
        if (_conv2 is not null) count.Map(count.Values(_conv));
        if (_options.Padding == ChannelPadding.Circular && KernelSize > 1)
        {
            count.Copy(input.size(0) * (_conv2 is null ? 1 : _conv.out_channels) * (Channels + (2 * (KernelSize / 2))));
        }

        count.Map(channels);
        return channels;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Of() with
    {
        Caveat = "the kernel runs over the channels that stay, side by side, so gates near removed channels change",
    };

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => ChannelSummary.Excite(this, input);

    ChannelStatistics IChannelGate.Statistics => ChannelStatistics.Mean;

    Tensor IChannelGate.ExciteChannels(ChannelSummary pooled)
    {
        Tensor squeezed = pooled.Mean.view(-1, 1, Channels);
        if (_conv2 is not null) squeezed = _options.Activation.Apply(_conv.call(squeezed));
        if (_options.Padding == ChannelPadding.Circular && KernelSize > 1)
        {
            long side = KernelSize / 2;
            squeezed = cat([squeezed.narrow(2, Channels - side, side), squeezed, squeezed.narrow(2, 0, side)], 2);
        }

        return _options.Gate.Apply((_conv2 ?? _conv).call(squeezed)).view(-1, Channels, 1, 1);
    }

    void IInferenceGate.Describe(IInferenceProgram program)
    {
        if (_conv2 is null) program.Neighbours(_conv, _options.Padding == ChannelPadding.Circular, _options.Gate);
        else program.MarkUnsupported();
    }
}
