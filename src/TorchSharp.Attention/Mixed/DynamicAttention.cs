// Dynamic attention: a router weighs several attentions for each sample. Ours; its parts are a mixture of experts (Jacobs,
// Jordan, Nowlan, Hinton: "Adaptive Mixtures of Local Experts", 1991) and the load-balance loss of Fedus, Zoph, Shazeer: "Switch
// Transformers: Scaling to Trillion Parameter Models with Simple and Efficient Sparsity", 2021, arXiv:2101.03961.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="DynamicAttention"/>.</summary>
[AttentionKind("dynamic")]
public sealed record DynamicAttentionOptions : AttentionOptions
{
    private const int LeastRouterWidth = 8;

    /// <summary>
    /// The attentions to choose from, at least two, each with its own settings and initialisation; guided and branch kinds cannot
    /// be among them. Default squeeze-and-excitation, ECA and spatial attention.
    /// </summary>
    public ValueList<AttentionOptions> Attentions { get; init; } =
        [new SqueezeExcitationOptions { RoundingDivisor = 1 }, new EfficientChannelAttentionOptions(),
            new SpatialAttentionOptions()];

    /// <summary>Reduction r of the router: its hidden layer has C / r channels, at least 8. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the router's hidden layer, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>
    /// Temperature that the router's logits are divided by: low sharpens the choice, high evens it out.
    /// <see cref="DynamicAttention.Temperature"/> can be changed during training. Default 1.
    /// </summary>
    public double Temperature { get; init; } = 1;

    /// <summary>
    /// Whether evaluation runs, for each sample, only the attention with the greatest weight, with weight 1. Training always
    /// mixes all attentions. The cost then depends on the input: <see cref="ModelCost"/> counts the attention that is chosen for
    /// zeros. Default false.
    /// </summary>
    public bool HardRouting { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        RouterWidth(channels);
        Check.Positive(Temperature);
        ArgumentNullException.ThrowIfNull(Attentions);
        if (Attentions.Count is < 2 or > 16)
        {
            throw new ArgumentException(
                $"Attentions has {Attentions.Count} members; a router chooses among 2 to 16.", nameof(Attentions));
        }

        foreach (AttentionOptions attention in Attentions)
        {
            ArgumentNullException.ThrowIfNull(attention, nameof(Attentions));
            if (attention is GuidedAttentionOptions or BranchAttentionOptions)
            {
                throw new ArgumentException(
                    $"Attentions holds '{attention.Kind()}', which does not refine one map to the same shape; " +
                    "choose gates and contexts.", nameof(Attentions));
            }

            attention.Validate(channels);
        }
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new DynamicAttention(channels, this);

    internal int RouterWidth(int channels)
        => ChannelReduction.WidthOfSelection(channels, Reduction, ReducedChannels, LeastRouterWidth, null);
}

/// <summary>
/// Dynamic attention: y = Σ_k w_k · A_k(x), w = softmax((W₂ ReLU(W₁ z)) / T) for each sample, z = mean of x over positions, A_k
/// any attentions. With <see cref="DynamicAttentionOptions.HardRouting"/>, in evaluation y = A_k(x) with the k of the greatest
/// weight, and only the chosen attentions run, each on the samples that chose it: the cost follows the input. Weights (N, K), on
/// demand. Keys <c>router.fc1</c>, <c>router.fc2</c> (1×1 convolutions), <c>attentions.0.*</c>, ….
/// </summary>
/// <remarks>
/// Ours, from parts: Jacobs and others: "Adaptive Mixtures of Local Experts", 1991; the load-balance loss of Fedus, Zoph,
/// Shazeer: "Switch Transformers", 2021, arXiv:2101.03961. Each attention starts as its own options say;
/// <see cref="AttentionOptions.Initialization"/> is the router's. <see cref="AttentionInitialization.Paper"/>: as
/// <see cref="AttentionInitialization.Default"/>.
/// </remarks>
public sealed class DynamicAttention : AttentionModule
{
    [ComponentName(Name = "router")]
    private readonly Router _router;

    [ComponentName(Name = "attentions")]
    private readonly ModuleList<AttentionModule> _attentions;

    private readonly DynamicAttentionOptions _options;
    private readonly Held _loss = new();
    private double _temperature;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or one of the attentions does not fit.</exception>
    public DynamicAttention(int channels, DynamicAttentionOptions? options = null)
        : base(channels, options ??= new DynamicAttentionOptions())
    {
        _options = options;
        _temperature = options.Temperature;
        _router = new Router(channels, options.RouterWidth(channels), options.Attentions.Count);
        _attentions = nn.ModuleList([.. options.Attentions.Select(attention => attention.Create(channels))]);
        Complete();
    }

    /// <summary>
    /// Temperature that the router's logits are divided by, at first <see cref="DynamicAttentionOptions.Temperature"/>. It is not
    /// part of the state dictionary.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not a finite number above 0.</exception>
    public double Temperature
    {
        get => _temperature;
        set => _temperature = Check.Positive(value);
    }

    /// <summary>Computes the weights of the router for an input, (N, K). Each row sums to 1.</summary>
    /// <param name="input">A feature map, (N, C, H, W).</param>
    /// <returns>A new tensor, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The input's rank, channels or type do not fit.</exception>
    public Tensor Weights(Tensor input)
    {
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        return ComputeWeights(input).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns the load-balance loss of the last forward pass in training, and forgets it: K · Σ_k f_k · P_k. f_k is the share of
    /// samples whose greatest weight is that of attention k, and P_k is the mean of w_k. The loss is 1 if the load is spread
    /// evenly, and up to K if one attention takes all. Its gradient reaches the router through P. Add it to the training loss
    /// with a small factor (0.01 in the paper) before calling <c>backward</c>.
    /// </summary>
    /// <returns>
    /// A scalar, owned by the caller (it joins the caller's dispose scope), or null where there was no forward pass in training
    /// since the last call. A loss that is not taken is disposed by the next forward pass in training or with the module.
    /// </returns>
    public Tensor? TakeLoadBalanceLoss() => _loss.Take();

    /// <summary>
    /// The sum of <see cref="TakeLoadBalanceLoss()"/> over all dynamic attentions of a network; null where none has a loss.
    /// </summary>
    /// <param name="network">The network.</param>
    public static Tensor? TakeLoadBalanceLoss(nn.Module network)
    {
        ArgumentNullException.ThrowIfNull(network);
        using DisposeScope scope = NewDisposeScope();
        Tensor? total = null;
        foreach (nn.Module module in network.modules().Prepend(network))
        {
            if (module is not DynamicAttention dynamic || dynamic.TakeLoadBalanceLoss() is not { } loss) continue;
            total = total is null ? loss : total.Plus(loss);
        }

        return total?.MoveToOuterDisposeScope();
    }

    private protected override void CountFunctions(FunctionCount count, Tensor input)
    {
        long values = input.numel(), samples = input.size(0), routes = samples * _attentions.Count;
        count.Map(routes);
        count.Softmax(routes);
        if (!_options.HardRouting)
        {
            for (int k = 0; k < _attentions.Count; k++)
            {
                count.Combine(values, values, samples);
                if (k > 0) count.Combine(values, values, values);
            }
        }

        if (IdentityScale is null) return;
        count.Combine(values, values, values);
        IdentityStart.CountAdd(count, values, values, IdentityScale);
    }

    /// <inheritdoc/>
    protected override Tensor Attend(Tensor input)
    {
        Tensor weights = ComputeWeights(input);
        if (training) _loss.Keep(input.size(0) == 0 ? null : LoadBalance(weights));
        Tensor refined = _options.HardRouting && !training ? Route(input, weights) : Mix(input, weights);
        if (training && Options.Dropout > 0) refined = nn.functional.dropout(refined, Options.Dropout, training: true);
        return IdentityScale is null ? refined : IdentityStart.Add(input, refined.sub(input), IdentityScale);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _loss.Keep(null);
        base.Dispose(disposing);
    }

    private static Tensor LoadBalance(Tensor weights)
    {
        long count = weights.size(1);
        using Scalar scale = ((double)count).ToScalar();
        Tensor shares = nn.functional.one_hot(weights.argmax(1), count).to_type(weights.dtype).mean([0]);
        return shares.mul(weights.mean([0])).Total().mul(scale);
    }

    private Tensor ComputeWeights(Tensor input)
    {
        using Scalar temperature = _temperature.ToScalar();
        return _router.call(input).div(temperature).softmax(1);
    }

    private Tensor Mix(Tensor input, Tensor weights)
    {
        Tensor? sum = null;
        for (int k = 0; k < _attentions.Count; k++)
        {
            Tensor part = _attentions[k].call(input).mul(weights.narrow(1, k, 1).view(-1, 1, 1, 1));
            sum = sum is null ? part : sum.Plus(part);
        }

        return sum!;
    }

    /// <summary>Runs each attention on the samples that chose it, and puts the results back in order.</summary>
    private Tensor Route(Tensor input, Tensor weights)
    {
        long[] choices = weights.argmax(1).cpu().data<long>().ToArray();
        if (choices.Length == 0) return input;
        List<Tensor> parts = [];
        long[] places = new long[choices.Length];
        long next = 0;
        for (int k = 0; k < _attentions.Count; k++)
        {
            long[] samples = [.. Enumerable.Range(0, choices.Length).Where(i => choices[i] == k).Select(i => (long)i)];
            if (samples.Length == choices.Length) return _attentions[k].call(input);
            if (samples.Length == 0) continue;
            foreach (long sample in samples) places[sample] = next++;
            parts.Add(_attentions[k].call(input.index_select(0, tensor(samples, device: input.device))));
        }

        return cat(parts, 0).index_select(0, tensor(places, device: input.device));
    }

    /// <summary>From a map, (N, C, H, W), to logits, (N, K).</summary>
    private sealed class Router : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "fc1")]
        private readonly Conv2d _fc1;

        [ComponentName(Name = "fc2")]
        private readonly Conv2d _fc2;

        public Router(int channels, int width, int choices)
            : base(nameof(Router))
        {
            _fc1 = nn.Conv2d(channels, width, 1);
            _fc2 = nn.Conv2d(width, choices, 1);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            return _fc2.call(_fc1.call(input.mean([2, 3], keepdim: true)).relu_()).flatten(1).MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs)
        {
            count.Reduce(inputs[0].numel(), inputs[0].size(0) * inputs[0].size(1));
            count.Map(count.Values(_fc1), inPlace: true);
        }
    }

    /// <summary>
    /// One tensor outside all dispose scopes. A class of its own, because a module takes fields of tensors for buffers.
    /// </summary>
    private sealed class Held
    {
        private Tensor? _tensor;

        public void Keep(Tensor? tensor)
        {
            _tensor?.Dispose();
            _tensor = tensor?.DetachFromDisposeScope();
        }

        public Tensor? Take()
        {
            using Tensor? tensor = _tensor;
            _tensor = null;
            return tensor?.alias();
        }
    }
}
