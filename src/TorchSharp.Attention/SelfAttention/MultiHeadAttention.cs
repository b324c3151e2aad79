// Multi-head attention over sequences. Vaswani et al.: "Attention Is All You Need", 2017, arXiv:1706.03762. Names, shapes, start
// and masks as torch.nn.MultiheadAttention with batch_first; its add_bias_kv and add_zero_attn are not here. A query that may see
// no key gets a zero context, where PyTorch gives NaN.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Settings of <see cref="MultiHeadAttention"/>. The module works on sequences, so it cannot be used in an
/// <see cref="AttentionPlan"/>.
/// </summary>
public sealed record MultiHeadAttentionOptions
{
    /// <summary>Number of heads; must divide the width. Default 8.</summary>
    public int Heads { get; init; } = 8;

    /// <summary>Whether the projections have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Width of the keys' sequence. Default null: the queries' width.</summary>
    public int? KeyWidth { get; init; }

    /// <summary>Width of the values' sequence. Default null: the queries' width.</summary>
    public int? ValueWidth { get; init; }

    /// <summary>Probability, in [0, 1), of dropping an attention weight in training. Default 0.</summary>
    public double AttentionDropout { get; init; }

    /// <summary>Checks these settings against a width without building anything.</summary>
    /// <param name="width">Width E of the queries.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the width.</exception>
    public void Validate(int width)
    {
        Check.Positive(width);
        Check.Positive(Heads);
        if (width % Heads != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(Heads), Heads, $"Heads is {Heads}, which does not divide the width {width}. Choose a divisor.");
        }

        if (KeyWidth is int key) Check.Positive(key, nameof(KeyWidth));
        if (ValueWidth is int value) Check.Positive(value, nameof(ValueWidth));
        Check.Probability(AttentionDropout, oneAllowed: false);
    }
}

/// <summary>
/// Multi-head attention over sequences: y = W_o · concat over heads of softmax(q kᵀ / √d + mask) v, from queries (N, L, E), keys
/// (N, S, E_k) and values (N, S, E_v) to (N, L, E). Keys as torch.nn.MultiheadAttention: <c>in_proj_weight</c>, or
/// <c>q_proj_weight</c>, <c>k_proj_weight</c> and <c>v_proj_weight</c> where widths differ, <c>in_proj_bias</c>, <c>out_proj</c>.
/// </summary>
/// <remarks>
/// Vaswani et al.: "Attention Is All You Need", 2017, arXiv:1706.03762. The forward path is fused and never holds
/// the weights. A query that may see no key gets a zero context. Starts with Xavier uniform projections, zero
/// biases, and the output layer's own start.
/// </remarks>
public sealed class MultiHeadAttention
    : nn.Module<Tensor, Tensor, Tensor, Tensor?, Tensor?, Tensor>, ISequenceAttention, ICountsFunctions, IPlaced
{
    [ComponentName(Name = "in_proj_weight")]
    private readonly Parameter? _in;

    [ComponentName(Name = "q_proj_weight")]
    private readonly Parameter? _queryWeight;

    [ComponentName(Name = "k_proj_weight")]
    private readonly Parameter? _keyWeight;

    [ComponentName(Name = "v_proj_weight")]
    private readonly Parameter? _valueWeight;

    [ComponentName(Name = "in_proj_bias")]
    private readonly Parameter? _bias;

    [ComponentName(Name = "out_proj")]
    private readonly Linear _out;

    private readonly int _keyWidth, _valueWidth;
    private readonly ParameterPlace _place;

    /// <summary>Builds the module.</summary>
    /// <param name="width">Width E of the queries and of the output.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the width.</exception>
    public MultiHeadAttention(int width, MultiHeadAttentionOptions? options = null)
        : base(nameof(MultiHeadAttention))
    {
        Options = options ?? new MultiHeadAttentionOptions();
        Options.Validate(width);
        _place = new ParameterPlace(this);
        Width = width;
        (_keyWidth, _valueWidth) = (Options.KeyWidth ?? width, Options.ValueWidth ?? width);
        if (_keyWidth == width && _valueWidth == width)
        {
            _in = new Parameter(empty(3 * width, width));
        }
        else
        {
            _queryWeight = new Parameter(empty(width, width));
            _keyWeight = new Parameter(empty(width, _keyWidth));
            _valueWeight = new Parameter(empty(width, _valueWidth));
        }

        if (Options.Bias) _bias = new Parameter(zeros(3 * width));
        _out = nn.Linear(width, width, hasBias: Options.Bias);
        RegisterComponents();
        IdentityStart.Keep(this);
        ResetParameters();
    }

    /// <summary>Width E of the queries and of the output.</summary>
    public int Width { get; }

    /// <summary>The settings that the module was built with.</summary>
    public MultiHeadAttentionOptions Options { get; }

    /// <summary>Self-attention: the sequence is queries, keys and values.</summary>
    /// <param name="sequence">(N, L, E).</param>
    /// <returns>(N, L, E), owned by the caller.</returns>
    /// <exception cref="ArgumentException">A shape or type does not fit.</exception>
    public Tensor call(Tensor sequence) => call(sequence, sequence, sequence, null, null);

    /// <summary>Attention of queries to keys without masks.</summary>
    /// <param name="query">(N, L, E).</param>
    /// <param name="key">(N, S, E_k).</param>
    /// <param name="value">(N, S, E_v).</param>
    /// <returns>(N, L, E), owned by the caller.</returns>
    /// <exception cref="ArgumentException">A shape or type does not fit.</exception>
    public Tensor call(Tensor query, Tensor key, Tensor value) => call(query, key, value, null, null);

    /// <summary>Attention of queries to keys.</summary>
    /// <param name="query">(N, L, E).</param>
    /// <param name="key">(N, S, E_k).</param>
    /// <param name="value">(N, S, E_v).</param>
    /// <param name="keyPaddingMask">
    /// (N, S): boolean, true where a key is padding and not attended to; or floating point, added to its logits. Null for none.
    /// </param>
    /// <param name="attentionMask">
    /// (L, S) or (N · heads, L, S): boolean, true where a query must not see a key; or floating
    /// point, added to the logits. Null for none.
    /// </param>
    /// <returns>(N, L, E), owned by the caller.</returns>
    /// <exception cref="ArgumentException">A shape or type does not fit; the message says what would.</exception>
    public override Tensor forward(Tensor query, Tensor key, Tensor value, Tensor? keyPaddingMask, Tensor? attentionMask)
    {
        CheckInputs(query, key, value, keyPaddingMask, attentionMask);
        using DisposeScope scope = NewDisposeScope();
        (Tensor? bias, Tensor? empty) = Mask(query, key, keyPaddingMask, attentionMask);
        Tensor gathered = DotProduct.Context(
            Project(query, 0), Project(key, 1), Project(value, 2), bias, dropout: training ? Options.AttentionDropout : 0);
        return _out.call(DotProduct.Emptied(gathered, empty).transpose(1, 2).reshape(query.shape)).MoveToOuterDisposeScope();
    }

    /// <summary>Computes the attention weights; <c>forward</c> never stores them. Dropout is not applied.</summary>
    /// <inheritdoc cref="forward"/>
    /// <returns>
    /// (N, heads, L, S), each row summing to 1, or zero where a query may see no key; owned by the caller. PyTorch averages them
    /// over the heads unless told otherwise: <c>weights.mean([1])</c>.
    /// </returns>
    public Tensor Weights(Tensor query, Tensor key, Tensor? keyPaddingMask = null, Tensor? attentionMask = null)
    {
        CheckInputs(query, key, null, keyPaddingMask, attentionMask);
        using DisposeScope scope = NewDisposeScope();
        (Tensor? bias, Tensor? empty) = Mask(query, key, keyPaddingMask, attentionMask);
        Tensor weights = DotProduct.Weights(Project(query, 0), Project(key, 1), bias);
        return DotProduct.Emptied(weights, empty).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Multiply-accumulates of the three projections and the two products; the output projection counts itself.
    /// </summary>
    internal long MultiplyAccumulates(Tensor query, Tensor key, Tensor value)
    {
        long products = 2 * query.size(0) * query.size(1) * key.size(1) * Width;
        return ((query.numel() + key.numel() + value.numel()) * Width) + products;
    }

    /// <summary>Initializes all weights again.</summary>
    public void ResetParameters()
    {
        using IDisposable quiet = no_grad();
        foreach (Parameter? weight in new[] { _in, _queryWeight, _keyWeight, _valueWeight })
        {
            if (weight is not null) nn.init.xavier_uniform_(weight);
        }

        AttentionWeightsInitializer.Zero(_bias);
        double bound = 1 / Math.Sqrt(Width);
        nn.init.uniform_(_out.weight!, -bound, bound);
        AttentionWeightsInitializer.Zero(_out.bias);
    }

    /// <summary>A short line for printouts.</summary>
    public override string ToString() => $"{GetName()}({Width}, {Options})";

    ParameterPlace IPlaced.Place => _place;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _place.End();
        base.Dispose(disposing);
    }

    /// <summary>(N, heads, length, d): the queries (0), keys (1) or values (2) of a sequence.</summary>
    void ICountsFunctions.Count(FunctionCount count, Tensor[] inputs)
    {
        (Tensor query, Tensor key, Tensor value) = (inputs[0], inputs[1], inputs[2]);
        foreach (Tensor sequence in new[] { query, key, value })
        {
            long values = sequence.size(0) * sequence.size(1) * Width, weights = sequence.size(2) * Width;
            if (_bias is null) count.Product(values, sequence.numel(), weights);
            else count.Affine(values, sequence.numel(), weights, Width);
        }

        long width = Width / Options.Heads;
        DotProduct.CountContext(count, query.size(0) * Options.Heads, query.size(1), key.size(1), width, width, dense: true);
    }

    private Tensor Project(Tensor sequence, int part)
    {
        Tensor weight = _in is null
            ? (part == 0 ? _queryWeight! : part == 1 ? _keyWeight! : _valueWeight!)
            : _in.narrow(0, part * Width, Width);
        Tensor projected = nn.functional.linear(sequence, weight, _bias?.narrow(0, part * Width, Width));
        return projected.view(sequence.size(0), sequence.size(1), Options.Heads, Width / Options.Heads).transpose(1, 2);
    }

    /// <summary>
    /// What to add to the logits, (N or 1, heads or 1, L or 1, S), and which queries see no key; null for nothing.
    /// </summary>
    private (Tensor? Bias, Tensor? Empty) Mask(Tensor query, Tensor key, Tensor? padding, Tensor? attention)
    {
        if (padding is null && attention is null) return (null, null);
        Tensor? bias = padding is null ? null : DotProduct.Padding(padding, query.dtype);
        if (attention is not null)
        {
            Tensor hidden = DotProduct.Hidden(attention, query.dtype);
            Tensor shaped = hidden.dim() == 2
                ? hidden.view(1, 1, query.size(1), key.size(1))
                : hidden.view(-1, Options.Heads, query.size(1), key.size(1));
            bias = bias is null ? shaped : shaped.Plus(bias);
        }

        return DotProduct.Open(bias!);
    }

    private void CheckInputs(Tensor query, Tensor key, Tensor? value, Tensor? padding, Tensor? attention)
    {
        Sequence(query, Width, nameof(query));
        Sequence(key, _keyWidth, nameof(key));
        Same(key, key.size(1), nameof(key));
        if (value is not null)
        {
            Sequence(value, _valueWidth, nameof(value));
            Same(value, key.size(1), nameof(value));
        }

        if (padding is not null) DotProduct.CheckPadding(padding, query.size(0), key.size(1), GetName());

        if (attention is null) return;
        Check.Alive(attention, GetName(), "attentionMask");
        long[] each = [query.size(0) * Options.Heads, query.size(1), key.size(1)];
        bool fits = attention.shape.AsSpan().SequenceEqual(each) || attention.shape.AsSpan().SequenceEqual(each.AsSpan(1));
        if (!fits || !(attention.dtype == ScalarType.Bool || attention.is_floating_point()))
        {
            throw new ArgumentException(
                $"attentionMask is {attention.dtype} {Check.Shape(attention)}; it must be Bool or floating point, ({each[1]}, " +
                $"{each[2]}) or " +
                $"({each[0]}, {each[1]}, {each[2]}).", "attentionMask");
        }

        void Same(Tensor sequence, long length, string name)
        {
            if (sequence.size(0) != query.size(0) || sequence.size(1) != length)
            {
                throw new ArgumentException(
                    $"{name} has shape {Check.Shape(sequence)}; with a batch of {query.size(0)} queries and {length} keys it " +
                    "must start " +
                    $"with ({query.size(0)}, {length}).", name);
            }
        }
    }

    private void Sequence(Tensor sequence, int width, string name)
    {
        Check.Alive(sequence, GetName(), name);
        if (sequence.dim() != 3 || sequence.size(1) < 1 || sequence.size(2) != width || !sequence.is_floating_point())
        {
            throw new ArgumentException(
                $"{GetName()} takes floating-point sequences (N, length, {width}) here; " +
                $"{name} is {sequence.dtype} {Check.Shape(sequence)}.", name);
        }

        _place.Check(sequence, name);
    }
}
