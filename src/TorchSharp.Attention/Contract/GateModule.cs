using TorchSharp.Attention.Kernels;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A gate: y = x · g(x), where g broadcasts to x. A subclass computes only g. The base class applies it, with the identity start,
/// dropout and recording.
/// </summary>
public abstract class GateModule : AttentionModule
{
    /// <inheritdoc cref="AttentionModule(int, AttentionOptions, bool)"/>
    protected GateModule(int channels, AttentionOptions options, bool ownsIdentityScale = true)
        : base(channels, options, ownsIdentityScale)
    {
    }

    /// <summary>
    /// Computes the gate: the factor that <c>forward</c> multiplies the input by. It includes the identity start, but neither
    /// dropout nor stochastic drop. In training mode it updates running statistics, as in a forward pass.
    /// </summary>
    /// <param name="input">A feature map, (N, C, H, W).</param>
    /// <returns>A tensor that broadcasts to the input, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The input's rank, channels or type do not fit.</exception>
    public Tensor Gate(Tensor input)
    {
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        return EffectiveGate(input).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Computes the gate of a checked input, which broadcasts to the input. It runs in a dispose scope of the base class, which
    /// disposes intermediate tensors.
    /// </summary>
    /// <param name="input">A checked feature map, (N, C, H, W).</param>
    protected abstract Tensor ComputeGate(Tensor input);

    /// <inheritdoc/>
    protected override Tensor Attend(Tensor input) => DropElements(TryFuse(input) ?? AttendComposed(input));

    /// <summary>The refined map by libtorch's operations.</summary>
    private protected virtual Tensor AttendComposed(Tensor input) => input.mul(EffectiveGate(input));

    /// <summary>The refined map by libtorch's operations, for a comparison.</summary>
    internal Tensor Composed(Tensor input) => AttendComposed(input);

    /// <summary>
    /// The only call from the contract into the kernels: the refined map of a gate that implements <see cref="IFusableGate"/>, or
    /// null where the composed operations must run. With a norm, in training, the map that is refined is norm(input). With a
    /// residual, the result is max(refined + residual, 0).
    /// </summary>
    private Tensor? TryFuse(Tensor input, Tensor? residual = null, Modules.BatchNorm2d? norm = null, bool overwrite = false)
        => FusedGate.TryRun(this, input, overwrite, residual, norm);

    /// <summary>Refines a map that is nobody else's: in inference it may be written over. Otherwise the same as a call.</summary>
    internal Tensor RefineOwned(Tensor input) => TryOwned(input, residual: null) ?? call(input);

    /// <summary>
    /// The end of a residual block, max(refined + residual, 0), in one pass over a map that is nobody else's, which inference
    /// writes over; null where it takes several.
    /// </summary>
    internal Tensor? TryGateAddRelu(Tensor input, Tensor residual)
    {
        if (!training && !is_grad_enabled()) return TryOwned(input, residual);
        if (HasHooks || (training && Options is not { Dropout: 0, AttentionDropPath: 0 })) return null;
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        return TryFuse(input, residual)?.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// In training: relu(gate(norm(input)) + residual) without writing the norm's output to memory, or gate(norm(input)) if
    /// <paramref name="residual"/> is null. Returns null where this fusion does not apply; the caller then runs the norm itself.
    /// </summary>
    internal Tensor? TryFuseAfterNorm(Modules.BatchNorm2d norm, Tensor input, Tensor? residual)
    {
        if (HasHooks || !norm.training || !is_grad_enabled() || (training && Options is not { Dropout: 0, AttentionDropPath: 0 }))
        {
            return null;
        }

        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        return TryFuse(input, residual, norm)?.MoveToOuterDisposeScope();
    }

    private Tensor? TryOwned(Tensor input, Tensor? residual)
    {
        if (training || HasHooks || is_grad_enabled()) return null;
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        Tensor? output = TryFuse(input, residual, overwrite: true);
        return (ReferenceEquals(output, input) ? input.alias() : output)?.MoveToOuterDisposeScope();
    }

    /// <summary>Applies <see cref="AttentionOptions.Dropout"/> in training.</summary>
    /// <param name="refined">The refined map.</param>
    protected Tensor DropElements(Tensor refined)
        => training && Options.Dropout > 0 ? nn.functional.dropout(refined, Options.Dropout, training: true) : refined;

    internal Tensor EffectiveGate(Tensor input) => IdentityStart.Blend(ComputeGate(input), IdentityScale);

    /// <summary>
    /// Counts the functions of <see cref="ComputeGate"/>; returns the number of the gate's values, 0 where nobody says.
    /// </summary>
    private protected virtual long CountGate(FunctionCount count, Tensor input) => 0;

    /// <summary>Counts the functions of the gate together with the blend of the identity initialization.</summary>
    internal long CountEffectiveGate(FunctionCount count, Tensor input)
    {
        long gate = CountGate(count, input);
        IdentityStart.CountBlend(count, gate, IdentityScale);
        return gate;
    }

    private protected override void CountFunctions(FunctionCount count, Tensor input)
        => count.Combine(input.numel(), input.numel(), CountEffectiveGate(count, input));
}
