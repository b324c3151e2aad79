namespace TorchSharp.Attention.Tests;

/// <summary>The message of a mismatch names what would mend it, and which side is the file and which the network.</summary>
public sealed class WeightsAdviceTests : IDisposable
{
    private static readonly AttentionPlan Cbam = AttentionPlan.Of(new CbamOptions { Reduction = 4 });

    private readonly WeightsFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Attention_of_the_file_that_the_network_lacks()
    {
        using ResNet plain = Small(), attentive = Small(attention: Cbam), inserted = Small();
        Advises(plain, attentive, "tensors of attention that the network lacks", "InsertAttention with the plan of the file first");
        using InsertionHandle handle = inserted.InsertAttention(InsertionPlan.After("layer1", new SqueezeExcitationOptions { Reduction = 2 }), zeros(1, 3, 32, 32));
        Advises(plain, inserted, "tensors of attention that the network lacks", "InsertAttention");
    }

    [Fact]
    public void Attention_of_the_network_that_the_file_lacks()
    {
        using ResNet plain = Small(), attentive = Small(attention: Cbam);
        Advises(attentive, plain, "tensors of attention that the file lacks", "AllowMissingAttention");
    }

    [Fact]
    public void Attention_under_the_names_of_timm()
    {
        using ResNet attentive = Small(attention: AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 2 }));
        Dictionary<string, Tensor> state = attentive.state_dict().ToDictionary(pair => pair.Key.Replace(".attn.", ".se.", StringComparison.Ordinal), pair => pair.Value);
        Assert.Contains("KeyMaps.TimmResNet", Message(attentive, _folder.Safetensors("a", state)), StringComparison.Ordinal);
    }

    [Fact]
    public void Fused_networks()
    {
        using ResNet network = Small();
        network.eval();
        using ResNet fused = network.FuseForInference();
        Advises(fused, network, "seems to come from FuseForInference");
        Advises(network, fused, "saved from a copy of FuseForInference");
    }

    [Fact]
    public void Pruned_networks()
    {
        using ResNet wide = Small(), narrow = Small(width: 4);
        Advises(wide, narrow, "as after Prune");
        Advises(narrow, wide, "before Prune");
    }

    [Fact]
    public void Prefixes_and_parts()
    {
        using ResNet network = Small();
        using UNet unet = new(new UNetOptions { Encoder = network.Options });
        string Prefixed(string prefix) => _folder.Safetensors("a", network.state_dict().ToDictionary(pair => prefix + pair.Key, pair => pair.Value));
        Assert.Contains("KeyMaps.DataParallel", Message(network, Prefixed("module.")), StringComparison.Ordinal);
        Assert.Contains("KeyMap.Prefix(\"_orig_mod.\", \"\")", Message(network, Prefixed("_orig_mod.")), StringComparison.Ordinal);
        Assert.Contains("KeyMap.Prefix(\"model.backbone.\", \"\")", Message(network, Prefixed("model.backbone.")), StringComparison.Ordinal);
        Assert.Contains("Submodule = \"encoder\"", Message(unet, Prefixed("")), StringComparison.Ordinal);
    }

    [Fact]
    public void Other_classes_and_other_channels()
    {
        using ResNet network = Small(), other = Small(classes: 3), gray = Small(channels: 1);
        Advises(other, network, "DropClassifier");
        Advises(gray, network, "AdaptInputChannels fits the first one");
    }

    [Fact]
    public void Both_sides_are_named_and_what_fits_needs_no_advice()
    {
        using Modules.Linear linear = nn.Linear(2, 2);
        string message = Message(linear, _folder.Safetensors("a", new Dictionary<string, Tensor> { ["weight"] = zeros(2, 2), ["extra"] = zeros(1) }));
        Assert.Contains("missing (the network has it, the file does not): 'bias'", message, StringComparison.Ordinal);
        Assert.Contains("unexpected (the file has it, the network does not): 'extra'", message, StringComparison.Ordinal);
        linear.SaveWeights(_folder.PathOf("b"));
        Assert.Empty(linear.LoadWeights(_folder.PathOf("b")).Advice);
    }

    private void Advises(nn.Module network, nn.Module saved, params string[] words)
    {
        saved.SaveWeights(_folder.PathOf("saved"));
        string message = Message(network, _folder.PathOf("saved"));
        foreach (string word in words) Assert.Contains(word, message, StringComparison.Ordinal);
    }

    private static string Message(nn.Module network, string path) => Assert.Throws<WeightsMismatchException>(() => network.LoadWeights(path)).Message;

    private static ResNet Small(int classes = 5, int channels = 3, int width = 8, AttentionPlan? attention = null) => new(new ResNetOptions
    {
        Layers = [1, 1],
        StemWidth = width,
        StagePlanes = [width, 2 * width],
        Classes = classes,
        InputChannels = channels,
        Attention = attention ?? AttentionPlan.None,
    });
}
