// Shuffle attention. Qing-Long Zhang, Yu-Bin Yang: "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks", 2021,
// arXiv:2102.00240. Its output has the channels in another order than its input.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="ShuffleAttention"/>. Defaults: the paper's.</summary>
[AttentionKind("shuffle")]
public sealed record ShuffleAttentionOptions : AttentionOptions
{
    /// <summary>The paper and its released code: 64 groups.</summary>
    public static ShuffleAttentionOptions Paper { get; } = new();

    /// <summary>Groups G; 2 G must divide C. Default 64.</summary>
    public int Groups { get; init; } = 64;

    /// <summary>
    /// Whether the channels of the output are shuffled, as in the paper, so that the groups of the next layer get mixed channels.
    /// Without it the module is an ordinary gate. <see cref="AttentionInitialization.Identity"/> and
    /// <see cref="AttentionOptions.AttentionDropPath"/> require false, because a shuffled output cannot equal the input. Default
    /// true.
    /// </summary>
    public bool Shuffle { get; init; } = true;

    /// <summary>Function of the gates. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Positive(Groups);
        Check.Defined(Gate);
        if (channels % (2 * (long)Groups) != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(Groups), Groups,
                $"Groups is {Groups}; every group is halved, so {2 * (long)Groups} must divide the {channels} channels. " +
                (channels % 2 == 0 ? $"Use a divisor of {channels / 2}." : "Use an even number of channels."));
        }

        if (Shuffle && Initialization == AttentionInitialization.Identity)
        {
            throw new ArgumentException(
                "Initialization is Identity, but the output's channels are shuffled, so that it cannot equal the input. " +
                "Set Shuffle = false, or another Initialization.", nameof(Initialization));
        }

        if (Shuffle && AttentionDropPath > 0)
        {
            throw new ArgumentException(
                $"AttentionDropPath is {AttentionDropPath}, but a sample that skips the attention would keep its channels' " +
                "order while the others " +
                "are shuffled. Set Shuffle = false, or AttentionDropPath = 0.", nameof(AttentionDropPath));
        }
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new ShuffleAttention(channels, this);
}

/// <summary>
/// Shuffle attention: the channels are divided into G groups, and each group into two halves. The first half is gated by channel,
/// σ(w_c z + b_c), z the mean over positions. The second half is gated by position, σ(w_s norm(x) + b_s), each channel normalised
/// over its positions. Then channel i of C moves to place 2 i, and channel C / 2 + i to place 2 i + 1. All groups share the
/// weights. The gate is (N, C, H, W), for the channels before the shuffle. Keys <c>cweight</c>, <c>cbias</c>, <c>sweight</c>,
/// <c>sbias</c>, <c>gn</c>, as the released code.
/// </summary>
/// <remarks>
/// Zhang, Yang: "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks", 2021, arXiv:2102.00240.
/// Starts with the weights zero and the biases one, as the released code: the gate is σ(1) = 0.73 everywhere. With Kaiming and
/// Xavier, which say nothing of scales, the weights are one and the biases zero.
/// </remarks>
public sealed class ShuffleAttention : GateModule
{
    [ComponentName(Name = "cweight")]
    private readonly Parameter _channelWeight;

    [ComponentName(Name = "cbias")]
    private readonly Parameter _channelBias;

    [ComponentName(Name = "sweight")]
    private readonly Parameter _spatialWeight;

    [ComponentName(Name = "sbias")]
    private readonly Parameter _spatialBias;

    [ComponentName(Name = "gn")]
    private readonly GroupNorm _norm;

    private readonly ShuffleAttentionOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or two do not go together.</exception>
    public ShuffleAttention(int channels, ShuffleAttentionOptions? options = null)
        : base(channels, options ??= ShuffleAttentionOptions.Paper)
    {
        _options = options;
        int half = channels / (2 * options.Groups);
        _channelWeight = new Parameter(zeros(1, half, 1, 1));
        _channelBias = new Parameter(ones(1, half, 1, 1));
        _spatialWeight = new Parameter(zeros(1, half, 1, 1));
        _spatialBias = new Parameter(ones(1, half, 1, 1));
        _norm = NormCalls.Group(half, half);
        Complete();
    }

    /// <inheritdoc/>
    protected override Tensor Attend(Tensor input)
    {
        Tensor refined = base.Attend(input);
        if (!_options.Shuffle) return refined;
        long samples = input.size(0), height = input.size(2), width = input.size(3);
        return refined.reshape(samples, 2, Channels / 2, height, width).transpose(1, 2).reshape(samples, Channels, height, width);
    }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel(), part = values / 2, channels = input.size(0) * Channels / 2,
            half = Channels / (2 * _options.Groups);
        count.Reduce(part, channels);
        count.Combine(channels, channels, half);
        count.Combine(channels, channels, half);
        count.Combine(part, part, half);
        count.Combine(part, part, half);
        count.Copy(values);
        count.Map(values);
        return values;
    }

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        base.CountFunctions(count, input);
        if (_options.Shuffle && Channels > 2) count.Copy(input.numel());
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input)
    {
        long samples = input.size(0), height = input.size(2), width = input.size(3), half = Channels / (2 * _options.Groups);
        Tensor groups = input.reshape(samples * _options.Groups, 2 * half, height, width);
        Tensor first = groups.narrow(1, 0, half).mean([2, 3], keepdim: true).mul(_channelWeight).Plus(_channelBias);
        Tensor second = _norm.call(groups.narrow(1, half, half)).mul(_spatialWeight).Plus(_spatialBias);
        Tensor gates = _options.Gate.Apply(cat([first.expand_as(second), second], 1));
        return gates.view(samples, Channels, height, width);
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        bool asNorm = _options.Initialization is AttentionInitialization.Kaiming or AttentionInitialization.Xavier;
        foreach (Parameter weight in new[] { _channelWeight, _spatialWeight }) Start(weight, asNorm);
        foreach (Parameter bias in new[] { _channelBias, _spatialBias }) Start(bias, !asNorm);
    }

    private static void Start(Parameter parameter, bool one)
    {
        if (one) nn.init.ones_(parameter);
        else AttentionWeightsInitializer.Zero(parameter);
    }
}
