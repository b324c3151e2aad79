// Criss-cross attention. Huang, Wang, Huang, Huang, Wei, Liu: "CCNet: Criss-Cross Attention for Semantic Segmentation", 2018,
// arXiv:1811.11721.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="CrissCrossAttention"/>. Defaults: the released code's single module.</summary>
[AttentionKind("criss-cross")]
public sealed record CrissCrossAttentionOptions : AttentionOptions
{
    /// <summary>The paper's network: two passes with the same weights, so that every position reaches every other.</summary>
    public static CrissCrossAttentionOptions Paper { get; } = new() { Recurrence = 2 };

    /// <summary>Reduction r of queries and keys: C / r channels. Default 8.</summary>
    public int Reduction { get; init; } = 8;

    /// <summary>Width of queries and keys in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Number of passes with the same weights. Default 1.</summary>
    public int Recurrence { get; init; } = 1;

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
        Check.Positive(Recurrence);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new CrissCrossAttention(channels, this);
}

/// <summary>
/// Criss-cross attention: each position attends to the H + W − 1 positions of its column and row, z ↦ z + gamma · softmax(qᵀ k) v
/// without a scale, once or several times with the same weights; gamma starts at 0. Weights (N, 1, L, L) of the first pass, zero
/// off the cross. Keys as the released code: <c>query_conv</c>, <c>key_conv</c>, <c>value_conv</c>, <c>gamma</c>.
/// </summary>
/// <remarks>
/// Huang et al.: "CCNet: Criss-Cross Attention for Semantic Segmentation", 2018, arXiv:1811.11721. Memory grows with L · (H + W).
/// The identity at the start with every initialisation, because gamma is zero then; so there is no <c>alpha</c>.
/// </remarks>
public sealed class CrissCrossAttention : ContextModule, IFunctionalCost
{
    private static readonly Scalar Masked = double.NegativeInfinity.ToScalar();

    [ComponentName(Name = "query_conv")]
    private readonly Conv2d _query;

    [ComponentName(Name = "key_conv")]
    private readonly Conv2d _key;

    [ComponentName(Name = "value_conv")]
    private readonly Conv2d _value;

    [ComponentName(Name = "gamma")]
    private readonly Parameter _gamma;

    private readonly int _recurrence;
    private readonly int _width;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or leaves no channel for queries and keys.</exception>
    public CrissCrossAttention(int channels, CrissCrossAttentionOptions? options = null)
        : base(channels, options ??= new CrissCrossAttentionOptions(), residual: true, ownsIdentityScale: false)
    {
        _recurrence = options.Recurrence;
        _width = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _query = nn.Conv2d(channels, _width, 1);
        _key = nn.Conv2d(channels, _width, 1);
        _value = nn.Conv2d(channels, channels, 1);
        _gamma = new Parameter(zeros(1));
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long values = input.numel(), samples = input.size(0), height = input.size(2), width = input.size(3);
        long queries = samples * height * width * _width, down = samples * height * width * height,
            across = samples * height * width * width;
        for (int pass = 0; pass < _recurrence; pass++)
        {
            if (pass > 0) count.Combine(values, values, values);
            count.Product(down, queries, queries);
            count.Map(down);
            count.Product(across, queries, queries);
            count.Copy(down + across);
            count.Softmax(down + across);
            count.Product(values, down, values);
            count.Product(values, across, values);
            count.Combine(values, values, values);
            count.Combine(values, values, 1);
            if (pass > 0) count.Combine(values, values, values);
        }

        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Tensor total = Pass(input);
        for (int i = 1; i < _recurrence; i++) total = total.Plus(Pass(input.Plus(total)));
        return total;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        (Tensor column, Tensor row) = CrossWeights(input);
        long n = input.size(0), height = input.size(2), width = input.size(3);

        // (N, H, W, H′, W′): the column's weights where W′ = W, the row's where H′ = H.
        Tensor down = column.unsqueeze(-1).mul(eye(width, dtype: input.dtype, device: input.device).view(1, 1, width, 1, width));
        Tensor across = row.unsqueeze(
            -2).mul(eye(height, dtype: input.dtype, device: input.device).view(1, height, 1, height, 1));
        return down.Plus(across).view(n, 1, height * width, height * width);
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        AttentionWeightsInitializer.Zero(_gamma);
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        long cross = input.size(2) * input.size(3) * (input.size(2) + input.size(3));
        return _recurrence * input.size(0) * cross * (_width + Channels);
    }

    /// <summary>gamma · softmax(qᵀ k) v over the cross.</summary>
    private Tensor Pass(Tensor input)
    {
        (Tensor column, Tensor row) = CrossWeights(input);
        Tensor value = _value.call(input).permute(0, 2, 3, 1); // (N, H, W, C)
        Tensor down = column.transpose(1, 2).matmul(value.transpose(1, 2)).transpose(1, 2);
        Tensor across = row.matmul(value);
        return down.Plus(across).permute(0, 3, 1, 2).mul(_gamma);
    }

    /// <summary>Weights of the column, (N, H, W, H), and of the row, (N, H, W, W). A position counts once: in its row.</summary>
    private (Tensor Column, Tensor Row) CrossWeights(Tensor input)
    {
        long height = input.size(2), width = input.size(3);
        Tensor query = _query.call(input).permute(0, 2, 3, 1);
        Tensor key = _key.call(input).permute(0, 2, 3, 1);
        Tensor itself = eye(height, dtype: ScalarType.Bool, device: input.device).view(1, height, 1, height);
        Tensor column = query.transpose(1, 2).matmul(key.permute(0, 2, 3, 1)).transpose(1, 2).masked_fill(itself, Masked);
        Tensor row = query.matmul(key.transpose(2, 3));
        Tensor weights = cat([column, row], -1).softmax(-1);
        return (weights.narrow(3, 0, height), weights.narrow(3, height, width));
    }
}
