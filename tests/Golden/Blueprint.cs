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

/// <summary>Which blueprint a case's <c>kind</c> and <c>source</c> ask for: one line per kind.</summary>
internal static class Blueprints
{
    private static readonly Dictionary<string, Func<GoldenCase, Blueprint>> Kinds = new(StringComparer.Ordinal)
    {
        ["se"] = golden => Blueprint.Of(golden, TimmAttentions.Se(golden.Arguments, golden.Channels()), KeyMap.Identity),
        ["eca"] = golden => Blueprint.Of(golden, TimmAttentions.Eca(golden.Arguments, golden.Channels(), ChannelPadding.Zeros), KeyMap.Identity),
        ["ceca"] = golden => Blueprint.Of(golden, TimmAttentions.Eca(golden.Arguments, golden.Channels(), ChannelPadding.Circular), KeyMap.Identity),
        ["cbam"] = Cbam,
        ["cbam channel"] = golden => Blueprint.Of(golden, ReleasedAttentions.CbamChannel(golden.Arguments), ReleasedAttentions.CbamChannelKeys),
        ["bam"] = golden => Blueprint.Of(golden, ReleasedAttentions.Bam(golden), KeyMaps.OfficialBam),
        ["attention gate"] = ReleasedAttentions.Gate,
        ["sk"] = TimmBranches.SelectiveKernel,
        ["splat"] = TimmBranches.SplitAttention,
        ["ese"] = golden => Blueprint.Of(golden, TimmAttentions.Ese(golden.Arguments), KeyMap.Identity),
        ["timm.ecam"] = golden => Blueprint.Of(golden, TimmAttentions.EcaMlp(golden), KeyMap.Identity),
        ["lcbam"] = golden => Blueprint.Of(golden, TimmAttentions.LightCbam(golden.Arguments, golden.Channels()), KeyMap.Identity),
        ["ge"] = golden => Blueprint.Of(golden, TimmAttentions.GatherExcite(golden), KeyMap.Identity),
        ["coord"] = golden => Blueprint.Of(golden, TimmAttentions.Coordinate(golden.Arguments, golden.Channels()), KeyMap.Identity),
        ["official.coordatt"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialCoordinate(golden), KeyMap.Identity),
        ["timm.scoord"] = golden => Blueprint.Of(golden, TimmAttentions.SimpleCoordinate(golden), KeyMap.Identity),
        ["timm.ela"] = golden => Blueprint.Of(golden, TimmAttentions.Local(golden), KeyMap.Identity),
        ["timm.strip"] = golden => Blueprint.Of(golden, TimmAttentions.Strip(golden), KeyMap.Identity),
        ["official.scse"] = golden => Blueprint.Of(golden, ReleasedAttentions.Scse(golden, ScseMerge.Maximum), KeyMaps.Scse),
        ["smp.scse"] = golden => Blueprint.Of(golden, ReleasedAttentions.Scse(golden, ScseMerge.Add), KeyMaps.Scse),
        ["official.gct_l1"] = golden => Blueprint.Of(golden, new GatedChannelTransformationOptions { Norm = GctNorm.L1 }, KeyMaps.OfficialGct),
        ["official.gct_l2"] = golden => Blueprint.Of(golden, GatedChannelTransformationOptions.Paper, KeyMaps.OfficialGct),
        ["official.srm"] = golden => Blueprint.Of(golden, StyleRecalibrationOptions.Official, KeyMap.Identity),
        ["triplet"] = golden => Blueprint.Of(golden, ReleasedAttentions.Triplet(golden.Arguments), KeyMap.Identity),
        ["ea.shuffle"] = golden => Blueprint.Of(golden, ReleasedAttentions.Shuffle(golden), KeyMap.Identity),
        ["official.lka"] = golden => Blueprint.Of(golden, ReleasedAttentions.LargeKernel(golden), KeyMap.Identity),
        ["simam"] = golden => Blueprint.Of(golden, ReleasedAttentions.SimAm(golden.Arguments), KeyMap.Identity),
        ["gc"] = golden => Blueprint.Of(golden, TimmAttentions.GlobalContext(golden.Arguments, golden.Channels()), KeyMap.Identity),
        ["gca"] = golden => Blueprint.Of(golden, TimmAttentions.GlobalContext(golden.Arguments, golden.Channels()), KeyMap.Identity),
        ["nl"] = golden => Blueprint.Of(golden, TimmAttentions.NonLocal(golden.Arguments, golden.Channels()), KeyMap.Identity),
        ["mha"] = ReleasedAttentions.MultiHead,
        ["mha cross"] = ReleasedAttentions.MultiHead,
        ["window"] = TimmAttentions.Window,
        ["official.pam"] = golden => Blueprint.Of(golden, ReleasedAttentions.Position(golden), KeyMap.Identity),
        ["official.cam"] = golden => Blueprint.Of(golden, ChannelSelfAttentionOptions.Official, KeyMap.Identity),
        ["ea.crisscross"] = golden => Blueprint.Of(golden, ReleasedAttentions.CrissCross(golden), KeyMap.Identity),
        ["timm.bat"] = golden => Blueprint.Of(golden, TimmAttentions.Bat(golden), KeyMap.Identity),
        ["timm.bottleneck"] = golden => Blueprint.Of(golden, TimmAttentions.Bottleneck(golden), KeyMap.Identity),
        ["timm.halo"] = golden => Blueprint.Of(golden, TimmAttentions.Halo(golden), KeyMap.Identity),
        ["timm.lambda"] = golden => Blueprint.Of(golden, TimmAttentions.Lambda(golden), KeyMap.Identity),
        ["network"] = Networks.Build,
        ["official.bam"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialBam(golden), KeyMaps.OfficialBam),
        ["official.cbam"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialCbam(golden), KeyMaps.OfficialCbam),
        ["official.simam"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialSimAm(golden), KeyMap.Identity),
        ["official.triplet"] = golden => Blueprint.Of(golden, TripletAttentionOptions.Paper, KeyMap.Identity),
        ["timm.gca"] = golden => Blueprint.Of(golden, TimmAttentions.GlobalContextAdded(golden), KeyMap.Identity),
        ["official.eca"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialEca(golden), KeyMap.Identity),
        ["official.senet"] = golden => Blueprint.Of(golden, ReleasedAttentions.OfficialSe(golden), KeyMaps.OfficialSeNet),
    };

    /// <exception cref="NotCoveredException">The library has no such module yet.</exception>
    /// <exception cref="InvalidDataException">An argument is not understood, or its value not supported.</exception>
    public static Blueprint For(GoldenCase golden)
    {
        // "timm.se" is "se" with timm's own defaults: its file has no arguments.
        const string Timm = "timm.";
        string kind = Kinds.ContainsKey(golden.Kind) || !golden.Kind.StartsWith(Timm, StringComparison.Ordinal) ? golden.Kind : golden.Kind[Timm.Length..];
        if (!Kinds.TryGetValue(kind, out Func<GoldenCase, Blueprint>? build))
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
            return Blueprint.Of(golden, TimmAttentions.Cbam(golden.Arguments, golden.Channels()), KeyMap.Identity);
        }

        return golden.Source.StartsWith("attention-module", StringComparison.Ordinal)
            ? Blueprint.Of(golden, ReleasedAttentions.Cbam(golden.Arguments), KeyMaps.OfficialCbam)
            : throw new InvalidDataException($"kind 'cbam' of source '{golden.Source}' is not known; known sources: timm, attention-module");
    }
}
