// Multi-head self-attention over the positions of a feature map. Vaswani et al.: "Attention Is All You Need", 2017,
// arXiv:1706.03762; on feature maps with a zero-initialised scale: Zhang et al.: "Self-Attention Generative Adversarial
// Networks", 2018, arXiv:1805.08318; position bias from an MLP over log-spaced offsets: Liu et al.: "Swin Transformer V2", 2021,
// arXiv:2111.09883 (in the form without window size and without bound, so that any map size works).
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="SelfAttention2d"/>.</summary>
[AttentionKind("self")]
public sealed record SelfAttention2dOptions : AttentionOptions
{
    private const int DefaultHeads = 8;

    /// <summary>
    /// Number of heads. Default null: C / <see cref="HeadWidth"/>, or 8 where that is not set either. Without a head width the
    /// channels are shared out, so heads must divide them.
    /// </summary>
    public int? Heads { get; init; }

    /// <summary>Channels of each head. Default null: C / heads. With both set, the inner width is heads · head width.</summary>
    public int? HeadWidth { get; init; }

    /// <summary>Whether the projections have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>True: y = x + context; false: y = context. Default true.</summary>
    public bool Residual { get; init; } = true;

    /// <summary>
    /// Multiplies the context with a learnable scalar <c>gamma</c> that starts at 0, so that the module starts as the identity.
    /// Needs <see cref="Residual"/>. Default false.
    /// </summary>
    public bool ZeroInitScale { get; init; }

    /// <summary>Adds a learnt bias of the offset between two positions to their logit, at any map size. Default false.</summary>
    public bool RelativePosition { get; init; }

    /// <summary>Probability, in [0, 1), of dropping an attention weight in training. Default 0.</summary>
    public double AttentionDropout { get; init; }

    /// <summary>Number of heads for a number of channels.</summary>
    /// <param name="channels">Number of channels.</param>
    public int HeadsFor(int channels) => Heads ?? (HeadWidth is int width ? channels / width : DefaultHeads);

    /// <summary>Channels of each head for a number of channels.</summary>
    /// <param name="channels">Number of channels.</param>
    public int HeadWidthFor(int channels) => HeadWidth ?? channels / HeadsFor(channels);

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        if (Heads is int heads) Check.Positive(heads, nameof(Heads));
        if (HeadWidth is int width) Check.Positive(width, nameof(HeadWidth));
        if (Heads is null && HeadWidth is int w && channels % w != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(HeadWidth), w,
                $"HeadWidth is {w}, which does not divide {channels} channels. Choose a divisor, or set Heads too.");
        }

        if (HeadWidth is null && channels % HeadsFor(channels) != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(Heads), HeadsFor(channels),
                $"Heads is {HeadsFor(channels)}, which does not divide {channels} channels. " +
                "Choose a divisor, or set HeadWidth too.");
        }

        Check.Probability(AttentionDropout, oneAllowed: false);
        if (ZeroInitScale && !Residual)
        {
            throw new ArgumentException(
                "ZeroInitScale is true and Residual false: the output would be zero everywhere. Set Residual = true.",
                nameof(ZeroInitScale));
        }
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new SelfAttention2d(channels, this);
}

/// <summary>
/// Multi-head self-attention over the L = H · W positions of a map: c = W_o · concat over heads of softmax(q kᵀ / √d + b)
/// v, with q, k, v 1×1 projections of x, d the head width and b an optional relative position bias; y = x + c, y = x +
/// gamma · c, or y = c. Weights (N, heads, L, L), on demand only. Keys <c>qkv</c>, <c>proj</c>, <c>gamma</c>,
/// <c>rel_pos.fc1</c>, <c>rel_pos.fc2</c>.
/// </summary>
/// <remarks>
/// Vaswani et al.: "Attention Is All You Need", 2017, arXiv:1706.03762; Zhang et al.: "Self-Attention Generative Adversarial
/// Networks", 2018, arXiv:1805.08318. Memory grows with L; with L² where a position bias is used, attention weights are dropped
/// in training, or the weights are asked for. <see cref="AttentionInitialization.Paper"/>: Xavier uniform weights, zero biases.
/// </remarks>
public sealed class SelfAttention2d : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "qkv")]
    private readonly Conv2d _qkv;

    [ComponentName(Name = "proj")]
    private readonly Conv2d _proj;

    [ComponentName(Name = "rel_pos")]
    private readonly RelativePositionBias? _position;

    [ComponentName(Name = "gamma")]
    private readonly Parameter? _gamma;

    private readonly SelfAttention2dOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public SelfAttention2d(int channels, SelfAttention2dOptions? options = null)
        : base(channels, options ??= new SelfAttention2dOptions(), options.Residual, ownsIdentityScale: !options.ZeroInitScale)
    {
        _options = options;
        Heads = options.HeadsFor(channels);
        HeadWidth = options.HeadWidthFor(channels);
        int width = Heads * HeadWidth;
        _qkv = nn.Conv2d(channels, 3 * width, 1, bias: options.Bias);
        _proj = nn.Conv2d(width, channels, 1, bias: options.Bias);
        if (options.RelativePosition) _position = new RelativePositionBias(Heads);
        if (options.ZeroInitScale) _gamma = new Parameter(zeros(1));
        Complete();
    }

    /// <summary>Number of heads.</summary>
    public int Heads { get; }

    /// <summary>Channels of each head.</summary>
    public int HeadWidth { get; }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long samples = input.size(0), positions = input.size(2) * input.size(3), values = input.numel();
        long bias = _position?.CountBetween(count, input.size(2), input.size(3)) ?? 0;
        DotProduct.CountContext(count, samples * Heads, positions, positions, HeadWidth, HeadWidth, bias: bias);
        DotProduct.CountMap(count, samples * positions * Heads * HeadWidth, Heads);
        if (_gamma is not null) count.Combine(values, values, 1);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Tensor[] parts = Project(input);
        Tensor? bias = PositionBias(input.size(2), input.size(3));
        Tensor gathered = DotProduct.Context(
            parts[0], parts[1], parts[2], bias, dropout: training ? _options.AttentionDropout : 0);
        Tensor context = _proj.call(DotProduct.Map(gathered, input.size(2), input.size(3)));
        return _gamma is null ? context : context.mul(_gamma);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        Tensor[] parts = Project(input);
        return DotProduct.Weights(parts[0], parts[1], PositionBias(input.size(2), input.size(3)));
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
        => AttentionWeightsInitializer.Reset(this, AttentionInitialization.Xavier, () => { });

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        AttentionWeightsInitializer.Zero(_gamma);
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        long positions = input.size(2) * input.size(3);
        return 2 * input.size(0) * Heads * positions * positions * HeadWidth;
    }

    /// <summary>The bias of relative positions for a size of map, (1, heads, L, L); null without one.</summary>
    internal Tensor? PositionBias(long height, long width) => _position?.Between(height, width);

    /// <summary>Queries, keys and values, each (N, heads, L, d).</summary>
    private Tensor[] Project(Tensor input) => DotProduct.Heads(DotProduct.Project(_qkv, input), 3, Heads);

    /// <summary>b(Δy, Δx) = W₂ ReLU(W₁ (sgn Δ · ln(1 + |Δ|)) + b₁), one value per head.</summary>
    private sealed class RelativePositionBias : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        private const int Width = 128;

        [ComponentName(Name = "fc1")]
        private readonly Linear _fc1;

        [ComponentName(Name = "fc2")]
        private readonly Linear _fc2;

        public RelativePositionBias(int heads)
            : base(nameof(RelativePositionBias))
        {
            _fc1 = nn.Linear(2, Width);
            _fc2 = nn.Linear(Width, heads, hasBias: false);
            RegisterComponents();
        }

        /// <summary>(positions, 2) log-spaced offsets to (positions, heads).</summary>
        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            return _fc2.call(_fc1.call(input).relu()).MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs) => count.Map(count.Values(_fc1));

        /// <summary>The functions of <see cref="Between"/>; returns the number of its values.</summary>
        public long CountBetween(FunctionCount count, long height, long width)
        {
            long[] offsets = [(2 * height) - 1, (2 * width) - 1];
            foreach (long offset in offsets)
            {
                for (int function = 0; function < 4; function++) count.Map(offset);
                count.Combine(offset, offset, offset);
            }

            count.Copy(2 * offsets[0] * offsets[1]);
            long pairs = height * width * height * width * _fc2.weight!.size(0);
            count.Copy(pairs);
            return pairs;
        }

        /// <summary>(1, heads, L, L): the bias of each query position (row) for each key position (column).</summary>
        public Tensor Between(long height, long width)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor weight = _fc1.weight!;
            Tensor vertical = Offsets(2 * height - 1, height - 1, weight).view(-1, 1).expand(-1, 2 * width - 1);
            Tensor horizontal = Offsets(2 * width - 1, width - 1, weight).view(1, -1).expand(2 * height - 1, -1);
            Tensor table = call(stack([vertical, horizontal], -1).view(-1, 2));

            long positions = height * width;
            using Scalar rowLength = (2 * width - 1).ToScalar();
            Tensor row = Differences(height, weight.device).mul(rowLength).view(height, 1, height, 1);
            Tensor column = Differences(width, weight.device).view(1, width, 1, width);
            Tensor index = row.Plus(column).view(-1);
            return table.index_select(
                0, index).view(positions, positions, -1).permute(2, 0, 1).unsqueeze(0).MoveToOuterDisposeScope();
        }

        /// <summary>sgn Δ · ln(1 + |Δ|) for Δ = −reach … reach.</summary>
        private static Tensor Offsets(long count, long reach, Tensor like)
        {
            using Scalar centre = reach.ToScalar();
            ScalarType type = like.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
            Tensor offset = TensorCalls.Range(count, type, like.device).sub(centre);
            return offset.sign().mul(offset.abs().log1p()).to_type(like.dtype);
        }

        /// <summary>i − j + n − 1 for every pair of n places.</summary>
        private static Tensor Differences(long n, Device device)
        {
            using Scalar last = (n - 1).ToScalar();
            Tensor place = TensorCalls.Range(n, ScalarType.Int64, device);
            return place.view(-1, 1).sub(place.view(1, -1)).Plus(last);
        }
    }
}
