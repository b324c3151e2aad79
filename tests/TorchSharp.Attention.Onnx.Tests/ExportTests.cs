using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

public sealed class ExportTests
{
    private static readonly Scalar Third = 0.3.ToScalar(), Half = 0.5.ToScalar(), Fifth = 0.2.ToScalar();

    [Fact]
    public void A_sequence_of_common_layers_is_written_and_verified()
    {
        using TestFolder folder = new();
        string path = folder.PathOf("plain.onnx");
        using nn.Module<Tensor, Tensor> model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding: 1, stride: 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5),
            nn.Linear(8, 5));
        Disturb(model);
        using Tensor example = randn(2, 3, 16, 16);
        OnnxExportReport report = model.ExportOnnx(path, example, new OnnxExportOptions { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size });

        Assert.Empty(report.Notes);
        Assert.Equal(["input (batch, 3, height, width)"], report.Inputs);
        Assert.Equal(["output (batch, 5)"], report.Outputs);
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-5);
        Assert.Equal(4, report.Checks.Count);
        Assert.True(model.training);
        Assert.Equal(["plain.onnx"], folder.Files());
        GraphProto graph = OnnxModelFile.Load(path).Graph;
        // Height and width are open, so the mean is taken in stages.
        Assert.Equal(["Conv", "BatchNormalization", "Relu", "MaxPool", "ReduceMean", "ReduceMean", "Reshape", "Gemm"], graph.Node.Select(node => node.OpType));
        Assert.Equal("0/Conv", graph.Node[0].Name);
        Assert.Equal(["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"], graph.Initializer.Take(6).Select(tensor => tensor.Name));
    }

    [Fact]
    public void A_resnet_with_squeeze_and_excitation_is_written_and_verified()
    {
        using TestFolder folder = new();
        string path = folder.PathOf("resnet.onnx");
        using ResNet model = new ResNetOptions
        {
            Layers = [1, 1],
            StagePlanes = [8, 16],
            StemWidth = 8,
            Classes = 4,
            Stem = ResNetStem.Small,
            Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }),
        }.Create();
        Disturb(model);
        using Tensor example = randn(1, 3, 24, 20);
        OnnxExportReport report = model.ExportOnnx(path, example, new OnnxExportOptions
        {
            DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size,
            AttentionMaps = true,
            ClassNames = ["a", "b", "c", "d"],
            Normalization = OnnxNormalization.ImageNet,
        });

        Assert.Empty(report.Notes);
        Assert.Equal(["output (batch, 4)", "layer1.0.attn/Channel (batch, 8)", "layer2.0.attn/Channel (batch, 16)"], report.Outputs);
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-5);
        Assert.Equal(12, report.Checks.Count);
        Dictionary<string, string> metadata = OnnxModelFile.Load(path).MetadataProps.ToDictionary(entry => entry.Key, entry => entry.Value);
        Assert.Equal(model.Options.Attention, AttentionPlan.FromJson(metadata["torchsharp_attention.plan"]));
        Assert.Equal("[\"a\",\"b\",\"c\",\"d\"]", metadata["class_names"]);
        Assert.Equal("[0.229,0.224,0.225]", metadata["normalization.std"]);
    }

    /// <summary>Running statistics and affine parameters that do something.</summary>
    internal static void Disturb(nn.Module model)
    {
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        manual_seed(7);
        foreach ((string name, Tensor buffer) in model.named_buffers())
        {
            if (name.EndsWith("running_mean", StringComparison.Ordinal)) buffer.copy_(randn(buffer.shape).mul(Third));
            if (name.EndsWith("running_var", StringComparison.Ordinal)) buffer.copy_(rand(buffer.shape).add(Half));
        }

        foreach ((string _, Modules.Parameter parameter) in model.named_parameters())
        {
            // Zeros and ones would hide what they are added to and multiplied with.
            if (parameter.dim() <= 1 || parameter.amax().eq(parameter.amin()).item<bool>()) parameter.add_(randn(parameter.shape).mul(Fifth));
        }
    }
}
