namespace TorchSharp.Attention;

/// <summary>Among which channels the lowest scores are looked for.</summary>
public enum PruningScope
{
    /// <summary>
    /// Among all groups together: layers lose more or less. A score counts as a multiple of its group's mean, so
    /// that groups of different gates compare.
    /// </summary>
    Global,

    /// <summary>In each group by itself: all lose the same share.</summary>
    Group,
}

/// <summary>Which channels a plan may remove. A value.</summary>
public sealed record PruningOptions
{
    /// <summary>Among which channels the lowest scores are looked for. Default all groups together.</summary>
    public PruningScope Scope { get; init; }

    /// <summary>Channels that each group keeps at least; a group that has fewer keeps all. Default 8.</summary>
    public int MinimumChannels { get; init; } = 8;

    /// <summary>
    /// What is left of a group is rounded up to a multiple of this, never beyond what it had;
    /// hardware likes multiples of 8. Default 1.
    /// </summary>
    public int RoundTo { get; init; } = 1;

    /// <summary>
    /// Which groups, by their name or a convolution's: <c>*</c> stands for any characters, dots among them, and commas part
    /// several patterns, as in <c>layer3.*, layer4</c>. Default: all.
    /// </summary>
    public string Groups { get; init; } = "*";

    /// <summary>Groups that keep all their channels; patterns as in <see cref="Groups"/>. Default none.</summary>
    public string Exclude { get; init; } = "";

    /// <summary>
    /// Whether a ranking by gates may also remove channels that no gate sees, by their weights. Default false: they stay. A
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
