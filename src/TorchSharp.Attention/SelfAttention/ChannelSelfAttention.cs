// Channel self-attention. Fu, Liu, Tian, Li, Bao, Fang, Lu: "Dual Attention Network for Scene Segmentation", 2018,
// arXiv:1809.02983. The paper writes softmax(X Xᵀ); the released code takes the softmax of the row's maximum minus
// the energy, which favours channels that are unlike. Both are here; the default is the released code's, which is
// what published weights were trained with.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="ChannelSelfAttention"/>. Defaults: the released code's.</summary>
[AttentionKind("cam")]
public sealed record ChannelSelfAttentionOptions : AttentionOptions
{
    /// <summary>The paper's equation: similar channels attend to each other.</summary>
    public static ChannelSelfAttentionOptions Paper { get; } = new() { NegateSimilarity = false };

    /// <summary>The released code: dissimilar channels attend to each other.</summary>
    public static ChannelSelfAttentionOptions Official { get; } = new();

    /// <summary>True: softmax(−X Xᵀ); false: softmax(X Xᵀ). Default true.</summary>
    public bool NegateSimilarity { get; init; } = true;

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new ChannelSelfAttention(channels, this);
}

/// <summary>
/// Channel attention of DANet: y = x + gamma · softmax(∓X Xᵀ) X, X the (C, L) matrix of the map, gamma 0 at the start. Weights
/// (N, 1, C, C): channels, not positions. Key <c>gamma</c>.
/// </summary>
/// <remarks>
/// Fu et al.: "Dual Attention Network for Scene Segmentation", 2018, arXiv:1809.02983. The energy is a sum over
/// positions, without a scale: the larger the map, the harder the softmax. The identity at the start with every
/// initialisation; there is no <c>alpha</c>.
/// </remarks>
public sealed class ChannelSelfAttention : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "gamma")]
    private readonly Parameter _gamma;

    private readonly double _scale;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public ChannelSelfAttention(int channels, ChannelSelfAttentionOptions? options = null)
        : base(channels, options ??= new ChannelSelfAttentionOptions(), residual: true, ownsIdentityScale: false)
    {
        _scale = options.NegateSimilarity ? -1 : 1;
        _gamma = new Parameter(zeros(1));
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long values = input.numel(), positions = input.size(2) * input.size(3);
        DotProduct.CountContext(count, input.size(0), Channels, Channels, positions, positions, _scale, dense: true);
        count.Combine(values, values, 1);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Tensor rows = Rows(input);
        return DotProduct.Context(rows, rows, rows, scale: _scale).view(input.shape).mul(_gamma);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        Tensor rows = Rows(input);
        return DotProduct.Weights(rows, rows, scale: _scale);
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        AttentionWeightsInitializer.Zero(_gamma);
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input) => 2 * input.numel() * Channels;

    /// <summary>(N, 1, C, L).</summary>
    private static Tensor Rows(Tensor input) => input.flatten(2).unsqueeze(1);
}
