using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>One attention that is built and checked and waits to be put into its place.</summary>
internal sealed record PlannedInsertion(
    ModuleNode Node, AttentionModule Attention, InsertionEntry Entry, nn.Module? Host, string Name, bool NeedsGradient)
{
    /// <summary>Whether somebody keeps the maps that the attention replaces, as a dry pass has seen.</summary>
    public bool IsKept { get; init; }
}
