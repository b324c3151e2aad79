using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Networks after what the library does to them: fused copies, inserted attention; and networks that refuse sizes.</summary>
public sealed class NetworkFormTests : IDisposable
{
    private static readonly AttentionPlan Plan = AttentionPlan.Of(new CbamOptions { Reduction = 4, KernelSize = 3 });

    private readonly TestFolder _folder = new();

    private string Path => _folder.PathOf("network.onnx");

    private static OnnxExportOptions Open => new() { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size, AttentionMaps = true };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("resnet")]
    [InlineData("mobilenet")]
    [InlineData("unet")]
    public void A_fused_copy_computes_the_same(string kind)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using FeatureNetwork network = kind switch
        {
            "resnet" => new ResNetOptions { Layers = [1, 1], StagePlanes = [8, 16], StemWidth = 8, Classes = 4, Stem = ResNetStem.Small, Attention = Plan }.Create(),
            "mobilenet" => new MobileNetV2(new() { WidthMultiplier = 0.1, Classes = 3, SmallImages = true, Attention = Plan }),
            _ => new UNet(new() { Widths = [8, 8], Attention = AttentionPlan.Of(new AttentionGateOptions(), AttentionPosition.Skip) }),
        };
        ExportTests.Disturb(network);
        network.eval();
        using FeatureNetwork fused = network.FuseForInference();
        OnnxExportReport report = fused.ExportOnnx(Path, randn(2, network.InputChannels, 24, 20), Open);
        Assert.Empty(report.Notes);
        Assert.Empty(report.Skipped);
        OnnxFiles.Keep(Path, $"fused {kind}");
    }

    public static TheoryData<string> FormNames => [.. Forms.Keys];

    private static IReadOnlyDictionary<string, Func<FeatureNetwork>> Forms => new Dictionary<string, Func<FeatureNetwork>>
    {
        ["unet on mobilenetv2, attention at the ends"] = () => new UNet(new() { Widths = [4, 4, 4], Encoder = Cases.TinyMobileNet, Attention = Ends }),
        ["unet on resnet, attention at the ends"] = () => new UNet(new()
        {
            Widths = [4, 4, 4],
            Encoder = Cases.TinyResNet with { Layers = [1, 1], StagePlanes = [4, 8], Stem = ResNetStem.Standard, Attention = AttentionPlan.Of(new EfficientChannelAttentionOptions()) },
            Attention = Ends,
        }),
        ["unet, instance norm"] = () => new UNet(new() { Widths = [4, 8], Norm = UNetNorm.Instance }),
        ["unet, no norm"] = () => new UNet(new() { Widths = [4, 8], Norm = UNetNorm.None, UpSampling = UNetUpSampling.Bilinear }),
        ["unet, transposed blocks"] = () => new UNet(new() { Widths = [4, 8], UpSampling = UNetUpSampling.TransposedBlock, UpKernelSize = 5 }),
        ["unet, merges"] = () => new UNet(new() { Widths = [4, 8], Decoder = UNetDecoder.Merge, DownSampling = UNetDownSampling.Strided }),
        ["resnet, widths of its own"] = () => new ResNet(Cases.TinyResNet with
        {
            Layers = [1, 1],
            StagePlanes = [8, 8],
            StemWidth = 8,
            Widths = new ResNetWidths { Stem = 5, Stages = [5, 7], Conv1 = [3, 4] },
            Attention = AttentionPlan.Of(new EfficientChannelAttentionOptions()),
        }),
        ["mobilenetv2, pruned"] = () =>
        {
            using MobileNetV2 whole = new(Cases.TinyMobileNet with { Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 2 }, AttentionPosition.AfterExpand) });
            using Tensor batch = randn(2, 3, 16, 16);
            return whole.Prune(GatePruning.Rank(whole, [batch]).PlanRemoval(0.4));
        },
    };

    private static AttentionPlan Ends => AttentionPlan.Of(new SqueezeExcitationOptions { ReducedChannels = 2 }, AttentionPosition.EncoderEnd)
        .Add(new SpatialAttentionOptions { KernelSize = 3 }, AttentionPosition.EncoderEnd).Add(new AttentionGateOptions(), AttentionPosition.Skip);

    [Theory]
    [MemberData(nameof(FormNames))]
    public void A_form_of_a_network_and_its_fused_copy_compute_the_same(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(4);
        using FeatureNetwork network = Forms[name]();
        ExportTests.Disturb(network);
        network.eval();
        using FeatureNetwork fused = network.FuseForInference();
        foreach (FeatureNetwork one in new[] { network, fused })
        {
            OnnxExportReport report = one.ExportOnnx(Path, randn(2, 3, 24, 20), Open with { AttentionMaps = one.modules().Any(module => module is IAttentionModule) });
            Assert.Empty(report.Notes);
            Assert.Empty(report.Skipped);
            Assert.Equal(["input (batch, 3, height, width)"], report.Inputs);
            EmitterTests.AssertNothingUnread(OnnxModelFile.Load(Path).Graph);
        }

        Tensor x = randn(1, 3, 17, 22);
        using OnnxSession session = new(Path);
        Assert.True(session.Run([("input", x)])["output"].allclose(network.call(x), rtol: 1e-3, atol: 1e-4));
    }

    [Theory]
    [InlineData(6, 8, true)]
    [InlineData(5, 7, true)]
    [InlineData(6, 8, false)]
    public void A_gather_kernel_as_large_as_the_map_computes_the_same(int height, int width, bool padded)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(5);
        using GatherExcite module = new(4, GatherExciteOptions.TimmWholeMap(height, width) with { PadWholeMap = padded, ReducedChannels = 2 });
        ExportTests.Disturb(module);
        OnnxExportReport report = module.ExportOnnx(Path, randn(2, 4, height, width), Open);
        Assert.Equal([padded ? "input (batch, 4, height, width)" : "input (batch, 4, 6, 8)"], report.Inputs);
        Assert.Equal(padded ? 0 : 2, report.Notes.Count);
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-5);
    }

    [Fact]
    public void Inserted_attention_is_written_wherever_it_stands()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(2);
        using Sequential network = nn.Sequential(
            ("stem", nn.Conv2d(3, 8, 3, padding: 1)), ("norm", nn.BatchNorm2d(8)), ("relu", nn.ReLU()),
            ("body", nn.Sequential(("conv", nn.Conv2d(8, 16, 3, stride: 2, padding: 1)), ("relu", nn.ReLU()))),
            ("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()), ("head", nn.Linear(16, 4)));
        Tensor example = randn(2, 3, 16, 12);
        network.InsertAttention(
            InsertionPlan.After("stem", new CbamOptions { Reduction = 4 }).AddBefore("body.conv", new EfficientChannelAttentionOptions())
                .AddAfter("body.*", new SelfAttention2dOptions { Heads = 2 }), example);
        ExportTests.Disturb(network); // Alpha is no longer zero.
        OnnxExportReport report = network.ExportOnnx(Path, example, Open);
        Assert.Empty(report.Notes);
        Assert.Equal(["output", "Channel", "Spatial", "Channel", "Pairwise", "Pairwise"], report.Outputs.Select(output => output.Split(' ')[0].Split('/')[^1]));
        OnnxFiles.Keep(Path, "inserted");
        System.Text.Json.Nodes.JsonArray insertions = System.Text.Json.Nodes.JsonNode.Parse(
            OnnxModelFile.Load(Path).MetadataProps.Single(entry => entry.Key == "torchsharp_attention.insertions").Value)!.AsArray();
        Assert.Equal(
            ["stem After 8 cbam", "body.conv Before 8 eca", "body.conv After 16 self", "body.relu After 16 self"],
            insertions.Select(entry => $"{entry!["place"]} {entry["side"]} {entry["channels"]} {entry["attention"]!["kind"]}"));
        Assert.Equal(new CbamOptions { Reduction = 4, Initialization = AttentionInitialization.Identity }, AttentionOptions.FromJson(insertions[0]!["attention"]!.ToJsonString()));
    }

    [Fact]
    public void Attention_inserted_into_a_network_of_the_library_is_written()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        using MobileNetV2 network = new(new() { WidthMultiplier = 0.1, Classes = 3, SmallImages = true });
        Tensor example = randn(2, 3, 16, 16);
        network.InsertAttention(InsertionPlan.After("features.3", new CbamOptions { Reduction = 4 }).AddAfter("features.4.conv.1", new SimAmOptions()), example);
        ExportTests.Disturb(network);
        OnnxExportReport report = network.ExportOnnx(Path, example, Open);
        Assert.Empty(report.Notes);
        Assert.Equal(1 + 2 + 3, report.Outputs.Count);
    }

    [Fact]
    public void Sizes_that_the_network_refuses_are_reported_and_others_are_compared()
    {
        using DisposeScope scope = NewDisposeScope();
        using SizedNetwork network = new(size => size % 16 == 0);
        OnnxExportReport report = network.ExportOnnx(Path, randn(1, 3, 16, 16), Open with { Emitters = SizedNetwork.Emitters });
        Assert.All(report.Skipped, skipped => Assert.Contains("is no size", skipped.Reason, StringComparison.Ordinal));
        Assert.Equal(["[[2, 3, 24, 16]]", "[[1, 3, 17, 17]]"], report.Skipped.Select(skipped => skipped.InputShapes.ToString()));
        Assert.Contains(report.Checks, check => check.InputShapes[0][2] == 32);
    }

    [Fact]
    public void An_axis_that_nothing_was_compared_along_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        using SizedNetwork network = new(size => size == 16);
        OnnxVerificationException error = Assert.Throws<OnnxVerificationException>(
            () => network.ExportOnnx(Path, randn(1, 3, 16, 16), Open with { Emitters = SizedNetwork.Emitters }));
        Assert.StartsWith("height and width could not be checked", error.Message, StringComparison.Ordinal);
        Assert.Empty(_folder.Files());
        network.ExportOnnx(Path, randn(1, 3, 16, 16), new OnnxExportOptions { Emitters = SizedNetwork.Emitters });
    }

    private sealed class SizedNetwork : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d conv = nn.Conv2d(3, 4, 3);
        private readonly Predicate<long> _fits;

        public SizedNetwork(Predicate<long> fits)
            : base(nameof(SizedNetwork))
        {
            _fits = fits;
            RegisterComponents();
        }

        public static OnnxEmitters Emitters => OnnxEmitters.Default.With<SizedNetwork>((context, _, x) => context.Emit("conv", x));

        public override Tensor forward(Tensor x)
            => _fits(x.size(2)) && _fits(x.size(3)) ? conv.call(x) : throw new ArgumentException($"{x.size(2)} x {x.size(3)} is no size of mine.", nameof(x));
    }
}
