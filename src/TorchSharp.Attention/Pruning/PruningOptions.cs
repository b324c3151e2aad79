namespace TorchSharp.Attention;

/// <summary>Among which channels the lowest scores are looked for.</summary>
public enum PruningScope
{
    /// <summary>
    /// The scores of all groups are compared together, so some layers lose more channels than others. Each score is divided by
    /// the mean of its group, so that groups with different gates can be compared.
    /// </summary>
    Global,

    /// <summary>The scores are compared within each group, so all groups lose the same share.</summary>
    Group,
}

/// <summary>Which channels a plan may remove, as an immutable record.</summary>
public sealed record PruningOptions
{
    /// <summary>Among which channels the lowest scores are looked for. Default all groups together.</summary>
    public PruningScope Scope { get; init; }

    /// <summary>Number of channels that each group keeps at least. A group with fewer channels keeps all. Default 8.</summary>
    public int MinimumChannels { get; init; } = 8;

    /// <summary>
    /// The number of channels that a group keeps is rounded up to a multiple of this, but never above its current number.
    /// Multiples of 8 are often fastest. Default 1.
    /// </summary>
    public int RoundTo { get; init; } = 1;

    /// <summary>
    /// Which groups are pruned, by the name of the group or of a convolution. <c>*</c> matches any characters, also dots. Commas
    /// separate several patterns: <c>layer3.*, layer4</c>. Default: all.
    /// </summary>
    public string Groups { get; init; } = "*";

    /// <summary>Groups that keep all their channels, with patterns as in <see cref="Groups"/>. Default none.</summary>
    public string Exclude { get; init; } = "";

    /// <summary>
    /// Whether a ranking by gates may also remove channels without a gate, by their weights. Default false: they are kept. A
    /// ranking by weights ranks all channels anyway.
    /// </summary>
    public bool IncludeUngated { get; init; }

    internal void Validate()
    {
        Check.Defined(Scope);
        Check.Positive(MinimumChannels);
        Check.Positive(RoundTo);
    }
}
