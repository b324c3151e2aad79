namespace TorchSharp.Attention.Tests;

/// <summary>Names of published weights as ours: by example, and by loading a golden state under each naming.</summary>
public sealed class KeyMapTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public static TheoryData<string, string, string> Names => new()
    {
        { "TimmResNet", "layer1.0.se.fc1.weight", "layer1.0.attn.fc1.weight" },
        { "TimmResNet", "layer4.12.se.spatial.conv.bn.weight", "layer4.12.attn.spatial.conv.bn.weight" },
        { "TimmResNet", "layer1.0.conv1.weight", "layer1.0.conv1.weight" },
        { "TimmResNet", "fc.weight", "fc.weight" },
        { "OfficialSeNet", "layer1.0.se.fc.0.weight", "layer1.0.attn.fc1.weight" },
        { "OfficialSeNet", "layer1.0.se.fc.2.weight", "layer1.0.attn.fc2.weight" },
        { "OfficialSeNet", "fc.0.weight", "fc1.weight" },
        { "OfficialSeNet", "fc.weight", "fc.weight" },
        { "OfficialCbam", "layer2.1.cbam.ChannelGate.mlp.1.bias", "layer2.1.attn.channel.fc1.bias" },
        { "OfficialCbam", "layer2.1.cbam.ChannelGate.mlp.3.weight", "layer2.1.attn.channel.fc2.weight" },
        { "OfficialCbam", "layer2.1.cbam.SpatialGate.spatial.bn.running_mean", "layer2.1.attn.spatial.conv.bn.running_mean" },
        { "OfficialBam", "bam2.channel_att.gate_c.gate_c_bn_1.running_var", "layer2_attn.channel.bn.running_var" },
        { "OfficialBam", "spatial_att.gate_s.gate_s_conv_di_1.weight", "spatial.dilated.1.conv.weight" },
        { "OfficialEca", "layer1.0.eca.conv.weight", "layer1.0.attn.conv.weight" },
        { "OfficialEca", "features.1.conv.3.conv.weight", "features.1.attn.conv.weight" },
        { "OfficialEca", "features.17.conv.4.conv.weight", "features.17.attn.conv.weight" },
        { "OfficialEca", "features.17.conv.3.weight", "features.17.conv.3.weight" },
        { "OfficialGct", "alpha", "embedding" },
        { "OfficialGct", "layer1.0.attn.alpha", "layer1.0.attn.embedding" },
        { "OfficialGct", "gamma", "gamma" },
        { "OfficialGct", "layer1.0.some_alpha", "layer1.0.some_alpha" },
        { "Scse", "cSE.fc2.weight", "cSE.fc2.weight" },
        { "Scse", "cSE.1.bias", "cSE.fc1.bias" },
        { "Scse", "decoder.attn.cSE.3.weight", "decoder.attn.cSE.fc2.weight" },
        { "Scse", "sSE.0.weight", "sSE.conv.weight" },
        { "MonaiAttentionGate", "W_g.0.conv.weight", "W_g.0.weight" },
        { "DataParallel", "module.conv1.weight", "conv1.weight" },
        { "DataParallel", "encoder.module.weight", "encoder.module.weight" },
        { "TimmMobileNetV2", "conv_stem.weight", "features.0.0.weight" },
        { "TimmMobileNetV2", "bn1.running_mean", "features.0.1.running_mean" },
        { "TimmMobileNetV2", "blocks.0.0.conv_dw.weight", "features.1.conv.0.0.weight" },
        { "TimmMobileNetV2", "blocks.0.0.bn1.weight", "features.1.conv.0.1.weight" },
        { "TimmMobileNetV2", "blocks.0.0.conv_pw.weight", "features.1.conv.1.weight" },
        { "TimmMobileNetV2", "blocks.0.0.bn2.bias", "features.1.conv.2.bias" },
        { "TimmMobileNetV2", "blocks.1.0.conv_pw.weight", "features.2.conv.0.0.weight" },
        { "TimmMobileNetV2", "blocks.1.1.conv_dw.weight", "features.3.conv.1.0.weight" },
        { "TimmMobileNetV2", "blocks.3.2.bn2.weight", "features.9.conv.1.1.weight" },
        { "TimmMobileNetV2", "blocks.5.2.conv_pwl.weight", "features.16.conv.2.weight" },
        { "TimmMobileNetV2", "blocks.6.0.bn3.bias", "features.17.conv.3.bias" },
        { "TimmMobileNetV2", "conv_head.weight", "features.18.0.weight" },
        { "TimmMobileNetV2", "bn2.weight", "features.18.1.weight" },
        { "TimmMobileNetV2", "classifier.weight", "classifier.1.weight" },
    };

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_published_name_becomes_ours(string map, string theirs, string ours) =>
        Assert.Equal(ours, ((KeyMap)typeof(KeyMaps).GetProperty(map)!.GetValue(null)!).Map(theirs));

    [Fact]
    public void Only_a_rule_reshapes_and_only_what_it_should()
    {
        Assert.Equal([4, 64, 1, 1], KeyMaps.OfficialSeNet.MapShape("fc.0.weight", [4, 64]));
        Assert.Equal([4], KeyMaps.OfficialSeNet.MapShape("fc.0.bias", [4]));
        Assert.Equal([4, 8, 1, 1], KeyMaps.Scse.MapShape("cSE.fc1.weight", [4, 8]));
        Assert.Equal([4, 8, 1, 1], KeyMaps.Scse.MapShape("cSE.1.weight", [4, 8, 1, 1]));
        Assert.Equal([10, 64], KeyMaps.OfficialSeNet.MapShape("fc.weight", [10, 64]));
        KeyMap back = new(new KeyRule("^fc1\\.", "fc.0.", KeyReshape.ConvolutionToLinear));
        Assert.Equal([4, 64], back.MapShape("fc1.weight", [4, 64, 1, 1]));
        Assert.Equal([4, 64, 3, 3], back.MapShape("fc1.weight", [4, 64, 3, 3]));
    }

    [Fact]
    public void Maps_are_values_that_compose()
    {
        KeyMap both = KeyMap.Prefix("a.", "$b.").Then(KeyMap.Drop("^c"));
        Assert.Equal("$b.x", both.Map("a.x"));
        Assert.Null(both.Map("c.x"));
        Assert.Equal(both, KeyMap.Prefix("a.", "$b.").Then(KeyMap.Drop("^c")));
        Assert.Equal(both.GetHashCode(), KeyMap.Prefix("a.", "$b.").Then(KeyMap.Drop("^c")).GetHashCode());
        Assert.NotEqual(both, KeyMap.Identity);
        Assert.Equal(@"^a\. → $$b.; then ^c → (dropped)", both.ToString());
        Assert.Equal(2, both.Steps.Count);
        Assert.ThrowsAny<ArgumentException>(() => new KeyMap(new KeyRule("(", "")));
        Assert.Contains("(?=a)", Assert.Throws<ArgumentException>(() => new KeyMap(new KeyRule("(?=a)", ""))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("cbam_official", "cbam")]
    [InlineData("bam", "bam")]
    [InlineData("forward/official_senet", "senet")]
    [InlineData("forward/official_eca", "eca")]
    public void Released_attention_loads_inside_a_network(string fixture, string kind)
    {
        // The released module's state at a network's place: the map must carry it to the attention of that block or stage.
        Dictionary<string, Tensor> module = WeightsFolder.GoldenState(fixture);
        (AttentionPlan plan, string theirs, string ours, KeyMap map, KeyMap inside) = kind switch
        {
            "cbam" => (AttentionPlan.Of(CbamOptions.Official), "layer1.0.cbam.", "layer1.0.attn.", KeyMaps.OfficialCbam, KeyMaps.OfficialCbam),
            "bam" => (AttentionPlan.Of(BamOptions.Official, AttentionPosition.StageEnd), "bam1.", "layer1_attn.", KeyMaps.OfficialBam, KeyMaps.OfficialBam),
            "senet" => (AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4, Bias = false }), "layer1.0.se.", "layer1.0.attn.", KeyMaps.OfficialSeNet, KeyMaps.OfficialSeNet),
            _ => (AttentionPlan.Of(new EfficientChannelAttentionOptions { KernelSize = (int)module["conv.weight"].size(2) }), "layer1.0.eca.", "layer1.0.attn.", KeyMaps.OfficialEca, KeyMap.Identity),
        };
        int channels = kind switch
        {
            "senet" => (int)module["fc.0.weight"].size(1),
            _ => 64,
        };
        using ResNet network = new(new ResNetOptions { Layers = [1], StemWidth = 8, StagePlanes = [channels], Classes = 2, Attention = plan });
        Dictionary<string, Tensor> file = network.state_dict().Where(pair => !pair.Key.StartsWith(ours, StringComparison.Ordinal)).ToDictionary();
        foreach ((string name, Tensor value) in module) file[theirs + name] = value;
        WeightsReport report = network.LoadWeights(_folder.Safetensors("a", file), map, new WeightsLoadOptions { AllowRounding = true });
        Assert.True(report.IsComplete, report.ToString());
        Dictionary<string, Tensor> state = network.state_dict();
        foreach ((string name, Tensor value) in module)
        {
            Assert.Equal(WeightsFolder.Bytes(value.to_type(state[ours + inside.Map(name)].dtype)), WeightsFolder.Bytes(state[ours + inside.Map(name)]));
        }
    }

    [Fact]
    public void Timms_names_of_mobilenet_reach_every_tensor_and_give_the_golden_logits()
    {
        // timm's names in the order of the network, written down independently of the map; torchvision's in the same order.
        List<string> timm = ["conv_stem", "bn1"], torchvision = ["features.0.0", "features.0.1"];
        int feature = 1, stage = 0;
        foreach (int blocks in new[] { 1, 2, 3, 4, 3, 3, 1 })
        {
            for (int block = 0; block < blocks; block++, feature++)
            {
                string[] theirs = stage == 0 ? ["conv_dw", "bn1", "conv_pw", "bn2"] : ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"];
                string[] ours = stage == 0 ? ["0.0", "0.1", "1", "2"] : ["0.0", "0.1", "1.0", "1.1", "2", "3"];
                timm.AddRange(theirs.Select(layer => $"blocks.{stage}.{block}.{layer}"));
                torchvision.AddRange(ours.Select(layer => $"features.{feature}.conv.{layer}"));
            }

            stage++;
        }

        timm.AddRange(["conv_head", "bn2", "classifier"]);
        torchvision.AddRange(["features.18.0", "features.18.1", "classifier.1"]);
        Dictionary<string, Tensor> renamed = WeightsFolder.GoldenState("mobilenet_v2").ToDictionary(
            pair => timm[torchvision.IndexOf(pair.Key[..pair.Key.LastIndexOf('.')])] + pair.Key[pair.Key.LastIndexOf('.')..], pair => pair.Value);
        using MobileNetV2 network = new(new MobileNetV2Options { WidthMultiplier = 0.25, Classes = 10 });
        Assert.True(network.LoadWeights(_folder.Torch("a.pth", renamed), KeyMaps.TimmMobileNetV2).IsComplete);
        Assert.InRange(WeightsFolder.LogitError(network, "mobilenet_v2"), 0, 1e-6);

        using MobileNetV2 same = new(new MobileNetV2Options { WidthMultiplier = 0.25, Classes = 10 });
        same.LoadWeights(_folder.Safetensors("b", WeightsFolder.GoldenState("mobilenet_v2")));
        Assert.Equal(WeightsFolder.Snapshot(network), WeightsFolder.Snapshot(same));
    }
}
