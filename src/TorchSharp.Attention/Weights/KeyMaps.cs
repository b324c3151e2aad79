namespace TorchSharp.Attention;

/// <summary>
/// Key maps from the names in published weights to the names in this library. Each works for a whole network and for a single
/// module. They can be composed: <c>KeyMaps.DataParallel.Then(KeyMaps.OfficialCbam)</c>.
/// </summary>
/// <remarks>torchvision's networks need none: the names are the same.</remarks>
public static class KeyMaps
{
    /// <summary>
    /// For weights saved with <c>nn.DataParallel</c> or <c>DistributedDataParallel</c>. Removes the prefix <c>module.</c>
    /// </summary>
    public static KeyMap DataParallel { get; } = KeyMap.Prefix("module.", "");

    /// <summary>
    /// For timm's ResNet with any attention: <c>layer1.0.se.…</c> becomes <c>layer1.0.attn.…</c>, whatever the kind of attention.
    /// </summary>
    public static KeyMap TimmResNet { get; } = Block("se");

    /// <summary>
    /// senet.pytorch: <c>layer1.0.se.fc.0</c> and <c>fc.2</c>, linear layers, are
    /// <c>layer1.0.attn.fc1</c> and <c>fc2</c>, 1×1 convolutions.
    /// </summary>
    public static KeyMap OfficialSeNet { get; } = Block("se").Then(new KeyMap(
        At(@"fc\.0\.", "fc1.", KeyReshape.LinearToConvolution),
        At(@"fc\.2\.", "fc2.", KeyReshape.LinearToConvolution)));

    /// <summary>
    /// attention-module, CBAM: <c>layer1.0.cbam.ChannelGate.mlp.1</c> and <c>.3</c>, linear layers, are
    /// <c>layer1.0.attn.channel.fc1</c> and <c>fc2</c>; <c>SpatialGate.spatial</c> is <c>spatial.conv</c>.
    /// </summary>
    public static KeyMap OfficialCbam { get; } = Block("cbam").Then(new KeyMap(
        At(@"ChannelGate\.mlp\.1\.", "channel.fc1.", KeyReshape.LinearToConvolution),
        At(@"ChannelGate\.mlp\.3\.", "channel.fc2.", KeyReshape.LinearToConvolution),
        At(@"SpatialGate\.spatial\.", "spatial.conv.")));

    /// <summary>
    /// attention-module, BAM: <c>bam1.…</c> is <c>layer1_attn.…</c>; <c>channel_att.gate_c.…</c> and <c>spatial_att.gate_s.…</c>
    /// become <c>channel.…</c> and <c>spatial.…</c>, linear layers 1×1 convolutions.
    /// </summary>
    public static KeyMap OfficialBam { get; } = new KeyMap(
        new KeyRule(@"^bam(?<stage>\d+)\.", "layer${stage}_attn.")).Then(new KeyMap(
        At(@"channel_att\.gate_c\.gate_c_fc_0\.", "channel.fc1.", KeyReshape.LinearToConvolution),
        At(@"channel_att\.gate_c\.gate_c_bn_1\.", "channel.bn."),
        At(@"channel_att\.gate_c\.gate_c_fc_final\.", "channel.fc2.", KeyReshape.LinearToConvolution),
        At(@"spatial_att\.gate_s\.gate_s_(?<layer>conv|bn)_reduce0\.", "spatial.reduce.${layer}."),
        At(@"spatial_att\.gate_s\.gate_s_(?<layer>conv|bn)_di_(?<i>\d+)\.", "spatial.dilated.${i}.${layer}."),
        At(@"spatial_att\.gate_s\.gate_s_conv_final\.", "spatial.final.")));

    /// <summary>
    /// ECANet: <c>layer1.0.eca.conv</c> is <c>layer1.0.attn.conv</c>; in its MobileNetV2 <c>features.2.conv.4.conv</c>, the last
    /// of a block, is <c>features.2.attn.conv</c>.
    /// </summary>
    public static KeyMap OfficialEca { get; } = Block("eca").Then(new KeyMap(
        new KeyRule(@"^features\.(?<feature>\d+)\.conv\.[34]\.conv\.", "features.${feature}.attn.conv.")));

    /// <summary>
    /// Gated channel transformation: <c>alpha</c> is <c>embedding</c>, because <c>alpha</c> is the scale of an identity start
    /// here.
    /// </summary>
    public static KeyMap OfficialGct { get; } = new(At("alpha$", "embedding"));

    /// <summary>
    /// scSE of squeeze_and_excitation, whose <c>cSE.fc1</c> and <c>fc2</c> are linear layers, and of segmentation_models.pytorch,
    /// which numbers them: <c>cSE.1</c>, <c>cSE.3</c> and <c>sSE.0</c> are <c>cSE.fc1</c>, <c>cSE.fc2</c> and <c>sSE.conv</c>.
    /// </summary>
    public static KeyMap Scse { get; } = new(
        At(@"cSE\.fc(?<i>[12])\.", "cSE.fc${i}.", KeyReshape.LinearToConvolution),
        At(@"cSE\.1\.", "cSE.fc1."),
        At(@"cSE\.3\.", "cSE.fc2."),
        At(@"sSE\.0\.", "sSE.conv."));

    /// <summary>MONAI's attention gate: <c>W_g.0.conv</c> is <c>W_g.0</c>, and so <c>W_x</c> and <c>psi</c>.</summary>
    public static KeyMap MonaiAttentionGate { get; } = new(At(@"(?<branch>W_g|W_x|psi)\.0\.conv\.", "${branch}.0."));

    /// <summary>
    /// timm's MobileNetV2 (<c>mobilenetv2_100</c>): <c>conv_stem</c>, <c>blocks.1.0.conv_pw</c>, <c>conv_head</c> and
    /// <c>classifier</c> are <c>features.0.0</c>, <c>features.2.conv.0.0</c>, <c>features.18.0</c> and <c>classifier.1</c>.
    /// </summary>
    /// <remarks>
    /// The networks with another depth than the paper's (<c>mobilenetv2_110d</c>, <c>mobilenetv2_120d</c>) do not fit.
    /// </remarks>
    public static KeyMap TimmMobileNetV2 { get; } = MobileNetV2Keys.Timm();

    /// <summary>An attention at the end of a residual branch.</summary>
    private static KeyMap Block(string name)
        => new(new KeyRule($@"^layer(?<stage>\d+)\.(?<block>\d+)\.{name}\.", "layer${stage}.${block}.attn."));

    /// <summary>A rule for names inside a module, wherever it stands.</summary>
    private static KeyRule At(string pattern, string replacement, KeyReshape reshape = KeyReshape.None) =>
        new($@"^(?<at>(.*\.)?){pattern}", "${at}" + replacement, reshape);
}
