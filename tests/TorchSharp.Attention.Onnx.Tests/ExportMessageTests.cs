using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What an export says when something is wrong, and with whom it finds the fault.</summary>
public sealed class ExportMessageTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Path => _folder.PathOf("network.onnx");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_network_that_gives_no_numbers_is_said_to()
    {
        using DisposeScope scope = NewDisposeScope();
        using ResNet network = new ResNetOptions { Layers = [1], StagePlanes = [8], StemWidth = 8, Classes = 2 }.Create();
        using (no_grad())
        {
            network.state_dict()["fc.weight"].fill_(float.NaN);
            network.state_dict()["bn1.running_var"].fill_(float.PositiveInfinity);
        }

        string message = Refused(network, randn(1, 3, 32, 32));
        Assert.StartsWith("ResNet itself gives NaN or infinity: its output 'output' at input ", message, StringComparison.Ordinal);
        Assert.Contains("2 of its parameters and buffers hold NaN or infinity, the first of them 'fc.weight', 'bn1.running_var'.", message, StringComparison.Ordinal);
        Assert.DoesNotContain("emitter", message, StringComparison.Ordinal);

        Assert.Contains("All its parameters and buffers are finite", Refused(new Act(x => (x - x) / (x - x)), randn(1, 3), With(x => x)), StringComparison.Ordinal);
        Assert.Empty(_folder.Files());
    }

    [Fact]
    public void Another_shape_is_said_with_both()
    {
        using DisposeScope scope = NewDisposeScope();
        string message = Refused(new Act(x => x.mean([2L, 3L])), randn(2, 3, 4, 4), OnnxEmitters.Default.With<Act>((context, _, x) => context.Mean(x, 2, 3)));
        Assert.Contains("has the shape (2, 3, 1, 1) in the file, and (2, 3) in the network", message, StringComparison.Ordinal);
        Assert.Contains("keepDims", message, StringComparison.Ordinal);
        Assert.DoesNotContain("Infinity", message, StringComparison.Ordinal);
        foreach ((Func<Tensor, Tensor> forward, Func<OnnxContext, OnnxValue, OnnxValue> emit) in new (Func<Tensor, Tensor>, Func<OnnxContext, OnnxValue, OnnxValue>)[]
        {
            (x => x.mean([2L, 3L]), (context, x) => context.Mean(x, [2, 3], keepDims: false)),
            (x => x.amax([2L, 3L]), (context, x) => context.Max(x, [-2, -1], keepDims: false)),
            (x => x.sum([1L], keepdim: true), (context, x) => context.Sum(x, [1], keepDims: true)),
        })
        {
            new Act(forward).ExportOnnx(Path, randn(2, 3, 4, 4), new OnnxExportOptions { Emitters = OnnxEmitters.Default.With<Act>((context, _, x) => emit(context, x)) });
        }
    }

    /// <summary>Each of these passes with random inputs.</summary>
    [Fact]
    public void Even_maps_single_points_and_slopes_are_compared_too()
    {
        using DisposeScope scope = NewDisposeScope();
        // Right unless all numbers are nearly equal; unless all but one are nearly zero; unless each row rises.
        Assert.Contains("at a constant input", Refused(new Act(x => x + (1 - ((x.max() - x.min()) * 100)).relu()), randn(2, 9), With(x => x)), StringComparison.Ordinal);
        Assert.Contains("at a one-hot input", Refused(new Act(x => x + (1 - ((x.abs().sum() - x.abs().max()) * 10)).relu()), randn(2, 9), With(x => x)), StringComparison.Ordinal);
        Assert.Contains("at a ramp input", Refused(new Act(x => x + ((x.slice(1, 1, 9, 1) - x.slice(1, 0, 8, 1)).min().relu() * 10)), randn(2, 9), With(x => x)), StringComparison.Ordinal);
    }

    /// <summary>A norm of an even map is rounding alone, and so is what a second one makes of it: no fault of the file.</summary>
    [Fact]
    public void Norms_of_even_maps_are_no_reason_to_refuse()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(2);
        using Sequential network = nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8), nn.Conv2d(8, 8, 1, bias: false), nn.InstanceNorm2d(8), nn.Conv2d(8, 8, 1, bias: false), QuantizedPoolTests.Started(nn.GroupNorm(2, 8)), nn.Conv2d(8, 4, 1));
        OnnxExportReport report = network.ExportOnnx(Path, randn(1, 3, 20, 20));
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-4);
    }

    [Fact]
    public void Networks_that_return_something_else_are_told_what_can_be_compared()
    {
        using DisposeScope scope = NewDisposeScope();
        OnnxEmitters emitters = OnnxEmitters.Default.With<Pairs>((_, _, x) => x);
        string message = Assert.Throws<ArgumentException>(() => new Pairs().ExportOnnx(Path, [randn(1, 3)], new OnnxExportOptions { Emitters = emitters })).Message;
        Assert.Contains("Pairs cannot be compared with its file: its forward takes Tensor and returns Dictionary<String, Tensor>, and it was given 1 tensor.", message, StringComparison.Ordinal);
        Assert.Contains("Wrap it in a class", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Children_further_in_are_called_by_dotted_names()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        using Listed network = new();
        OnnxEmitters emitters = OnnxEmitters.Default.With<Listed>((context, module, x) => context.Emit("head", context.Emit("blocks.1", context.Relu(context.Emit("blocks.0", x)))));
        OnnxExportReport report = network.ExportOnnx(Path, randn(1, 3, 6, 6), new OnnxExportOptions { Emitters = emitters });
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-6);
        Assert.Contains(OnnxModelFile.Load(Path).Graph.Node, node => node.Name == "blocks.1/Conv");
        Assert.Contains("has no child 'blocks.7'. There are: blocks.0, blocks.1.", Missing("blocks.7"), StringComparison.Ordinal);
        Assert.Contains("has no child 'block'. There are: blocks, head.", Missing("block"), StringComparison.Ordinal);

        string Missing(string key) => Assert.Throws<ArgumentException>(() => network.ExportOnnx(
            Path, randn(1, 3, 6, 6), new OnnxExportOptions { Emitters = OnnxEmitters.Default.With<Listed>((context, module, x) => context.Emit(key, x)) })).Message;
    }

    private static OnnxEmitters With(Func<OnnxValue, OnnxValue> write) => OnnxEmitters.Default.With<Act>((context, _, x) => context.Mul(context.Add(write(x), 0), context.Scalar(1)));

    private string Refused(nn.Module<Tensor, Tensor> module, Tensor example, OnnxEmitters? emitters = null)
        => Assert.Throws<OnnxVerificationException>(() => module.ExportOnnx(Path, example, emitters is null ? null : new OnnxExportOptions { Emitters = emitters })).Message;

    private sealed class Act(Func<Tensor, Tensor> function) : nn.Module<Tensor, Tensor>(nameof(Act))
    {
        public override Tensor forward(Tensor x) => function(x);
    }

    private sealed class Pairs() : nn.Module<Tensor, Dictionary<string, Tensor>>(nameof(Pairs))
    {
        public override Dictionary<string, Tensor> forward(Tensor x) => new() { ["out"] = x };
    }

    private sealed class Listed : nn.Module<Tensor, Tensor>
    {
        private readonly ModuleList<nn.Module<Tensor, Tensor>> blocks = nn.ModuleList<nn.Module<Tensor, Tensor>>(nn.Conv2d(3, 4, 3, padding: 1), nn.Conv2d(4, 4, 1));
        private readonly Conv2d head = nn.Conv2d(4, 2, 1);

        public Listed()
            : base(nameof(Listed)) => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            using DisposeScope scope = NewDisposeScope();
            return head.call(blocks[1].call(blocks[0].call(x).relu())).MoveToOuterDisposeScope();
        }
    }
}
