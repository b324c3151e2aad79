using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Which attention is inserted, and on which side of which submodules of a network: those that match name, type and predicate. An
/// immutable record.
/// </summary>
/// <param name="Attention">The attention's settings.</param>
public sealed record InsertionRule(AttentionOptions Attention)
{
    /// <summary>Settings of the attention. Kinds that replace a convolution or need a guide cannot be inserted.</summary>
    public AttentionOptions Attention { get; init; } = Insertable(Attention);

    /// <summary>The side of the submodule. Default <see cref="InsertionSide.After"/>.</summary>
    public InsertionSide Side { get; init; }

    /// <summary>
    /// Pattern for the path of the submodule, as in <c>named_modules</c>. <c>*</c> matches any characters except a dot, <c>?</c>
    /// matches one such character, and <c>**</c> matches any number of levels, also none: <c>layer3.*.conv2</c>, <c>**.bn</c>.
    /// Default null: any path.
    /// </summary>
    public string? Name { get; init; }

    /// <summary>Type of the submodule, or a base class of it. Default null: any type.</summary>
    public Type? ModuleType { get; init; }

    /// <summary>An additional condition on path and submodule. Default null: none.</summary>
    public Func<string, nn.Module, bool>? Predicate { get; init; }

    /// <summary>
    /// Whether the attention starts as <see cref="AttentionInitialization.Identity"/>, whatever its settings say, so that the
    /// outputs of the network stay bit-identical. Default true. False: it starts as its settings say.
    /// </summary>
    public bool IdentityStart { get; init; } = true;

    /// <summary>
    /// Whether an insertion with an example fails if no gradient from the outputs of the network would reach the attention, such
    /// as in a part that runs under <c>no_grad</c>. Default true. False allows it, for inference with trained weights or for a
    /// loss that does not depend on the outputs.
    /// </summary>
    public bool NeedsGradient { get; init; } = true;

    /// <summary>Whether the rule matches the submodule.</summary>
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

    /// <summary>Formats the rule in one line: <c>cbam after 'layer3.*.conv2'</c>.</summary>
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
