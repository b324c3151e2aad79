using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A context: every position gets a weighted sum over positions, c(x). It is added to the input, y = x + c(x), or it replaces the
/// input, y = c(x). A subclass computes c.
/// </summary>
public abstract class ContextModule : AttentionModule
{
    private readonly bool _residual;

    /// <summary>
    /// Validates the settings; a subclass then creates its layers and calls <see cref="AttentionModule.Complete"/>.
    /// </summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">The settings.</param>
    /// <param name="residual">True to add the context to the input, false to let it replace the input.</param>
    /// <param name="ownsIdentityScale">False where the module has a scale of its own that starts at zero.</param>
    /// <exception cref="ArgumentException">
    /// A setting is out of range, or does not go with <paramref name="channels"/>.
    /// </exception>
    protected ContextModule(int channels, AttentionOptions options, bool residual, bool ownsIdentityScale = true)
        : base(channels, options, ownsIdentityScale) => _residual = residual;

    /// <summary>
    /// Computes the attention weights of an input, which <c>forward</c> does not return. Dropout is not applied. In training mode
    /// a module with batch norms also updates their running statistics, as in a forward pass.
    /// </summary>
    /// <param name="input">A feature map, (N, C, H, W).</param>
    /// <returns>
    /// (N, heads, L, L) with L = H · W, row-major positions, queries before keys, each row summing to 1, unless the module's
    /// documentation says otherwise; owned by the caller. Where a query sees a part of the map only, the rest of its row is zero.
    /// </returns>
    /// <exception cref="ArgumentException">The input's rank, channels or type do not fit.</exception>
    public Tensor Weights(Tensor input)
    {
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        return ComputeWeights(input).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Computes the context of a checked input. It runs in a dispose scope of the base class, which disposes intermediate
    /// tensors.
    /// </summary>
    /// <param name="input">A checked feature map, (N, C, H, W).</param>
    protected abstract Tensor ComputeContext(Tensor input);

    /// <summary>
    /// Computes the attention weights of a checked input. It runs in a dispose scope of the base class, which disposes
    /// intermediate tensors.
    /// </summary>
    /// <param name="input">A checked feature map, (N, C, H, W).</param>
    protected abstract Tensor ComputeWeights(Tensor input);

    /// <summary>
    /// Counts the functions of <see cref="ComputeContext"/>; returns the number of the context's values, 0 where nobody says.
    /// </summary>
    private protected virtual long CountContext(FunctionCount count, Tensor input) => 0;

    private protected sealed override void CountFunctions(FunctionCount count, Tensor input)
    {
        long values = input.numel(), context = CountContext(count, input);
        if (IdentityScale is null && !_residual) return;
        if (!_residual) count.Combine(values, context, values);
        long change = _residual && context > 0 ? context : values;
        if (StartsAsIdentity) IdentityStart.CountAdd(count, values, change, IdentityScale);
        else count.Combine(values, values, context);
    }

    /// <summary>Whether the context is added to the input, y = x + c(x); otherwise it replaces the input, y = c(x).</summary>
    public bool IsResidual => _residual;

    /// <inheritdoc/>
    protected sealed override Tensor Attend(Tensor input)
    {
        Tensor context = ComputeContext(input);
        if (training && Options.Dropout > 0) context = nn.functional.dropout(context, Options.Dropout, training: true);
        if (StartsAsIdentity) return IdentityStart.Add(input, _residual ? context : context.sub(input), IdentityScale);
        return _residual ? input.Plus(context) : context;
    }

    private bool StartsAsIdentity
        => IdentityScale is not null || (_residual && Options.Initialization == AttentionInitialization.Identity);
}
