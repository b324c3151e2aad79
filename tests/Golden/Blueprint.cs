using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>How to build what a case names, and how its state is called there.</summary>
/// <param name="Create">Builds the module or network.</param>
/// <param name="Keys">The reference's names as ours.</param>
/// <param name="IsNetwork">Whether it is a whole network: its rounding errors add up.</param>
/// <param name="Forward">How to run it on x and x1 where it is not simply called; null for a call.</param>
internal sealed record Blueprint(
    Func<nn.Module> Create, KeyMap Keys, bool IsNetwork = false, Func<nn.Module, Tensor, Tensor?, Tensor>? Forward = null)
{
    /// <summary>A module on feature maps of as many channels as the case's input has.</summary>
    public static Blueprint Of(GoldenCase golden, AttentionOptions options, KeyMap keys)
    {
        int channels = golden.Channels();
        return new Blueprint(() => options.Create(channels), keys);
    }
}

/// <summary>Which blueprint a case's <c>kind</c> and <c>source</c> ask for: one line a kind.</summary>
internal static class Blueprints
{
    private static readonly Dictionary<string, Func<GoldenCase, Blueprint>> Kinds = new(StringComparer.Ordinal)
    {
        ["se"] = golden => Blueprint.Of(golden, TimmAttentions.Se(golden.Arguments, golden.Channels()), KeyMap.Same),
        ["eca"] = golden => Blueprint.Of(golden, TimmAttentions.Eca(golden.Arguments, ChannelPadding.Zeros), KeyMap.Same),
        ["ceca"] = golden => Blueprint.Of(golden, TimmAttentions.Eca(golden.Arguments, ChannelPadding.Circular), KeyMap.Same),
        ["cbam"] = Cbam,
        ["cbam channel"] = golden => Blueprint.Of(golden, ReleasedAttentions.CbamChannel(golden.Arguments), ReleasedAttentions.CbamChannelKeys),
        ["bam"] = golden => Blueprint.Of(golden, ReleasedAttentions.Bam(golden), ReleasedAttentions.BamKeys),
        ["attention gate"] = ReleasedAttentions.Gate,
        ["gc"] = golden => Blueprint.Of(golden, TimmAttentions.GlobalContext(golden.Arguments, golden.Channels()), KeyMap.Same),
        ["gca"] = golden => Blueprint.Of(golden, TimmAttentions.GlobalContext(golden.Arguments, golden.Channels()), KeyMap.Same),
        ["nl"] = golden => Blueprint.Of(golden, TimmAttentions.NonLocal(golden.Arguments, golden.Channels()), KeyMap.Same),
        ["mha"] = ReleasedAttentions.MultiHead,
        ["mha cross"] = ReleasedAttentions.MultiHead,
        ["window"] = TimmAttentions.Window,
        ["network"] = Networks.Build,
        ["official.eca"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialEca(golden), KeyMap.Same),
        ["official.pam"] = golden => Blueprint.Of(golden, ReleasedAttentions.Position(golden), KeyMap.Same),
        ["official.cam"] = golden => Blueprint.Of(golden, ChannelSelfAttentionOptions.Official, KeyMap.Same),
        ["ea.crisscross"] = golden => Blueprint.Of(golden, ReleasedAttentions.CrissCross(golden), KeyMap.Same),
        ["timm.bat"] = golden => Blueprint.Of(golden, TimmAttentions.Bat(golden), KeyMap.Same),
        ["timm.bottleneck"] = golden => Blueprint.Of(golden, TimmAttentions.Bottleneck(golden), KeyMap.Same),
        ["timm.halo"] = golden => Blueprint.Of(golden, TimmAttentions.Halo(golden), KeyMap.Same),
        ["timm.lambda"] = golden => Blueprint.Of(golden, TimmAttentions.Lambda(golden), KeyMap.Same),
        ["official.senet"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialSe(golden), ReleasedAttentions.SeKeys),
    };

    /// <exception cref="NotCoveredException">The library has no such module yet.</exception>
    /// <exception cref="InvalidDataException">An argument is not understood, or its value not supported.</exception>
    public static Blueprint For(GoldenCase golden)
    {
        if (!Kinds.TryGetValue(golden.Kind, out Func<GoldenCase, Blueprint>? build))
        {
            throw new NotCoveredException($"kind '{golden.Kind}' has no module yet");
        }

        Blueprint blueprint = build(golden);
        golden.Arguments.RejectUnread();
        return blueprint;
    }

    private static Blueprint Cbam(GoldenCase golden)
    {
        if (golden.Source.StartsWith("timm", StringComparison.Ordinal))
        {
            return Blueprint.Of(golden, TimmAttentions.Cbam(golden.Arguments, golden.Channels()), KeyMap.Same);
        }

        return golden.Source.StartsWith("attention-module", StringComparison.Ordinal)
            ? Blueprint.Of(golden, ReleasedAttentions.Cbam(golden.Arguments), ReleasedAttentions.CbamKeys)
            : throw new InvalidDataException($"kind 'cbam' of source '{golden.Source}' is not known; known sources: timm, attention-module");
    }
}
