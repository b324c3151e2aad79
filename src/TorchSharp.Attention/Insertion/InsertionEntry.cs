namespace TorchSharp.Attention;

/// <summary>One attention of an insertion.</summary>
/// <param name="Path">The submodule's path, as <c>named_modules</c> gives it.</param>
/// <param name="ModuleType">Name of the submodule's type.</param>
/// <param name="Side">The side of the submodule.</param>
/// <param name="Attention">The settings that are built: with the identity start unless the rule says otherwise.</param>
/// <param name="Key">Where the attention's weights are in the network's state dictionary: <c>layer3.0.conv2_attn</c>.</param>
/// <param name="Channels">Channels of the map.</param>
/// <param name="Parameters">Number of the attention's parameters.</param>
public sealed record InsertionEntry(
    string Path, string ModuleType, InsertionSide Side, AttentionOptions Attention, string Key, int Channels, long Parameters)
{
    /// <summary>
    /// Other paths of the same submodule, if a network contains it at several places. The attention acts at each call of the
    /// submodule.
    /// </summary>
    public ValueList<string> OtherPaths { get; init; } = [];

    /// <summary>How often the network called the submodule with the example; null without an example.</summary>
    public int? Calls { get; init; }

    /// <summary>Shape of the map at the first call with the example, (N, C, H, W); null without an example.</summary>
    public ValueList<long>? MapShape { get; init; }

    /// <summary>
    /// The attention's strict multiply-accumulates for the example, the batch and all calls included, counted as
    /// <see cref="ModelCost"/> does; null without an example.
    /// </summary>
    public long? MultiplyAccumulates { get; init; }

    /// <summary>
    /// Remarks on this insertion, as sentences: other attentions at the same place, or checks that were not possible with this
    /// network. Usually empty.
    /// </summary>
    public ValueList<string> Notes { get; init; } = [];
}
