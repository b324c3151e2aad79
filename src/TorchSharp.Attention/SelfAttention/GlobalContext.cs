// Global context. Cao, Xu, Lin, Wei, Hu: "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", 2019,
// arXiv:1904.11492. One attention map for all queries pools the map to a vector, which a bottleneck with layer norm turns into a
// summand (paper), a gate (timm's "gc"), or both.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How <see cref="GlobalContext"/> combines the context vector with the input.</summary>
public enum GlobalContextFusion
{
    /// <summary>y = x + t(z), as the paper and timm's "gca".</summary>
    Add,

    /// <summary>y = x · σ(t(z)), as timm's "gc".</summary>
    Scale,

    /// <summary>y = x · σ(s(z)) + t(z), two bottlenecks.</summary>
    ScaleAndAdd,
}

/// <summary>Settings of <see cref="GlobalContext"/>. Defaults: the paper's.</summary>
[AttentionKind("gc")]
public sealed record GlobalContextOptions : AttentionOptions
{
    /// <summary>The paper: added, r = 16, layer norm with ε = 1e-5.</summary>
    public static GlobalContextOptions Paper { get; } = new();

    /// <summary>
    /// timm's "gc": a gate, r = 8, C / r rounded to the nearest integer, ε = 1e-6. With <c>Fusion = Add</c>, its "gca".
    /// </summary>
    public static GlobalContextOptions Timm { get; } =
        new() { Fusion = GlobalContextFusion.Scale, Reduction = 8, RoundingDivisor = 1, NormEpsilon = 1e-6 };

    /// <summary>How the context vector is combined with the input. Default added.</summary>
    public GlobalContextFusion Fusion { get; init; }

    /// <summary>True: z is a softmax-weighted mean over positions; false: the plain mean. Default true.</summary>
    public bool AttentionPooling { get; init; } = true;

    /// <summary>Reduction r of the bottleneck: C / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the bottleneck in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>ε of the layer norm in the bottleneck. Default 1e-5.</summary>
    public double NormEpsilon { get; init; } = 1e-5;

    /// <summary>The activation in the bottleneck. Default ReLU.</summary>
    public GateActivation Activation { get; init; }

    /// <summary>The gate function, where the context scales. Default sigmoid.</summary>
    public GateFunction Gate { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Defined(Fusion);
        Check.Defined(Activation);
        Check.Defined(Gate);
        Check.Positive(NormEpsilon);
        ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new GlobalContext(channels, this);
}

/// <summary>
/// Global context: z = Σ_p softmax_p(w · x_p + b) x_p, t(z) = W₂ δ(LN(W₁ z)); y = x + t(z), y = x · σ(t(z)), or both. Weights
/// (N, 1, 1, L): one row for all queries. Keys as timm: <c>conv_attn</c>, <c>mlp_scale</c> and <c>mlp_add</c> with <c>fc1</c>,
/// <c>norm</c>, <c>fc2</c>.
/// </summary>
/// <remarks>
/// Cao et al.: "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", 2019, arXiv:1904.11492.
/// <see cref="AttentionInitialization.Paper"/>: Kaiming normal (fan-in) for <c>conv_attn</c>, zero for the last layer of each
/// bottleneck, so that an added context starts as the identity and a gate as σ(0).
/// </remarks>
public sealed class GlobalContext : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "conv_attn")]
    private readonly Conv2d? _attention;

    [ComponentName(Name = "mlp_scale")]
    private readonly Bottleneck? _scale;

    [ComponentName(Name = "mlp_add")]
    private readonly Bottleneck? _add;

    private readonly GlobalContextOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or leaves no channel in the bottleneck.</exception>
    public GlobalContext(int channels, GlobalContextOptions? options = null)
        : base(channels, options ??= new GlobalContextOptions(), options.Fusion == GlobalContextFusion.Add)
    {
        _options = options;
        int width = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        if (options.AttentionPooling) _attention = nn.Conv2d(channels, 1, 1);
        if (options.Fusion != GlobalContextFusion.Add) _scale = new Bottleneck(channels, width, options);
        if (options.Fusion != GlobalContextFusion.Scale) _add = new Bottleneck(channels, width, options);
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        long values = input.numel(), samples = input.size(0), channels = samples * Channels,
            positions = samples * input.size(2) * input.size(3);
        if (_attention is null)
        {
            count.Reduce(values, channels);
        }
        else
        {
            count.Softmax(positions);
            count.Product(channels, values, positions);
        }

        if (_scale is null) return channels;
        count.Map(channels);
        count.Combine(values, values, channels);
        if (_add is not null) count.Combine(values, values, channels);
        return values;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Tensor pooled = _attention is null
            ? input.mean([2, 3], keepdim: true)
            : input.flatten(2).matmul(ComputeWeights(input).squeeze(1).transpose(1, 2)).unsqueeze(-1);
        if (_scale is null) return _add!.call(pooled);
        Tensor scaled = input.mul(_options.Gate.Apply(_scale.call(pooled)));
        return _add is null ? scaled : scaled.Plus(_add.call(pooled));
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        long positions = input.size(2) * input.size(3);
        if (_attention is not null) return _attention.call(input).view(input.size(0), 1, 1, positions).softmax(-1);
        using Scalar share = (1.0 / positions).ToScalar();
        return full([input.size(0), 1, 1, positions], share, dtype: input.dtype, device: input.device);
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        if (_attention is not null)
        {
            nn.init.kaiming_normal_(
                _attention.weight!, mode: nn.init.FanInOut.FanIn, nonlinearity: nn.init.NonlinearityType.ReLU);
            AttentionWeightsInitializer.Zero(_attention.bias);
        }

        _add?.ZeroLast();
        _scale?.ZeroLast();
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input) => _attention is null ? 0 : input.numel();

    /// <summary>W₂ δ(LN(W₁ z)).</summary>
    private sealed class Bottleneck : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "fc1")]
        private readonly Conv2d _fc1;

        [ComponentName(Name = "norm")]
        private readonly LayerNorm _norm;

        [ComponentName(Name = "fc2")]
        private readonly Conv2d _fc2;

        private readonly GateActivation _activation;

        public Bottleneck(int channels, int width, GlobalContextOptions options)
            : base(nameof(Bottleneck))
        {
            _activation = options.Activation;
            _fc1 = nn.Conv2d(channels, width, 1);
            _norm = nn.LayerNorm(width, options.NormEpsilon);
            _fc2 = nn.Conv2d(width, channels, 1);
            RegisterComponents();
        }

        /// <summary>(N, C, 1, 1) to the same shape.</summary>
        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor normed = _norm.call(_fc1.call(input).flatten(1)).unsqueeze(-1).unsqueeze(-1);
            return _fc2.call(_activation.Apply(normed)).MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs) => count.Map(count.Values(_fc1));

        public void ZeroLast()
        {
            AttentionWeightsInitializer.Zero(_fc2.weight);
            AttentionWeightsInitializer.Zero(_fc2.bias);
        }
    }
}
