// Position attention. Fu, Liu, Tian, Li, Bao, Fang, Lu: "Dual Attention Network for Scene Segmentation", 2018, arXiv:1809.02983.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="PositionAttention"/>. Defaults: the paper's.</summary>
[AttentionKind("pam")]
public sealed record PositionAttentionOptions : AttentionOptions
{
    /// <summary>Reduction r of queries and keys: C / r channels. Default 8.</summary>
    public int Reduction { get; init; } = 8;

    /// <summary>Width of queries and keys in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new PositionAttention(channels, this);
}

/// <summary>
/// Position attention of DANet: y = x + gamma · softmax(qᵀ k) v over the L = H · W positions, without a scale; q and k have C / r
/// channels, v has C, and gamma starts at 0. Weights (N, 1, L, L). Keys as the released code: <c>query_conv</c>, <c>key_conv</c>,
/// <c>value_conv</c>, <c>gamma</c>.
/// </summary>
/// <remarks>
/// Fu et al.: "Dual Attention Network for Scene Segmentation", 2018, arXiv:1809.02983. Memory grows with L; with L² where the
/// weights are asked for. The identity at the start with every
/// initialisation, because gamma is zero then; so there is no <c>alpha</c>.
/// </remarks>
public sealed class PositionAttention : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "query_conv")]
    private readonly Conv2d _query;

    [ComponentName(Name = "key_conv")]
    private readonly Conv2d _key;

    [ComponentName(Name = "value_conv")]
    private readonly Conv2d _value;

    [ComponentName(Name = "gamma")]
    private readonly Parameter _gamma;

    private readonly int _width;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or leaves no channel for queries and keys.</exception>
    public PositionAttention(int channels, PositionAttentionOptions? options = null)
        : base(channels, options ??= new PositionAttentionOptions(), residual: true, ownsIdentityScale: false)
    {
        _width = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _query = nn.Conv2d(channels, _width, 1);
        _key = nn.Conv2d(channels, _width, 1);
        _value = nn.Conv2d(channels, channels, 1);
        _gamma = new Parameter(zeros(1));
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long positions = input.size(2) * input.size(3), values = input.numel();
        DotProduct.CountContext(count, input.size(0), positions, positions, _width, Channels, scale: 1);
        count.Combine(values, values, 1);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Tensor gathered = DotProduct.Context(
            Positions(_query, input), Positions(_key, input), Positions(_value, input), scale: 1);
        return DotProduct.Map(gathered, input.size(2), input.size(3)).mul(_gamma);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
        => DotProduct.Weights(Positions(_query, input), Positions(_key, input), scale: 1);

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        AttentionWeightsInitializer.Zero(_gamma);
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        long positions = input.size(2) * input.size(3);
        return input.size(0) * positions * positions * (_width + Channels);
    }

    /// <summary>(N, 1, L, width).</summary>
    private static Tensor Positions(Conv2d projection, Tensor input)
        => DotProduct.Heads(DotProduct.Project(projection, input))[0];
}
