// Cross-attention from a map to another map or to a sequence. Vaswani et al.: "Attention Is All You Need", 2017,
// arXiv:1706.03762, its encoder-decoder attention; from maps to sequences as in Rombach et al.: "High-Resolution Image Synthesis
// with Latent Diffusion Models", 2021, arXiv:2112.10752. A position that may see no key gets a zero sum, where PyTorch gives NaN.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Settings of <see cref="CrossAttention"/>. The module has two inputs, so it cannot be used in an <see cref="AttentionPlan"/>.
/// </summary>
public sealed record CrossAttentionOptions
{
    /// <summary>Number of heads; without a head width it must divide the channels. Default 8.</summary>
    public int Heads { get; init; } = 8;

    /// <summary>Channels of each head. Default null: C / heads. With it, the inner width is heads · head width.</summary>
    public int? HeadWidth { get; init; }

    /// <summary>Whether the projections have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>True: y = x + c; false: y = c. Default true.</summary>
    public bool Residual { get; init; } = true;

    /// <summary>
    /// Multiplies c with a learnable scalar <c>gamma</c> that starts at 0, so that the module starts as the identity. Needs
    /// <see cref="Residual"/>. Default false.
    /// </summary>
    public bool ZeroInitScale { get; init; }

    /// <summary>Probability, in [0, 1), of dropping an attention weight in training. Default 0.</summary>
    public double AttentionDropout { get; init; }

    /// <summary>
    /// Probability, in [0, 1), of zeroing an element of c in training; survivors are scaled by 1 / (1 − p). Default 0.
    /// </summary>
    public double Dropout { get; init; }

    /// <summary>Checks these settings against both widths without building anything.</summary>
    /// <param name="channels">Number of channels C of the map to refine.</param>
    /// <param name="contextChannels">Channels of the second map, or width of the sequence.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public void Validate(int channels, int contextChannels)
    {
        Check.Positive(channels);
        Check.Positive(contextChannels);
        Check.Positive(Heads);
        if (HeadWidth is int width) Check.Positive(width, nameof(HeadWidth));
        else Check.Heads(Heads, channels);
        Check.Probability(AttentionDropout, oneAllowed: false);
        Check.Probability(Dropout, oneAllowed: false);
        if (ZeroInitScale && !Residual)
        {
            throw new ArgumentException(
                "ZeroInitScale is true and Residual false: the output would be zero everywhere. Set Residual = true.",
                nameof(ZeroInitScale));
        }
    }
}

/// <summary>
/// Multi-head attention from the L = H · W positions of a map x, (N, C, H, W), to a context: the S = h · w positions of a second
/// map, (N, G, h, w) of any size, or a sequence, (N, S, G). c = W_o · concat over heads of softmax(q kᵀ / √d) v, with q a
/// projection of x, k and v projections of the context, d the head width; y = x + c, y = x + gamma · c, or y = c. Weights (N,
/// heads, L, S), on demand only. Keys <c>q</c>, <c>kv</c>, <c>proj</c>, <c>gamma</c>.
/// </summary>
/// <remarks>
/// Vaswani et al.: "Attention Is All You Need", 2017, arXiv:1706.03762; from maps to sequences: Rombach et al.:
/// "High-Resolution Image Synthesis with Latent Diffusion Models", 2021, arXiv:2112.10752. The forward path is fused and never
/// holds the weights. Layers start as PyTorch's.
/// </remarks>
public sealed class CrossAttention : nn.Module<Tensor, Tensor, Tensor?, Tensor>, ISequenceAttention, ICountsFunctions, IPlaced
{
    [ComponentName(Name = "q")]
    private readonly Linear _query;

    [ComponentName(Name = "kv")]
    private readonly Linear _keyValue;

    [ComponentName(Name = "proj")]
    private readonly Linear _proj;

    [ComponentName(Name = "gamma")]
    private readonly Parameter? _gamma;

    private readonly ParameterPlace _place;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels C of the map to refine.</param>
    /// <param name="contextChannels">Channels of the second map, or width of the sequence.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public CrossAttention(int channels, int contextChannels, CrossAttentionOptions? options = null)
        : base(nameof(CrossAttention))
    {
        Options = options ?? new CrossAttentionOptions();
        Options.Validate(channels, contextChannels);
        _place = new ParameterPlace(this);
        (Channels, ContextChannels) = (channels, contextChannels);
        HeadWidth = Options.HeadWidth ?? channels / Options.Heads;
        int width = Options.Heads * HeadWidth;
        _query = nn.Linear(channels, width, hasBias: Options.Bias);
        _keyValue = nn.Linear(contextChannels, 2 * width, hasBias: Options.Bias);
        _proj = nn.Linear(width, channels, hasBias: Options.Bias);
        if (Options.ZeroInitScale) _gamma = new Parameter(zeros(1));
        RegisterComponents();
        IdentityStart.Keep(this);
    }

    /// <summary>Number of channels of the map that is refined.</summary>
    public int Channels { get; }

    /// <summary>Channels of the second map, or width of the sequence.</summary>
    public int ContextChannels { get; }

    /// <summary>Channels of each head.</summary>
    public int HeadWidth { get; }

    /// <summary>The settings that the module was built with.</summary>
    public CrossAttentionOptions Options { get; }

    /// <summary>Refines a map by a context without a mask.</summary>
    /// <param name="input">The map to refine, (N, C, H, W). It is neither changed nor disposed.</param>
    /// <param name="context">A map, (N, G, h, w), or a sequence, (N, S, G). It is neither changed nor disposed.</param>
    /// <returns>A new tensor of the shape of <paramref name="input"/>, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A shape or type does not fit; the message says what would.</exception>
    public Tensor call(Tensor input, Tensor context) => call(input, context, null);

    /// <summary>Refines a map by a context.</summary>
    /// <param name="input">The map to refine, (N, C, H, W). It is neither changed nor disposed.</param>
    /// <param name="context">A map, (N, G, h, w), or a sequence, (N, S, G). It is neither changed nor disposed.</param>
    /// <param name="keyPaddingMask">
    /// (N, S): boolean, true where a place of the context is padding and not attended to; or floating point, added to its logits.
    /// Null for none. A sample without any place to attend to gathers zeros.
    /// </param>
    /// <returns>A new tensor of the shape of <paramref name="input"/>, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A shape or type does not fit; the message says what would.</exception>
    public override Tensor forward(Tensor input, Tensor context, Tensor? keyPaddingMask)
    {
        CheckInputs(input, context, keyPaddingMask);
        using DisposeScope scope = NewDisposeScope();
        Tensor places = Places(context);
        Tensor[] keyValue = Split(_keyValue.call(places), 2);
        (Tensor? bias, Tensor? empty) = Mask(input, keyPaddingMask);
        Tensor gathered = DotProduct.Context(
            Queries(input), keyValue[0], keyValue[1], bias, dropout: training ? Options.AttentionDropout : 0);
        Tensor change = _proj.call(
            DotProduct.Emptied(gathered, empty).transpose(1, 2).flatten(2)).transpose(1, 2).reshape(input.shape);
        if (_gamma is not null) change = change.mul(_gamma);
        if (training && Options.Dropout > 0) change = nn.functional.dropout(change, Options.Dropout, training: true);
        return (Options.Residual ? input.Plus(change) : change).MoveToOuterDisposeScope();
    }

    /// <summary>Computes the attention weights; <c>forward</c> never stores them. Dropout is not applied.</summary>
    /// <inheritdoc cref="forward"/>
    /// <returns>
    /// (N, heads, H · W, S), each row summing to 1, or zero where a sample has no place to attend to; owned by the caller.
    /// </returns>
    public Tensor Weights(Tensor input, Tensor context, Tensor? keyPaddingMask = null)
    {
        CheckInputs(input, context, keyPaddingMask);
        using DisposeScope scope = NewDisposeScope();
        Tensor key = Split(_keyValue.call(Places(context)), 2)[0];
        (Tensor? bias, Tensor? empty) = Mask(input, keyPaddingMask);
        return DotProduct.Emptied(DotProduct.Weights(Queries(input), key, bias), empty).MoveToOuterDisposeScope();
    }

    /// <summary>Multiply-accumulates of the two products; the projections count themselves.</summary>
    internal long MultiplyAccumulates(Tensor input, Tensor context)
    {
        long places = context.dim() == 4 ? context.size(2) * context.size(3) : context.size(1);
        return 2 * input.size(0) * input.size(2) * input.size(3) * places * Options.Heads * HeadWidth;
    }

    /// <summary>Initializes all weights again.</summary>
    public void ResetParameters()
    {
        AttentionWeightsInitializer.Reset(this, AttentionInitialization.Default, () => { });
        using IDisposable quiet = no_grad();
        AttentionWeightsInitializer.Zero(_gamma);
    }

    /// <summary>A short line for printouts.</summary>
    public override string ToString() => $"{GetName()}({Channels}, context {ContextChannels}, {Options})";

    ParameterPlace IPlaced.Place => _place;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _place.End();
        base.Dispose(disposing);
    }

    /// <summary>A map's positions as a sequence, (N, L, C); a sequence as it is.</summary>
    void ICountsFunctions.Count(FunctionCount count, Tensor[] inputs)
    {
        (Tensor input, Tensor context) = (inputs[0], inputs[1]);
        long values = input.numel(), places = context.dim() == 4 ? context.size(2) * context.size(3) : context.size(1);
        DotProduct.CountContext(
            count, input.size(0) * Options.Heads, input.size(2) * input.size(3), places, HeadWidth, HeadWidth, dense: true);
        if (_gamma is not null) count.Combine(values, values, 1);
        if (Options.Residual) count.Combine(values, values, values);
    }

    private static Tensor Places(Tensor tensor) => tensor.dim() == 4 ? tensor.flatten(2).transpose(1, 2) : tensor;

    /// <summary>(N, heads, L, d).</summary>
    private Tensor Queries(Tensor input) => Split(_query.call(Places(input)), 1)[0];

    /// <summary>(N, S, parts · heads · d) to parts of (N, heads, S, d).</summary>
    private Tensor[] Split(Tensor projected, int parts)
        => projected.reshape(projected.size(0), projected.size(1), parts, Options.Heads, HeadWidth).permute(2, 0, 3, 1, 4).unbind(
            0);

    /// <summary>
    /// What to add to the logits, (N, 1, 1, S), as every query sees the same keys, and which samples have none, (N, 1, 1, 1).
    /// </summary>
    private static (Tensor? Bias, Tensor? Empty) Mask(Tensor input, Tensor? padding)
        => padding is null ? (null, null) : DotProduct.Open(DotProduct.Padding(padding, input.dtype));

    private void CheckInputs(Tensor input, Tensor context, Tensor? padding)
    {
        Check.FeatureMap(input, Channels, _place);
        Check.Alive(context, GetName());
        if (context.dim() == 4)
        {
            Check.FeatureMap(context, ContextChannels, _place);
        }
        else if (context.dim() != 3 || context.size(1) < 1 || context.size(2) != ContextChannels || !context.is_floating_point())
        {
            throw new ArgumentException(
                $"{GetName()} takes as context a floating-point map (N, {ContextChannels}, h, w) or sequence (N, length, " +
                $"{ContextChannels}); " +
                $"{nameof(context)} is {context.dtype} {Check.Shape(context)}.", nameof(context));
        }

        if (context.size(0) != input.size(0) || context.dtype != input.dtype)
        {
            throw new ArgumentException(
                $"{GetName()} got {input.dtype} input of batch {input.size(0)} and {context.dtype} context of batch " +
                $"{context.size(0)}; both " +
                "must have the same batch and type.", nameof(context));
        }

        _place.Check(context, nameof(context));
        long places = context.dim() == 4 ? context.size(2) * context.size(3) : context.size(1);
        if (padding is not null) DotProduct.CheckPadding(padding, input.size(0), places, GetName());
    }
}
