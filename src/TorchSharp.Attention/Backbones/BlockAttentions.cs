using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The attentions inside one block of a network, registered with the block under the keys of their positions.</summary>
internal sealed class BlockAttentions
{
    // In order of the state dictionary.
    private static readonly (AttentionPosition Position, string Key)[] Keys =
    [
        (AttentionPosition.Before, "attn_before"),
        (AttentionPosition.AfterConv1, "attn_conv1"),
        (AttentionPosition.AfterConv2, "attn_conv2"),
        (AttentionPosition.AfterExpand, "attn_expand"),
        (AttentionPosition.AfterDepthwise, "attn_depthwise"),
        (AttentionPosition.BeforeAdd, "attn"),
        (AttentionPosition.Shortcut, "attn_shortcut"),
        (AttentionPosition.After, "attn_after"),
    ];

    private readonly Dictionary<AttentionPosition, nn.Module<Tensor, Tensor>> _attentions = [];

    /// <summary>Builds what the plan puts into the block. Call it after the block has registered its own layers.</summary>
    /// <param name="block">The block, which owns the attentions from then on.</param>
    /// <param name="placement">The resolved plan.</param>
    /// <param name="stage">Stage, from 1.</param>
    /// <param name="index">Block within the stage, from 0.</param>
    /// <param name="except">A position whose attention the block keeps itself, under a key of its own.</param>
    public BlockAttentions(nn.Module block, AttentionPlacement placement, int stage, int index, AttentionPosition? except = null)
    {
        foreach ((AttentionPosition position, string key) in Keys)
        {
            if (position == except) continue;
            if (placement.Create(position, stage, index) is not { } attention) continue;
            block.register_module(key, attention);
            _attentions.Add(position, attention);
        }
    }

    /// <summary>
    /// The map refined by the attention at a position; the map itself where there is none. A map that a layer of the block has
    /// just made is nobody else's and may be written over; the block's input, and with it the shortcut, is the caller's.
    /// </summary>
    public Tensor Refine(AttentionPosition position, Tensor map)
    {
        if (!_attentions.TryGetValue(position, out nn.Module<Tensor, Tensor>? attention)) return map;
        bool owned = position is not (AttentionPosition.Before or AttentionPosition.Shortcut);
        return owned ? RefineOwned(attention, map) : attention.call(map);
    }

    /// <summary>The map refined by an attention that may write over it, because a layer of the block has just made it.</summary>
    public static Tensor RefineOwned(nn.Module<Tensor, Tensor> attention, Tensor map)
        => attention is GateModule gate ? gate.RefineOwned(map) : attention.call(map);

    /// <summary>The key of a position's attention in its block.</summary>
    public static string KeyOf(AttentionPosition position) => Array.Find(Keys, entry => entry.Position == position).Key;

    /// <summary>Whether an attention stands at a position.</summary>
    public bool Has(AttentionPosition position) => _attentions.ContainsKey(position);

    /// <summary>max(attention(map) + shortcut, 0) in one pass over memory where the attention can; otherwise null.</summary>
    public Tensor? TryGateAddRelu(Tensor map, Tensor shortcut)
        => _attentions.TryGetValue(AttentionPosition.BeforeAdd, out nn.Module<Tensor, Tensor>? attention)
            && attention is GateModule gate
            ? gate.TryGateAddRelu(map, shortcut)
            : null;

    /// <summary>
    /// In training: the norm, the gate, the addition and the ReLU in one pass over <paramref name="input"/>; null where the norm
    /// must be called.
    /// </summary>
    public Tensor? TryGateAddRelu(Modules.BatchNorm2d norm, Tensor input, Tensor shortcut)
        => TryFuseAfterNorm(norm, input, shortcut);

    /// <summary>The normed map refined by the attention before the addition.</summary>
    public Tensor Refine(Modules.BatchNorm2d? norm, Tensor input)
        => (norm is null ? null : TryFuseAfterNorm(norm, input, null)) ?? Refine(AttentionPosition.BeforeAdd, norm.Norm(input));

    private Tensor? TryFuseAfterNorm(Modules.BatchNorm2d norm, Tensor input, Tensor? shortcut)
        => _attentions.TryGetValue(AttentionPosition.BeforeAdd, out nn.Module<Tensor, Tensor>? attention)
            && attention is GateModule gate
            ? gate.TryFuseAfterNorm(norm, input, shortcut)
            : null;
}
