namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>The C# of docs/export.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class ExportPageTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_page_shows_what_runs_here() => DocSnippets.AreShown("docs/export.md");

    [Fact]
    public void A_network_of_the_library()
    {
        using DisposeScope scope = NewDisposeScope();
        string path = _folder.PathOf("network.onnx");
        Tensor example = randn(1, 3, 64, 64);

        // begin export
        using ResNet network = ResNet.ResNet18(classes: 10, AttentionPlan.Of(new CbamOptions { Reduction = 8 }).InStages(3, 4));
        OnnxExportReport report = network.ExportOnnx(path, example);   // a tensor of the shape that the file takes, such as (1, 3, 64, 64)
        Console.WriteLine(report);                                     // inputs, outputs, size, and how far the file is from the network
        // end export
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-4);
        Maps(path, network, example);
    }

    [Fact]
    public void Dynamic_axes()
    {
        using DisposeScope scope = NewDisposeScope();
        string path = _folder.PathOf("network.onnx");
        using ResNet network = new ResNetOptions { Layers = [1], StagePlanes = [8], StemWidth = 8, Classes = 2 }.Create();
        Tensor example = randn(1, 3, 24, 24);

        // begin dynamic
        OnnxExportReport report = network.ExportOnnx(path, example, new OnnxExportOptions
        {
            DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size,   // default: the batch
            InputNames = ["image"],
            OutputNames = ["logits"],
            ClassNames = ["cat", "dog"],                                  // for whoever deploys it; so is the next
            Normalization = OnnxNormalization.ImageNet,
        });
        Console.WriteLine(string.Join("; ", report.Inputs));              // image (batch, 3, height, width)
        // end dynamic
        Assert.Equal(["image (batch, 3, height, width)"], report.Inputs);
    }

    [Fact]
    public void A_class_of_ones_own()
    {
        using DisposeScope scope = NewDisposeScope();
        string path = _folder.PathOf("network.onnx");
        using TwoPaths model = new();
        Tensor example = randn(1, 3, 8, 8);

        // begin emitter
        OnnxEmitters emitters = OnnxEmitters.Default.With<TwoPaths>((context, module, x) =>
        {
            OnnxValue left = context.Emit("left", x);                 // a child by its key, by its own emitter
            OnnxValue right = context.Relu(context.Emit("right", x));
            return context.Mul(context.Add(left, right), context.Parameter("scale"));
        });
        model.ExportOnnx(path, example, new OnnxExportOptions { Emitters = emitters });
        // end emitter
        NotSupportedException unknown = Assert.Throws<NotSupportedException>(() => nn.Sequential(("paths", model)).ExportOnnx(path, example));
        Assert.Contains("TwoPaths 'paths'", unknown.Message, StringComparison.Ordinal);
        OnnxVerificationException wrong = Assert.Throws<OnnxVerificationException>(() => model.ExportOnnx(
            path, example, new OnnxExportOptions { Emitters = OnnxEmitters.Default.With<TwoPaths>((context, _, x) => context.Emit("right", context.Emit("left", x))) }));
        Assert.NotEmpty(wrong.Checks);
    }

    [Fact]
    public void A_list_of_residual_blocks()
    {
        using DisposeScope scope = NewDisposeScope();
        string path = _folder.PathOf("network.onnx");
        using Blocks model = new();
        Tensor example = randn(1, 3, 8, 8);

        // begin blocks
        OnnxEmitters emitters = OnnxEmitters.Default
            .With<Residual>((context, block, x) => context.Relu(context.Add(x, context.Emit("conv2", context.Relu(context.Emit("conv1", x))))))
            .With<Blocks>((context, model, x) =>
            {
                x = context.Emit("stem", x);
                for (int i = 0; i < model.Count; i++) x = context.Emit($"blocks.{i}", x);   // a child of a ModuleList
                return context.Emit("head", context.Mean(x, [2, 3], keepDims: false));      // Mean(x, 2, 3) would keep both axes
            });
        model.ExportOnnx(path, example, new OnnxExportOptions { Emitters = emitters });
        // end blocks
        Assert.Contains(OnnxModelFile.Load(path).Graph.Node, node => node.Name == "blocks.1.conv2/Conv");
    }

    private static void Maps(string path, ResNet network, Tensor example)
    {
        // begin maps
        OnnxExportReport report = network.ExportOnnx(path, example, new OnnxExportOptions { AttentionMaps = true });
        // outputs: output, layer3.0.attn/Channel (batch, 256), layer3.0.attn/Spatial (batch, 4, 4), …
        // end maps
        Assert.Equal(["output (batch, 10)", "layer3.0.attn/Channel (batch, 256)", "layer3.0.attn/Spatial (batch, 4, 4)"], report.Outputs.Take(3));
    }

    private sealed class TwoPaths : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Conv2d left = nn.Conv2d(3, 3, 3, padding: 1), right = nn.Conv2d(3, 3, 3, padding: 1);
        private readonly Modules.Parameter scale = new(tensor([1.5f]));

        public TwoPaths()
            : base(nameof(TwoPaths)) => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            using DisposeScope scope = NewDisposeScope();
            return left.call(x).add(right.call(x).relu()).mul(scale).MoveToOuterDisposeScope();
        }
    }

    private sealed class Residual : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Conv2d conv1 = nn.Conv2d(4, 4, 3, padding: 1), conv2 = nn.Conv2d(4, 4, 3, padding: 1);

        public Residual()
            : base(nameof(Residual)) => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            using DisposeScope scope = NewDisposeScope();
            return x.add(conv2.call(conv1.call(x).relu())).relu().MoveToOuterDisposeScope();
        }
    }

    private sealed class Blocks : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Conv2d stem = nn.Conv2d(3, 4, 1);
        private readonly Modules.ModuleList<nn.Module<Tensor, Tensor>> blocks = nn.ModuleList<nn.Module<Tensor, Tensor>>(new Residual(), new Residual());
        private readonly Modules.Linear head = nn.Linear(4, 2);

        public Blocks()
            : base(nameof(Blocks)) => RegisterComponents();

        public int Count => blocks.Count;

        public override Tensor forward(Tensor x)
        {
            using DisposeScope scope = NewDisposeScope();
            x = stem.call(x);
            foreach (nn.Module<Tensor, Tensor> block in blocks) x = block.call(x);
            return head.call(x.mean([2L, 3L])).MoveToOuterDisposeScope();
        }
    }
}
