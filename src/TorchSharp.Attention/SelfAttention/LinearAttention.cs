// Linear attention. Katharopoulos, Vyas, Pappas, Fleuret: "Transformers are RNNs: Fast Autoregressive Transformers with Linear
// Attention", 2020, arXiv:2006.16236, in the form without a causal mask.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="LinearAttention"/>.</summary>
[AttentionKind("linear")]
public sealed record LinearAttentionOptions : AttentionOptions
{
    /// <summary>Number of heads; must divide the channels. Default 4.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>Whether the projections have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>True: y = x + context; false: y = context. Default true.</summary>
    public bool Residual { get; init; } = true;

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Heads(Heads, channels);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new LinearAttention(channels, this);
}

/// <summary>
/// Attention without a softmax, whose time and memory grow with the number L = H · W of positions and not with its
/// square: c_i = W_o · concat over heads of φ(q_i)ᵀ (Σ_j φ(k_j) v_jᵀ) / φ(q_i)ᵀ Σ_j φ(k_j), with φ(x) = elu(x) + 1 and q,
/// k, v 1×1 projections of x; y = x + c or y = c. Weights φ(q_i)ᵀ φ(k_j) / Σ_j φ(q_i)ᵀ φ(k_j), (N, heads, L, L), on
/// demand only. Keys <c>qkv</c>, <c>proj</c>.
/// </summary>
/// <remarks>
/// Katharopoulos et al.: "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention", 2020,
/// arXiv:2006.16236. Sums are taken in float32 where the map is in a smaller type, and φ is computed as exp(min(x, 0)) + max(x,
/// 0), which does not round to zero; a denominator below 1e-30 counts as 1e-30. <see cref="AttentionInitialization.Paper"/>:
/// Xavier uniform weights, zero biases.
/// </remarks>
public sealed class LinearAttention : ContextModule, IFunctionalCost
{
    private static readonly Scalar Zero = 0.0.ToScalar();
    private static readonly Scalar Smallest = 1e-30.ToScalar();

    [ComponentName(Name = "qkv")]
    private readonly Conv2d _qkv;

    [ComponentName(Name = "proj")]
    private readonly Conv2d _proj;

    private readonly int _heads;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public LinearAttention(int channels, LinearAttentionOptions? options = null)
        : base(channels, options ??= new LinearAttentionOptions(), options.Residual)
    {
        _heads = options.Heads;
        _qkv = nn.Conv2d(channels, 3 * channels, 1, bias: options.Bias);
        _proj = nn.Conv2d(channels, channels, 1, bias: options.Bias);
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long values = input.numel(), rows = input.size(0) * _heads, width = Channels / _heads,
            totals = rows * input.size(2) * input.size(3);
        long state = rows * width * width;
        for (int part = 0; part < 2; part++)
        {
            for (int function = 0; function < 3; function++) count.Map(values);
            count.Combine(values, values, values);
        }

        count.Product(state, values, values);
        count.Reduce(values, rows * width);
        count.Product(values, state, values);
        count.Product(totals, rows * width, values);
        count.Map(totals);
        count.Combine(values, values, totals);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        (Tensor query, Tensor key, Tensor value) = Project(input);
        Tensor state = key.matmul(value.transpose(2, 3));
        Tensor total = key.sum(-1, keepdim: true);
        Tensor gathered = state.transpose(2, 3).matmul(query).div(total.transpose(2, 3).matmul(query).clamp_min(Smallest));
        return _proj.call(gathered.to_type(input.dtype).reshape(input.shape));
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        (Tensor query, Tensor key, _) = Project(input);
        Tensor products = query.transpose(2, 3).matmul(key);
        return products.div(products.sum(-1, keepdim: true).clamp_min(Smallest)).to_type(input.dtype);
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
        => AttentionWeightsInitializer.Reset(this, AttentionInitialization.Xavier, () => { });

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        long width = Channels / _heads;
        return input.size(0) * _heads * input.size(2) * input.size(3) * ((2 * width * width) + width);
    }

    /// <summary>φ(queries), φ(keys) and values, each (N, heads, d, L), in a type that sums can be taken in.</summary>
    private (Tensor Query, Tensor Key, Tensor Value) Project(Tensor input)
    {
        Tensor projected = _qkv.call(input).reshape(input.size(0), 3, _heads, Channels / _heads, input.size(2) * input.size(3));
        if (projected.dtype != ScalarType.Float64) projected = projected.to_type(ScalarType.Float32);
        Tensor[] parts = projected.unbind(1);
        return (Feature(parts[0]), Feature(parts[1]), parts[2]);
    }

    private static Tensor Feature(Tensor x) => x.clamp_max(Zero).exp().Plus(x.relu());
}
