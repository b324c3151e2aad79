// Non-local block. Wang, Girshick, Gupta, He: "Non-local Neural Networks", 2017, arXiv:1711.07971, embedded Gaussian (softmax)
// and dot product (1 / L) forms, without sub-sampling. The paper's equation does not scale the logits; its released code divides
// them by the root of the projections' width, timm by √C. timm takes C / 8 rounded to a multiple of 8. The released code
// max-pools keys and values 2 × 2 besides.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How <see cref="NonLocal"/> turns similarities into weights.</summary>
public enum NonLocalPairwise
{
    /// <summary>softmax over the keys.</summary>
    EmbeddedGaussian,

    /// <summary>Divided by the number of positions.</summary>
    DotProduct,
}

/// <summary>What <see cref="NonLocal"/> divides similarities by.</summary>
public enum NonLocalScale
{
    /// <summary>Nothing, as the paper's equations.</summary>
    None,

    /// <summary>The root of the channels of the map, √C, as timm.</summary>
    Channels,

    /// <summary>The root of the width of the projections, √(C / r), as the paper's released code.</summary>
    Width,
}

/// <summary>Settings of <see cref="NonLocal"/>. Defaults: the paper's.</summary>
[AttentionKind("nl")]
public sealed record NonLocalOptions : AttentionOptions
{
    /// <summary>The paper: embedded Gaussian, inner width C / 2, no scale.</summary>
    public static NonLocalOptions Paper { get; } = new();

    /// <summary>
    /// The released code, but for its max-pooling of keys and values: as the paper, logits divided by √(C / 2).
    /// </summary>
    public static NonLocalOptions Official { get; } = new() { Scale = NonLocalScale.Width };

    /// <summary>timm's "nl": inner width C / 8 rounded to a multiple of 8, logits divided by √C.</summary>
    public static NonLocalOptions Timm { get; } = new() { Reduction = 8, RoundingDivisor = 8, Scale = NonLocalScale.Channels };

    /// <summary>How similarities become weights. Default embedded Gaussian.</summary>
    public NonLocalPairwise Pairwise { get; init; }

    /// <summary>Reduction r: the projections have C / r channels. Default 2.</summary>
    public int Reduction { get; init; } = 2;

    /// <summary>Width of the projections in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>What the similarities are divided by. Default nothing.</summary>
    public NonLocalScale Scale { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Defined(Pairwise);
        Check.Defined(Scale);
        ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new NonLocal(channels, this);
}

/// <summary>
/// Non-local block: y = x + BN(z(A g(x))), A = softmax(s · t(x)ᵀ p(x)) or t(x)ᵀ p(x) / L over the L = H · W positions, with t, p,
/// g, z 1×1 convolutions. Weights (N, 1, L, L); with <see cref="NonLocalPairwise.DotProduct"/> their rows do not sum to 1. Keys
/// as timm: <c>t</c>, <c>p</c>, <c>g</c>, <c>z</c>, <c>norm</c>.
/// </summary>
/// <remarks>
/// Wang et al.: "Non-local Neural Networks", 2017, arXiv:1711.07971. Memory grows with L; with L² where the weights are asked
/// for. Single-value batches are normalised with the running statistics. <see cref="AttentionInitialization.Paper"/>: the norm's
/// weight zero, so that the block starts as the identity.
/// </remarks>
public sealed class NonLocal : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "t")]
    private readonly Conv2d _theta;

    [ComponentName(Name = "p")]
    private readonly Conv2d _phi;

    [ComponentName(Name = "g")]
    private readonly Conv2d _value;

    [ComponentName(Name = "z")]
    private readonly Conv2d _out;

    [ComponentName(Name = "norm")]
    private readonly BatchNorm2d _norm;

    private readonly NonLocalOptions _options;
    private readonly int _width;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or leaves no channel in the projections.</exception>
    public NonLocal(int channels, NonLocalOptions? options = null)
        : base(channels, options ??= new NonLocalOptions(), residual: true)
    {
        _options = options;
        _width = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _theta = nn.Conv2d(channels, _width, 1);
        _phi = nn.Conv2d(channels, _width, 1);
        _value = nn.Conv2d(channels, _width, 1);
        _out = nn.Conv2d(_width, channels, 1);
        _norm = nn.BatchNorm2d(channels);
        Complete();
    }

    /// <summary>What logits are multiplied with.</summary>
    internal double Scale => _options.Scale switch
    {
        NonLocalScale.Channels => 1 / Math.Sqrt(Channels),
        NonLocalScale.Width => 1 / Math.Sqrt(_width),
        _ => 1,
    };

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long samples = input.size(0), positions = input.size(2) * input.size(3), projected = samples * positions * _width;
        if (_options.Pairwise == NonLocalPairwise.DotProduct)
        {
            long state = samples * _width * _width;
            count.Product(state, projected, projected);
            count.Map(projected);
            count.Product(projected, projected, state);
        }
        else
        {
            DotProduct.CountContext(count, samples, positions, positions, _width, _width, Scale);
        }

        return input.numel();
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Tensor value = Positions(_value, input);
        Tensor gathered = _options.Pairwise == NonLocalPairwise.DotProduct
            ? Average(input, Positions(_phi, input).transpose(2, 3).matmul(value), Positions(_theta, input))
            : DotProduct.Context(Positions(_theta, input), Positions(_phi, input), value, scale: Scale);
        return _norm.CallAnyBatch(_out.call(DotProduct.Map(gathered, input.size(2), input.size(3))));
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input) => _options.Pairwise == NonLocalPairwise.DotProduct
        ? Average(input, Positions(_phi, input).transpose(2, 3), Positions(_theta, input))
        : DotProduct.Weights(Positions(_theta, input), Positions(_phi, input), scale: Scale);

    /// <inheritdoc/>
    protected override void InitializeAsPaper() => AttentionWeightsInitializer.Zero(_norm.weight);

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        long positions = input.size(2) * input.size(3);
        long pairs = _options.Pairwise == NonLocalPairwise.DotProduct ? positions * _width : positions * positions;
        return 2 * input.size(0) * pairs * _width;
    }

    /// <summary>scale / L · query · keys: without a softmax, keys and values are multiplied first.</summary>
    private Tensor Average(Tensor input, Tensor keys, Tensor query)
    {
        using Scalar share = (Scale / (input.size(2) * input.size(3))).ToScalar();
        return query.mul(share).matmul(keys);
    }

    /// <summary>(N, 1, L, width).</summary>
    private static Tensor Positions(Conv2d projection, Tensor input)
        => DotProduct.Heads(DotProduct.Project(projection, input))[0];
}
