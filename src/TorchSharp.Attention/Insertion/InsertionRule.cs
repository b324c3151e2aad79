using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Which attention is inserted, on which side of which submodules of a network: those that satisfy all
/// of name, type and predicate. A value.
/// </summary>
/// <param name="Attention">The attention's settings.</param>
public sealed record InsertionRule(AttentionOptions Attention)
{
    /// <summary>The attention's settings. Kinds that replace a convolution, or that a second map steers, are refused.</summary>
    public AttentionOptions Attention { get; init; } = Insertable(Attention);

    /// <summary>The side of the submodule. Default <see cref="InsertionSide.After"/>.</summary>
    public InsertionSide Side { get; init; }

    /// <summary>
    /// Pattern for the submodule's path, as <c>named_modules</c> gives it. <c>*</c> stands for any characters but a dot, <c>?</c>
    /// for one, <c>**</c> for any number of levels, none among them: <c>layer3.*.conv2</c>, <c>**.bn</c>. Default null: any path.
    /// </summary>
    public string? Name { get; init; }

    /// <summary>Type of the submodule, or a base of it. Default null: any type.</summary>
    public Type? ModuleType { get; init; }

    /// <summary>A further condition on path and submodule. Default null: none.</summary>
    public Func<string, nn.Module, bool>? Predicate { get; init; }

    /// <summary>
    /// True (the default): the attention starts as <see cref="AttentionInitialization.Identity"/>, whatever its settings say, so
    /// that the network's outputs stay what they are to the last bit. False: it starts as its settings say.
    /// </summary>
    public bool IdentityStart { get; init; } = true;

    /// <summary>
    /// True (the default): an insertion with an example is refused where no gradient from the network's outputs would reach
    /// the attention, such as in a part that runs under <c>no_grad</c>. False: it is allowed, for inference with trained
    /// weights or for a loss beside the outputs.
    /// </summary>
    public bool NeedsGradient { get; init; } = true;

    /// <summary>True where the rule chooses the submodule.</summary>
    /// <param name="path">The submodule's path.</param>
    /// <param name="module">The submodule.</param>
    /// <exception cref="ArgumentException"><see cref="Name"/> is empty or has an empty level.</exception>
    public bool Matches(string path, nn.Module module)
    {
        ArgumentNullException.ThrowIfNull(path);
        ArgumentNullException.ThrowIfNull(module);
        return (Name is null || ModuleGlob.Of(Name).IsMatch(path))
            && (ModuleType is null || ModuleType.IsInstanceOfType(module))
            && (Predicate is null || Predicate(path, module));
    }

    /// <summary>In one line: <c>cbam after 'layer3.*.conv2'</c>.</summary>
    public override string ToString() =>
        $"{Attention.Kind()} {(Side == InsertionSide.After ? "after" : "before")} " +
        string.Join(", ", new[]
        {
            Name is null ? null : $"'{Name}'",
            ModuleType is null ? null : $"every {ModuleType.Name}",
            Predicate is null ? null : "where a predicate holds",
        }.Where(part => part is not null).DefaultIfEmpty("everything"));

    /// <summary>The settings that are built: with the identity start unless the rule says otherwise.</summary>
    internal AttentionOptions Effective() =>
        IdentityStart && Attention.Initialization != AttentionInitialization.Identity
            ? Attention with { Initialization = AttentionInitialization.Identity }
            : Attention;

    private static AttentionOptions Insertable(AttentionOptions attention)
    {
        ArgumentNullException.ThrowIfNull(attention);
        return attention switch
        {
            BranchAttentionOptions => throw new ArgumentException(
                $"'{attention.Kind()}' replaces a convolution and has no identity start; " +
                "it cannot be inserted beside a submodule. Place it at " +
                $"{nameof(AttentionPosition.ReplaceSpatialConv)} of a " +
                $"{BackboneCatalog.With(AttentionPosition.ReplaceSpatialConv)} with an {nameof(AttentionPlan)}.",
                nameof(attention)),
            GuidedAttentionOptions => throw new ArgumentException(
                $"'{attention.Kind()}' is steered by a second map, which nothing hands over beside a submodule. Place it at " +
                $"{nameof(AttentionPosition.Skip)} of a {nameof(UNet)} with an {nameof(AttentionPlan)}.", nameof(attention)),
            _ => attention,
        };
    }
}
