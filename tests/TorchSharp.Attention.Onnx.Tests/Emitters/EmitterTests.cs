using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What emitters of one's own may do, and what happens to those that are wrong.</summary>
public sealed class EmitterTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Path => _folder.PathOf("network.onnx");

    private static OnnxExportOptions Open => new() { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size, AttentionMaps = true };

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_value_may_be_returned_twice()
    {
        using DisposeScope scope = NewDisposeScope();
        using PairNetwork network = new(x => (x.relu(), x.relu()));
        OnnxExportReport report = network.ExportOnnx(Path, randn(2, 3), With<PairNetwork>((context, inputs) => context.Relu(inputs[0]) is var y ? [y, y] : []));
        Assert.Equal(["output1 (batch, 3)", "output2 (batch, 3)"], report.Outputs);
        Assert.Equal(0, report.MaxRelativeError);
        IReadOnlyDictionary<string, Tensor> found = RunFile(("input", tensor([-1f, 2, 3], [1, 3])));
        Assert.Equal([0f, 2, 3], found["output1"].data<float>().ToArray());
        Assert.Equal([0f, 2, 3], found["output2"].data<float>().ToArray());
        Assert.Equal(["Relu", "Identity"], Graph().Node.Select(node => node.OpType));
    }

    [Fact]
    public void An_input_may_be_returned_as_it_is()
    {
        using DisposeScope scope = NewDisposeScope();
        using PairNetwork network = new(x => (x.alias(), x.neg()));
        network.ExportOnnx(Path, randn(2, 3), With<PairNetwork>((context, inputs) => [inputs[0], context.Mul(inputs[0], -1)]));
        Assert.Equal([1f, -2, 0], RunFile(("input", tensor([1f, -2, 0], [1, 3])))["output1"].data<float>().ToArray());
    }

    [Fact]
    public void Whole_numbers_and_truth_values_may_be_outputs()
    {
        using DisposeScope scope = NewDisposeScope();
        using Scalar zero = 0.ToScalar();
        using PairNetwork network = new(x => (x.argmax(1, keepdim: true), x.gt(zero)));
        OnnxExportReport report = network.ExportOnnx(Path, randn(2, 3), With<PairNetwork>((context, inputs) =>
        [
            context.Node("ArgMax", [inputs[0]], [([inputs[0][0], 1], OnnxElementType.Int64)], ("axis", 1L), ("keepdims", 1L))[0],
            context.Node("Greater", [inputs[0], context.Scalar(0)], [(inputs[0].Shape, OnnxElementType.Bool)])[0],
        ]));
        Assert.Equal(0, report.MaxRelativeError);
        IReadOnlyDictionary<string, Tensor> found = RunFile(("input", tensor([-1f, 2, 3], [1, 3])));
        Assert.Equal([2L], found["output1"].data<long>().ToArray());
        Assert.Equal([false, true, true], found["output2"].data<bool>().ToArray());
        Assert.Throws<OnnxVerificationException>(() => network.ExportOnnx(Path, randn(2, 3), With<PairNetwork>((context, inputs) =>
        [
            context.Node("ArgMin", [inputs[0]], [([inputs[0][0], 1], OnnxElementType.Int64)], ("axis", 1L), ("keepdims", 1L))[0],
            context.Node("Less", [inputs[0], context.Scalar(0)], [(inputs[0].Shape, OnnxElementType.Bool)])[0],
        ])));
    }

    [Fact]
    public void What_no_output_depends_on_is_left_out()
    {
        using DisposeScope scope = NewDisposeScope();
        using PairNetwork network = new(x => (x.relu(), x.sigmoid()));
        network.ExportOnnx(Path, randn(2, 3), With<PairNetwork>((context, inputs) =>
        {
            context.Add(context.Constant([1f, 2, 3], 3), context.Elementwise("Tanh", inputs[0]));
            return [context.Relu(inputs[0]), context.Sigmoid(inputs[0])];
        }));
        Assert.Equal(["Relu", "Sigmoid"], Graph().Node.Select(node => node.OpType));
        Assert.Empty(Graph().Initializer);
    }

    [Fact]
    public void A_file_that_the_runtime_does_not_take_is_no_success()
    {
        using DisposeScope scope = NewDisposeScope();
        using PairNetwork network = new(x => (x.relu(), x.sigmoid()));
        OnnxVerificationException error = Assert.Throws<OnnxVerificationException>(() => network.ExportOnnx(
            Path, randn(2, 3), With<PairNetwork>((context, inputs) => [context.Elementwise("NoSuchOperator", inputs[0]), context.Sigmoid(inputs[0])])));
        Assert.Contains("ONNX Runtime does not take the file of PairNetwork", error.Message, StringComparison.Ordinal);
        Assert.Contains("NoSuchOperator", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(".tmp", error.Message, StringComparison.Ordinal);
        Assert.Empty(_folder.Files());
    }

    [Fact]
    public void Products_and_pads_that_do_not_fit_are_named_while_the_graph_is_written()
    {
        using DisposeScope scope = NewDisposeScope();
        using PairNetwork network = new(x => (x, x));
        ArgumentException product = Assert.Throws<ArgumentException>(() => network.ExportOnnx(
            Path, randn(2, 3), With<PairNetwork>((context, inputs) => [context.MatMul(inputs[0], context.Constant([1f, 2, 3, 4], 4, 1)), inputs[0]])));
        Assert.Contains("right is 'constant' (4, 1), whose second axis from the end must be as long as the last axis of 'input'", product.Message, StringComparison.Ordinal);
        ArgumentException pad = Assert.Throws<ArgumentException>(() => network.ExportOnnx(
            Path, randn(2, 3), With<PairNetwork>((context, inputs) => [context.Pad(inputs[0], "constant", [0, 0, 1], [0, 0, 0]), inputs[0]])));
        Assert.Contains("first and last have 3 and 3 numbers; give one for each of the 2 axes", pad.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_gate_of_ones_own_is_described_by_its_gate_alone()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(5);
        using MeanGate gate = new(4, new SimAmOptions { Initialization = AttentionInitialization.Identity });
        ExportTests.Disturb(gate); // Alpha is no longer zero.
        OnnxExportReport report = gate.ExportOnnx(Path, randn(2, 4, 5, 6), Open with
        {
            Emitters = OnnxEmitters.Default.WithGate<MeanGate>((context, _, x) => context.Sigmoid(context.Mul(context.Mean(x, 2, 3), context.Parameter("slope")))),
        });
        Assert.Equal(["output (batch, 4, height, width)", "Channel (batch, 4)"], report.Outputs);
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-6);
        Tensor x = randn(1, 4, 3, 3);
        IReadOnlyDictionary<string, Tensor> found = RunFile(("input", x));
        Assert.True(found["output"].allclose(x.mul(found["Channel"].view(1, 4, 1, 1)), rtol: 1e-5, atol: 1e-6));
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void A_context_of_ones_own_is_described_by_its_context_alone(bool residual, bool identity)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(5);
        using MeanContext module = new(
            4, new SimAmOptions { Initialization = identity ? AttentionInitialization.Identity : AttentionInitialization.Paper }, residual);
        ExportTests.Disturb(module);
        OnnxExportReport report = module.ExportOnnx(Path, randn(2, 4, 5, 6), Open with
        {
            Emitters = OnnxEmitters.Default.WithContext<MeanContext>((context, _, x) =>
            {
                OnnxLength positions = x[2] * x[3];
                if (context.WantsMaps) context.Map(AttentionMapKind.Pairwise, context.Expand(context.Div(context.Scalar(1), context.Number(positions)), x[0], 1, 1, positions));
                return context.Expand(context.Mean(x, 2, 3), x.Shape);
            }),
        });
        Assert.Equal(["output (batch, 4, height, width)", "Pairwise (batch, 1, 1, ?)"], report.Outputs);
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-6);
    }

    [Fact]
    public void An_attention_that_is_called_twice_has_the_maps_of_the_last_call()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(6);
        using TwiceNetwork network = new();
        ExportTests.Disturb(network);
        OnnxExportReport report = network.ExportOnnx(
            Path, randn(2, 4, 5, 6), Open with { Emitters = OnnxEmitters.Default.With<TwiceNetwork>((context, _, x) => context.Emit("attention", context.Emit("attention", x))) });
        Assert.Equal(["output (batch, 4, height, width)", "attention/Channel (batch, 4)", "attention/Spatial (batch, height, width)"], report.Outputs);
        Tensor x = randn(1, 4, 5, 6);
        network.eval();
        using AttentionRecorder recorder = AttentionRecorder.Attach(network);
        network.call(x);
        Assert.True(RunFile(("input", x))["attention/Channel"].allclose(recorder["attention"].ChannelGate!, rtol: 1e-4, atol: 1e-6));
        AssertNothingUnread(Graph());
    }

    [Fact]
    public void A_map_that_no_recorder_has_is_named()
    {
        using DisposeScope scope = NewDisposeScope();
        using MeanGate gate = new(4, new SimAmOptions());
        OnnxVerificationException kind = Assert.Throws<OnnxVerificationException>(() => gate.ExportOnnx(Path, randn(2, 4, 5, 6), Open with
        {
            Emitters = OnnxEmitters.Default.WithGate<MeanGate>((context, _, x) =>
            {
                context.Map(AttentionMapKind.Branch, x);
                return context.Sigmoid(context.Mul(context.Mean(x, 2, 3), context.Parameter("slope")));
            }),
        }));
        Assert.Contains("The map 'Branch' could not be checked: an AttentionRecorder records Channel of it.", kind.Message, StringComparison.Ordinal);

        using TwiceNetwork network = new(hidden: true);
        OnnxVerificationException unreached = Assert.Throws<OnnxVerificationException>(() => network.ExportOnnx(
            Path, randn(2, 4, 5, 6), Open with { Emitters = OnnxEmitters.Default.With<TwiceNetwork>((context, _, x) => context.Emit("attention", context.Emit("attention", x))) }));
        Assert.Contains("no call of TwiceNetwork reached 'attention'", unreached.Message, StringComparison.Ordinal);
        Assert.Empty(_folder.Files());
    }

    [Fact]
    public void Maps_of_one_position_are_compared_too()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(8);
        using ResNet network = new ResNetOptions
        {
            Layers = [1, 1, 1, 1],
            StagePlanes = [8, 8, 8, 8],
            StemWidth = 8,
            Classes = 3,
            Attention = AttentionPlan.Of(new BamOptions { Reduction = 4 }).InStages(4),
        }.Create();
        ExportTests.Disturb(network);
        OnnxExportReport report = network.ExportOnnx(Path, randn(2, 3, 32, 32), Open);
        Assert.Equal(["output (batch, 3)", "layer4.0.attn/Element (batch, 8, ?, ?)", "layer4.0.attn/Channel (batch, 8)", "layer4.0.attn/Spatial (batch, ?, ?)"], report.Outputs);
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-5);
        network.eval();
        foreach (long size in new[] { 32, 64 })
        {
            Tensor x = randn(1, 3, size, size);
            IReadOnlyDictionary<string, Tensor> found = RunFile(("input", x));
            using AttentionRecorder recorder = AttentionRecorder.Attach(network);
            network.call(x);
            Assert.Equal([1, 8, size / 32, size / 32], found["layer4.0.attn/Element"].shape);
            Assert.True(found["layer4.0.attn/Channel"].allclose(recorder["layer4.0.attn"].ChannelGate!, rtol: 1e-4, atol: 1e-5));
        }
    }

    [Fact]
    public void An_emitter_that_is_right_for_small_values_alone_is_found_out()
    {
        using DisposeScope scope = NewDisposeScope();
        using Scalar least = (-6).ToScalar(), most = 6.ToScalar();
        using PairNetwork network = new(x => (x.clamp(least, most), x.relu()));
        OnnxVerificationException error = Assert.Throws<OnnxVerificationException>(
            () => network.ExportOnnx(Path, randn(1, 64), With<PairNetwork>((context, inputs) => [inputs[0], context.Relu(inputs[0])])));
        Assert.StartsWith("The file computes something else than PairNetwork: output 'output1'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_emitter_that_is_right_for_even_sizes_alone_is_found_out()
    {
        using DisposeScope scope = NewDisposeScope();
        using SizedNetwork network = new(x => x.size(2) % 2 == 0 ? x.relu() : x.neg());
        OnnxVerificationException error = Assert.Throws<OnnxVerificationException>(
            () => network.ExportOnnx(Path, randn(1, 3, 8, 8), Open with { AttentionMaps = false, Emitters = OnnxEmitters.Default.With<SizedNetwork>((context, _, x) => context.Relu(x)) }));
        Assert.Contains("at input [1, 3, 9, 9] differs", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Whatever_a_network_throws_at_another_size_is_a_refusal()
    {
        using DisposeScope scope = NewDisposeScope();
        using SizedNetwork network = new(x => x.size(2) % 8 == 0 && x.size(3) % 8 == 0 ? x.relu() : throw new InvalidOperationException("Eight by eight it is."));
        OnnxExportReport report = network.ExportOnnx(
            Path, randn(1, 3, 16, 16), Open with { AttentionMaps = false, Emitters = OnnxEmitters.Default.With<SizedNetwork>((context, _, x) => context.Relu(x)) });
        OnnxSkippedCheck skipped = Assert.Single(report.Skipped);
        Assert.Equal("[1, 3, 17, 17]: Eight by eight it is.", skipped.ToString());
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => network.ExportOnnx(
            Path, randn(1, 3, 12, 16), Open with { AttentionMaps = false, Emitters = OnnxEmitters.Default.With<SizedNetwork>((context, _, x) => context.Relu(x)) }));
        Assert.Equal("Eight by eight it is.", error.Message);
    }

    /// <summary>Whether every value and constant of a graph is somebody's input or an output.</summary>
    internal static void AssertNothingUnread(GraphProto graph)
    {
        HashSet<string> read = [.. graph.Node.SelectMany(node => node.Input), .. graph.Output.Select(output => output.Name)];
        Assert.DoesNotContain(graph.Node, node => !node.Output.Any(read.Contains));
        Assert.DoesNotContain(graph.Initializer, constant => !read.Contains(constant.Name));
    }

    private static OnnxExportOptions With<TModule>(Func<OnnxContext, IReadOnlyList<OnnxValue>, IReadOnlyList<OnnxValue>> emit)
        where TModule : nn.Module => new() { Emitters = OnnxEmitters.Default.WithMultiple<TModule>((context, _, inputs) => emit(context, inputs)) };

    private GraphProto Graph() => OnnxModelFile.Load(Path).Graph;

    private IReadOnlyDictionary<string, Tensor> RunFile(params (string Name, Tensor Value)[] inputs)
    {
        using OnnxSession session = new(Path);
        return session.Run(inputs);
    }

    private sealed class PairNetwork(Func<Tensor, (Tensor, Tensor)> run) : nn.Module<Tensor, (Tensor, Tensor)>(nameof(PairNetwork))
    {
        public override (Tensor, Tensor) forward(Tensor x) => run(x);
    }

    private sealed class SizedNetwork(Func<Tensor, Tensor> run) : nn.Module<Tensor, Tensor>(nameof(SizedNetwork))
    {
        public override Tensor forward(Tensor x) => run(x);
    }

    private sealed class MeanGate : GateModule
    {
        private readonly Modules.Parameter slope = new(tensor([1.5f, 1, -0.5f, 2], [1, 4, 1, 1]));

        public MeanGate(int channels, AttentionOptions options)
            : base(channels, options) => Complete();

        protected override Tensor ComputeGate(Tensor input) => input.mean([2, 3], keepdim: true).mul(slope).sigmoid();
    }

    private sealed class MeanContext : ContextModule
    {
        public MeanContext(int channels, AttentionOptions options, bool residual)
            : base(channels, options, residual) => Complete();

        protected override Tensor ComputeContext(Tensor input) => input.mean([2, 3], keepdim: true).expand_as(input);

        protected override Tensor ComputeWeights(Tensor input)
        {
            using Scalar share = (1f / (input.size(2) * input.size(3))).ToScalar();
            return full([input.size(0), 1, 1, input.size(2) * input.size(3)], share);
        }
    }

    private sealed class TwiceNetwork : nn.Module<Tensor, Tensor>
    {
        private readonly Cbam attention = new(4, new CbamOptions { Reduction = 2, KernelSize = 3 });
        private readonly bool _hidden;

        public TwiceNetwork(bool hidden = false)
            : base(nameof(TwiceNetwork))
        {
            _hidden = hidden;
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using DisposeScope scope = NewDisposeScope();
            return (_hidden ? attention.forward(attention.forward(x)) : attention.call(attention.call(x))).MoveToOuterDisposeScope();
        }
    }
}
