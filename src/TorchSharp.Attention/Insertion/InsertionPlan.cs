using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>On which side of a submodule an attention is inserted.</summary>
public enum InsertionSide
{
    /// <summary>The attention refines the output of the submodule.</summary>
    After,

    /// <summary>The attention refines the input of the submodule.</summary>
    Before,
}

/// <summary>
/// Which attention is inserted before or after which submodules of an existing network, as an immutable value:
/// <c>InsertionPlan.After("layer3.*.conv2", new CbamOptions())</c>. If several rules match one place, their attentions act in the
/// order of the rules.
/// </summary>
/// <remarks>
/// <see cref="InsertionExtensions.InsertAttention"/> applies it; <see cref="DryRun"/> says what that would do. For networks that
/// are still to be built by this library there is <see cref="AttentionPlan"/>, which also reaches places that are not modules.
/// </remarks>
public sealed record InsertionPlan
{
    /// <summary>A plan of the given rules.</summary>
    /// <param name="rules">The rules, in order; at least one.</param>
    /// <exception cref="ArgumentException">There is no rule, or a name pattern is empty.</exception>
    public InsertionPlan(IEnumerable<InsertionRule> rules)
    {
        ArgumentNullException.ThrowIfNull(rules);
        Rules = new ValueList<InsertionRule>([.. rules]);
        if (Rules.Count == 0) throw new ArgumentException("The plan has no rule; give at least one.", nameof(rules));
        foreach (InsertionRule rule in Rules)
        {
            ArgumentNullException.ThrowIfNull(rule, nameof(rules));
            Check.Defined(rule.Side, nameof(InsertionRule.Side));
            if (rule.Name is not null) _ = ModuleGlob.Of(rule.Name);
        }
    }

    /// <summary>The rules, in order.</summary>
    public ValueList<InsertionRule> Rules { get; }

    /// <summary>
    /// Whether the batch norms of the network check their input as long as the attentions are in it. In training they then reject
    /// a map with a single value per channel, such as 1 × 1 positions of one image, with an <see cref="ArgumentException"/>, as
    /// in PyTorch. TorchSharp itself does not throw. It writes NaN into the running variance, which becomes visible in
    /// evaluation. The norm that throws stays unchanged, but norms before it in the same forward pass have already counted the
    /// batch. Default false.
    /// </summary>
    /// <remarks>
    /// The library's networks and attentions need no guard: the former refuse such a batch by themselves, the latter work on it.
    /// </remarks>
    public bool GuardBatchNorms { get; init; }

    /// <summary>A plan of one rule: an attention after every submodule whose path matches.</summary>
    /// <param name="name">The pattern, see <see cref="InsertionRule.Name"/>.</param>
    /// <param name="attention">The attention's settings.</param>
    /// <exception cref="ArgumentException">The pattern is empty, or the kind cannot be inserted.</exception>
    public static InsertionPlan After(string name, AttentionOptions attention)
        => new([Named(InsertionSide.After, name, attention)]);

    /// <summary>A plan of one rule: an attention after every submodule of a type.</summary>
    /// <typeparam name="TModule">The submodules' type.</typeparam>
    /// <param name="attention">The attention's settings.</param>
    /// <exception cref="ArgumentException">The kind cannot be inserted.</exception>
    public static InsertionPlan After<TModule>(AttentionOptions attention)
        where TModule : nn.Module
        => new([Typed<TModule>(InsertionSide.After, attention)]);

    /// <summary>A plan of one rule: an attention after every submodule that satisfies a condition.</summary>
    /// <param name="predicate">The condition on path and submodule.</param>
    /// <param name="attention">The attention's settings.</param>
    /// <exception cref="ArgumentException">The kind cannot be inserted.</exception>
    public static InsertionPlan After(Func<string, nn.Module, bool> predicate, AttentionOptions attention)
        => new([Chosen(InsertionSide.After, predicate, attention)]);

    /// <summary>A plan of one rule: an attention before every submodule whose path matches.</summary>
    /// <param name="name">The pattern, see <see cref="InsertionRule.Name"/>.</param>
    /// <param name="attention">The attention's settings.</param>
    /// <exception cref="ArgumentException">The pattern is empty, or the kind cannot be inserted.</exception>
    public static InsertionPlan Before(string name, AttentionOptions attention)
        => new([Named(InsertionSide.Before, name, attention)]);

    /// <summary>A plan of one rule: an attention before every submodule of a type.</summary>
    /// <typeparam name="TModule">The submodules' type.</typeparam>
    /// <param name="attention">The attention's settings.</param>
    /// <exception cref="ArgumentException">The kind cannot be inserted.</exception>
    public static InsertionPlan Before<TModule>(AttentionOptions attention)
        where TModule : nn.Module
        => new([Typed<TModule>(InsertionSide.Before, attention)]);

    /// <summary>A plan of one rule: an attention before every submodule that satisfies a condition.</summary>
    /// <param name="predicate">The condition on path and submodule.</param>
    /// <param name="attention">The attention's settings.</param>
    /// <exception cref="ArgumentException">The kind cannot be inserted.</exception>
    public static InsertionPlan Before(Func<string, nn.Module, bool> predicate, AttentionOptions attention)
        => new([Chosen(InsertionSide.Before, predicate, attention)]);

    /// <summary>This plan and one more rule, as <see cref="After(string, AttentionOptions)"/>.</summary>
    /// <param name="name">The pattern, see <see cref="InsertionRule.Name"/>.</param>
    /// <param name="attention">The attention's settings.</param>
    public InsertionPlan AddAfter(string name, AttentionOptions attention) => And(Named(InsertionSide.After, name, attention));

    /// <summary>This plan and one more rule, as <see cref="After{TModule}(AttentionOptions)"/>.</summary>
    /// <typeparam name="TModule">The submodules' type.</typeparam>
    /// <param name="attention">The attention's settings.</param>
    public InsertionPlan AddAfter<TModule>(AttentionOptions attention)
        where TModule : nn.Module
        => And(Typed<TModule>(InsertionSide.After, attention));

    /// <summary>This plan and one more rule, as <see cref="After(Func{string, nn.Module, bool}, AttentionOptions)"/>.</summary>
    /// <param name="predicate">The condition on path and submodule.</param>
    /// <param name="attention">The attention's settings.</param>
    public InsertionPlan AddAfter(Func<string, nn.Module, bool> predicate, AttentionOptions attention)
        => And(Chosen(InsertionSide.After, predicate, attention));

    /// <summary>This plan and one more rule, as <see cref="Before(string, AttentionOptions)"/>.</summary>
    /// <param name="name">The pattern, see <see cref="InsertionRule.Name"/>.</param>
    /// <param name="attention">The attention's settings.</param>
    public InsertionPlan AddBefore(string name, AttentionOptions attention) => And(Named(InsertionSide.Before, name, attention));

    /// <summary>This plan and one more rule, as <see cref="Before{TModule}(AttentionOptions)"/>.</summary>
    /// <typeparam name="TModule">The submodules' type.</typeparam>
    /// <param name="attention">The attention's settings.</param>
    public InsertionPlan AddBefore<TModule>(AttentionOptions attention)
        where TModule : nn.Module
        => And(Typed<TModule>(InsertionSide.Before, attention));

    /// <summary>This plan and one more rule, as <see cref="Before(Func{string, nn.Module, bool}, AttentionOptions)"/>.</summary>
    /// <param name="predicate">The condition on path and submodule.</param>
    /// <param name="attention">The attention's settings.</param>
    public InsertionPlan AddBefore(Func<string, nn.Module, bool> predicate, AttentionOptions attention)
        => And(Chosen(InsertionSide.Before, predicate, attention));

    /// <summary>Restricts the last rule to submodules that satisfy a condition; several conditions must all hold.</summary>
    /// <param name="predicate">The condition on path and submodule.</param>
    public InsertionPlan Where(Func<string, nn.Module, bool> predicate)
    {
        ArgumentNullException.ThrowIfNull(predicate);
        return ChangeLast(rule => rule with
        {
            Predicate = rule.Predicate is { } before
                ? (path, module) => before(path, module) && predicate(path, module)
                : predicate,
        });
    }

    /// <summary>
    /// Lets the attention of the last rule start as its own settings say, not as the identity. This changes the network's
    /// outputs.
    /// </summary>
    public InsertionPlan WithoutIdentityStart() => ChangeLast(rule => rule with { IdentityStart = false });

    /// <summary>
    /// Allows the attention of the last rule to get no gradient from the outputs of the network. Use it for inference with
    /// trained weights, or for a loss that does not depend on the outputs.
    /// </summary>
    public InsertionPlan WithoutGradient() => ChangeLast(rule => rule with { NeedsGradient = false });

    /// <summary>
    /// Reports what <see cref="InsertionExtensions.InsertAttention"/> would do, or throws the exception that it would throw. The
    /// network is not changed.
    /// </summary>
    /// <param name="model">The network.</param>
    /// <param name="example">
    /// The network's inputs for dry passes, as <see cref="InsertionExtensions.InsertAttention"/> makes them; modes, running
    /// statistics, random state, gradients and the example itself stay as they are. Without one, widths are read from the
    /// submodules' weights and multiply-accumulates are not counted.
    /// </param>
    /// <exception cref="ArgumentException">As with <see cref="InsertionExtensions.InsertAttention"/>.</exception>
    public InsertionReport DryRun(nn.Module model, params Tensor[] example)
    {
        using IDisposable? normal = InsertionExtensions.OutsideInferenceMode();
        using RandomStateScope kept = new();
        using InsertionResolver resolution = new(model, this, example);
        return resolution.Report();
    }

    /// <inheritdoc/>
    public override string ToString() => string.Join("; ", Rules);

    private InsertionPlan And(InsertionRule rule) => new([.. Rules, rule]) { GuardBatchNorms = GuardBatchNorms };

    private InsertionPlan ChangeLast(Func<InsertionRule, InsertionRule> change)
        => new([.. Rules.SkipLast(1), change(Rules[^1])]) { GuardBatchNorms = GuardBatchNorms };

    private static InsertionRule Named(InsertionSide side, string name, AttentionOptions attention)
    {
        ArgumentNullException.ThrowIfNull(name);
        return new InsertionRule(attention) { Side = side, Name = name };
    }

    private static InsertionRule Typed<TModule>(InsertionSide side, AttentionOptions attention)
        => new(attention) { Side = side, ModuleType = typeof(TModule) };

    private static InsertionRule Chosen(InsertionSide side, Func<string, nn.Module, bool> predicate, AttentionOptions attention)
    {
        ArgumentNullException.ThrowIfNull(predicate);
        return new InsertionRule(attention) { Side = side, Predicate = predicate };
    }
}
