namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What every kind of backbone must have in the export. docs/extending.md has the same list.</summary>
public sealed class BackboneEmitterTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory().FullName;

    public static TheoryData<string> Kinds => [.. BackboneCatalog.Kinds];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Every_kind_has_an_emitter()
        => Assert.Equal(BackboneCatalog.Networks.Select(network => network.Name).Order(), BackboneEmitter.All.Select(emitter => emitter.Network.Name).Order());

    [Fact]
    public void Every_kind_is_exported_with_every_attention()
        => Assert.All(BackboneCatalog.Networks, network => Assert.Contains(
            ExportCase.Networks, one => one.Name.StartsWith($"{network.Name}", StringComparison.Ordinal) && one.Name.EndsWith("cbam everywhere", StringComparison.Ordinal)));

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_plan_is_in_the_metadata_of_the_file(string kind)
    {
        AttentionPlan plan = AttentionPlan.Of(new SqueezeExcitationOptions { ReducedChannels = 2 });
        using Backbone network = (Cases.TinyBackbones.Single(options => BackboneCatalog.KindOf(options) == kind) with { Attention = plan }).Create();
        network.eval();
        string path = Path.Combine(_folder, "network.onnx");
        network.ExportOnnx(path, torch.randn(1, 3, 16, 16));
        using Microsoft.ML.OnnxRuntime.InferenceSession session = new(path);
        Assert.Contains(plan.ToJson(), session.ModelMetadata.CustomMetadataMap.Values);
    }
}
