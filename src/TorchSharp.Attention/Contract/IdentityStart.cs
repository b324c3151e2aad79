using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>What the bases of one and of two inputs do alike when a module is built.</summary>
internal static class IdentityStart
{
    /// <summary>The module's name: its options' without the suffix.</summary>
    public static string NameOf(AttentionOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.GetType().Name.Replace("Options", "", StringComparison.Ordinal);
    }

    /// <summary>The learnable scale of an identity start, 0 at step 0; null for other starts.</summary>
    public static Modules.Parameter? IdentityScale(AttentionOptions options)
        => options.Initialization == AttentionInitialization.Identity ? new Modules.Parameter(zeros(1)) : null;

    /// <summary>1 + alpha · (gate − 1).</summary>
    public static Tensor Blend(Tensor gate, Tensor? alpha)
        => alpha is null ? gate : gate.sub(Scalars.One).mul(alpha).Plus(Scalars.One);

    /// <summary>
    /// x + alpha · change, which for alpha = 0 is x to the last bit, also where x is a negative zero: x − (−alpha · change + 0).
    /// A sum with zero is a positive zero, and taking that away changes nothing; adding a zero of unknown sign could.
    /// </summary>
    /// <param name="input">x.</param>
    /// <param name="change">What is added; it broadcasts to x.</param>
    /// <param name="alpha">The scale; null for 1, where the change is zero at first by itself.</param>
    public static Tensor Add(Tensor input, Tensor change, Tensor? alpha)
        => input.sub((alpha is null ? change.neg() : change.mul(alpha.neg())).Plus_(Scalars.Zero));

    /// <summary>The functions of <see cref="Add"/>.</summary>
    public static void CountAdd(FunctionCount count, long input, long change, Tensor? alpha)
    {
        if (alpha is null)
        {
            count.Map(change);
        }
        else
        {
            count.Map(1);
            count.Combine(change, change, 1);
        }

        count.Map(change, inPlace: true);
        count.Combine(input, input, change);
    }

    /// <summary>The functions of <see cref="Blend"/>.</summary>
    public static void CountBlend(FunctionCount count, long gate, Tensor? alpha)
    {
        if (alpha is null) return;
        count.Map(gate);
        count.Combine(gate, gate, 1);
        count.Map(gate);
    }

    /// <summary>Takes registered components into the module's keeping and starts them as the options say.</summary>
    public static void Complete(nn.Module module, AttentionOptions options, Action reset)
    {
        Keep(module);
        if (options.Initialization is not (AttentionInitialization.Default or AttentionInitialization.Identity)) reset();
    }

    /// <summary>Parameters and buffers must outlive whatever dispose scope the caller happened to build the module in.</summary>
    public static void Keep(nn.Module module)
    {
        foreach ((string _, Modules.Parameter parameter) in module.named_parameters()) parameter.DetachFromDisposeScope();
        foreach ((string _, Tensor buffer) in module.named_buffers()) buffer.DetachFromDisposeScope();
    }
}
