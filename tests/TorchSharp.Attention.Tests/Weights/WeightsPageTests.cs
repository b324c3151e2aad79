using System.Security.Cryptography;

namespace TorchSharp.Attention.Tests;

/// <summary>The C# of docs/weights.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class WeightsPageTests : IDisposable
{
    private static readonly Dictionary<string, Func<WeightsPageTests, Task>> Snippets = new()
    {
        ["load"] = page => page.Load(),
        ["look"] = page => page.Look(),
        ["download"] = page => page.Download(),
        ["map"] = _ => Map(),
        ["options"] = page => page.Options(),
    };

    private readonly WeightsFolder _folder = new();

    public static TheoryData<string> Names => [.. Snippets.Keys];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Names))]
    public Task A_snippet_of_the_page_runs(string name) => Snippets[name](this);

    [Fact]
    public void The_page_shows_what_runs_here() => DocSnippets.AreShown("docs/weights.md");

    private Task Load()
    {
        string path = _folder.PathOf("seresnet50.safetensors");
        using (ResNet saved = ResNet.ResNet50(attention: AttentionPlan.Of(SqueezeExcitationOptions.Timm)))
        {
            using DisposeScope scope = NewDisposeScope();
            _folder.Safetensors("seresnet50.safetensors", saved.state_dict().ToDictionary(pair => pair.Key.Replace(".attn.", ".se.", StringComparison.Ordinal), pair => pair.Value));
        }

        // begin load
        using ResNet network = ResNet.ResNet50(attention: AttentionPlan.Of(SqueezeExcitationOptions.Timm));
        WeightsReport report = network.LoadWeights(path, KeyMaps.TimmResNet);   // seresnet50.safetensors or .pth
        // end load
        Assert.True(report.IsComplete);
        Assert.Contains("layer1.0.attn.fc1.weight", report.Loaded);
        return Task.CompletedTask;
    }

    private Task Look()
    {
        string path = _folder.PathOf("plain");
        using (ResNet saved = ResNet.ResNet18(classes: 7)) saved.SaveWeights(path);

        // begin look
        using WeightsFile file = WeightsFile.Open(path);
        WeightsEntry entry = file.Entries["fc.weight"];                          // name, type and shape; no values are read
        using Tensor weight = file.Load("fc.weight");
        using Tensor classes = file.LoadRows("fc.weight", start: 2, count: 3);   // what these rows need, and no more
        // end look
        Assert.Equal(new WeightsEntry("fc.weight", ScalarType.Float32, [7, 512]), entry);
        using Tensor rows = weight.narrow(0, 2, 3);
        Assert.Equal(WeightsFolder.Bytes(rows), WeightsFolder.Bytes(classes));
        return Task.CompletedTask;
    }

    private async Task Download()
    {
        byte[] bytes = GoldenFile.Join("{}", []);
        Dictionary<string, string> headers = new()
        {
            ["X-Repo-Commit"] = new string('a', 40),
            ["ETag"] = Convert.ToHexString(SHA256.HashData(bytes)),
        };
        headers["Content-Length"] = bytes.Length.ToString(System.Globalization.CultureInfo.InvariantCulture);
        using HubServer server = new(_ => new HubServer.Answer(200, bytes, headers));
        HubDownloadOptions options = new() { Endpoint = server.Address, Folder = _folder.Root };
        IProgress<HubDownloadProgress>? progress = null;
        CancellationToken cancellation = TestContext.Current.CancellationToken;

        // begin download
        string path = await HubCache.DownloadAsync("timm/seresnet50.a1_in1k", options, progress, cancellation);
        // end download
        Assert.Equal(bytes, await File.ReadAllBytesAsync(path, cancellation));
    }

    private static Task Map()
    {
        // begin map
        KeyMap map = KeyMaps.DataParallel
            .Then(KeyMap.Drop(@"^aux\."))
            .Then(new KeyMap(new KeyRule(@"^stage(?<n>\d)\.fc\.", "layer${n}.0.attn.fc1.", KeyReshape.LinearToConvolution)));
        // end map
        Assert.Null(map.Map("module.aux.fc.weight"));
        Assert.Equal("layer2.0.attn.fc1.weight", map.Map("module.stage2.fc.weight"));
        Assert.Equal([4, 64, 1, 1], map.MapShape("module.stage2.fc.weight", [4, 64]));
        return Task.CompletedTask;
    }

    private Task Options()
    {
        string path = _folder.PathOf("plain");
        using (ResNet saved = ResNet.ResNet18()) saved.SaveWeights(path);

        // begin options
        // Gray images, other classes, and attention that the plain weights know nothing of: it starts as the identity.
        using ResNet network = new(new ResNetOptions
        {
            InputChannels = 1,
            Classes = 2,
            Attention = AttentionPlan.Of(new CbamOptions { Initialization = AttentionInitialization.Identity }),
        });
        network.LoadWeights(path, options: new WeightsLoadOptions { AdaptInputChannels = true, DropClassifier = true, AllowMissingAttention = true });

        // The same weights as the encoder of a U-Net.
        using UNet unet = new(new UNetOptions { Encoder = new ResNetOptions() });
        unet.LoadWeights(path, options: new WeightsLoadOptions { Submodule = "encoder", AllowUnexpected = true });
        // end options
        using DisposeScope scope = NewDisposeScope();
        Assert.Equal(WeightsFolder.Bytes(network.state_dict()["layer4.1.conv2.weight"]), WeightsFolder.Bytes(unet.state_dict()["encoder.layer4.1.conv2.weight"]));
        return Task.CompletedTask;
    }
}
