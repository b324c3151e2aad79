using TorchSharp.Attention.Onnx.Schema;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Windows that reach over the end, and sums over large even maps.</summary>
public sealed class QuantizedPoolTests : IDisposable
{
    private static readonly QuantizationOptions _options = new() { Threads = 1, ReduceRange = true };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<int, int, int, int, bool, bool> Averages => new()
    {
        { 7, 2, 2, 0, true, true },
        { 7, 2, 2, 0, true, false },
        { 7, 3, 2, 1, true, true },
        { 8, 3, 2, 1, true, true },
        { 5, 2, 2, 1, true, true },
        { 9, 3, 3, 1, true, false },
        { 7, 3, 2, 1, false, true },
    };

    /// <summary>A pool between two convolutions of a network that is exported and quantized.</summary>
    [Theory]
    [MemberData(nameof(Averages))]
    public void Average_pools_are_right_as_integers(int size, int kernel, int stride, int padding, bool ceil, bool countPads)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        using Sequential network = nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.ReLU(), nn.AvgPool2d(kernel, stride, padding, ceil_mode: ceil, count_include_pad: countPads), nn.Conv2d(8, 8, 1));
        string path = _folder.PathOf("float.onnx"), quantized = _folder.PathOf("int8.onnx");
        network.ExportOnnx(path, randn(2, 3, size, size));
        Near(path, quantized, [.. Enumerable.Range(0, 4).Select(i => OnnxBatch.From(i == 0 ? ones(2, 3, size, size) : randn(2, 3, size, size)))]);
    }

    /// <summary>The same in files of others, which say it in their own way.</summary>
    [Theory]
    [InlineData("AveragePool", 7, 2, 0, 1, 1)]
    [InlineData("AveragePool", 7, 3, 1, 1, 1)]
    [InlineData("AveragePool", 5, 2, 1, 1, 1)]
    [InlineData("AveragePool", 7, 3, 1, 0, 1)]
    [InlineData("AveragePool", 9, 2, 0, 0, 2)]
    [InlineData("AveragePool", 9, 3, 1, 0, 2)]
    [InlineData("MaxPool", 7, 2, 0, 1, 1)]
    [InlineData("MaxPool", 5, 2, 1, 1, 1)]
    [InlineData("MaxPool", 9, 3, 1, 0, 2)]
    [InlineData("LpPool", 7, 3, 1, 1, 1)]
    public void Pools_of_other_files_are_right_as_integers(string op, int size, int kernel, int padding, int ceil, int dilation)
    {
        bool newer = dilation > 1 || op == "LpPool";
        QuantizationGraphs g = new(4, newer ? 19 : 13, -1, 3, size, size);
        List<AttributeProto> settings = [NodeGraph.Ints("kernel_shape", kernel, kernel), NodeGraph.Ints("strides", 2, 2), NodeGraph.Ints("pads", padding, padding, padding, padding), NodeGraph.Int("ceil_mode", ceil)];
        if (op == "AveragePool") settings.Add(NodeGraph.Int("count_include_pad", 1));
        if (dilation > 1) settings.Add(NodeGraph.Ints("dilations", dilation, dilation));
        string x = g.Node(op, "pool", [g.Node("Relu", "relu", [g.Conv("first", "input", 3, 8, 1)])], [.. settings]);
        string path = _folder.PathOf("float.onnx");
        OnnxModelFile.Save(g.Output(g.Node("Conv", "second", [x, g.Noise("second.weight", 0.4, 0, 8, 8, 1, 1)])), path);
        Near(path, _folder.PathOf("int8.onnx"), [new OnnxBatch([.. Enumerable.Repeat(1f, 2 * 3 * size * size)], 2, 3, size, size), .. QuantizationGraphs.Batches(2, 3, 2, 3, size, size)]);
    }

    /// <summary>Windows that begin beyond the input are none, for the file as for the network.</summary>
    [Theory]
    [InlineData(5, 2, 2, 1)]
    [InlineData(7, 2, 2, 1)]
    [InlineData(6, 2, 3, 1)]
    [InlineData(4, 3, 3, 1)]
    public void Windows_that_begin_beyond_the_input(int size, int kernel, int stride, int padding)
    {
        using DisposeScope scope = NewDisposeScope();
        foreach (nn.Module<Tensor, Tensor> pool in new nn.Module<Tensor, Tensor>[]
        {
            nn.MaxPool2d(kernel, stride, padding, ceil_mode: true),
            nn.AvgPool2d(kernel, stride, padding, ceil_mode: true),
            nn.AvgPool2d(kernel, stride, padding, ceil_mode: true, count_include_pad: false),
        })
        {
            OnnxExportReport report = pool.ExportOnnx(_folder.PathOf("pool.onnx"), randn(2, 3, size, size + 1));
            Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-6);
        }
    }

    public static TheoryData<string> Globals => ["pool", "mean", "gate", "deviation", "sum", "norm", "squares", "groups", "instances", "windows", "dynamic"];

    /// <summary>Over an even map the roundings of one long sum go the same way; in stages they stay small.</summary>
    [Theory]
    [MemberData(nameof(Globals))]
    public void Sums_over_large_even_maps_are_right(string kind)
    {
        using DisposeScope scope = NewDisposeScope();
        const long Size = 1024;
        nn.Module<Tensor, Tensor> module = kind switch
        {
            "pool" or "dynamic" => nn.AdaptiveAvgPool2d(1),
            "gate" => new SqueezeExcitation(8, new() { Reduction = 2 }),
            "deviation" => new StyleRecalibration(8),
            "groups" => Started(nn.GroupNorm(2, 8)),
            "instances" => nn.InstanceNorm2d(8, affine: true),
            "windows" => nn.AvgPool2d(512),
            _ => new Global(kind),
        };
        string path = _folder.PathOf("mean.onnx");
        Tensor even = full([1, 8, Size, Size], 0.1f);
        // Two values, so that a deviation is not rounding alone.
        if (kind is "deviation" or "groups" or "instances") even.slice(3, 0, Size, 2).fill_(0.3f);
        OnnxEmitters emitters = OnnxEmitters.Default.With<Global>((context, module, x) => module.Kind switch
        {
            "mean" => context.Mean(x, [2, 3], keepDims: false),
            "sum" => context.Sum(x, [2, 3], keepDims: false),
            "norm" => context.Reduce("ReduceL2", x, [2, 3]),
            _ => context.Reduce("ReduceSumSquare", x, [-2, -1]),
        });
        module.eval();
        module.ExportOnnx(path, kind == "dynamic" ? randn(1, 8, 16, 16) : even, new OnnxExportOptions
        {
            Emitters = emitters,
            Verify = kind == "dynamic",
            DynamicAxes = kind == "dynamic" ? OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size : OnnxDynamicAxes.Batch,
        });
        using OnnxSession session = new(path);
        Tensor found = session.Run([("input", even)])["output"], exact;
        using (no_grad()) exact = module.to(ScalarType.Float64).call(even.to(ScalarType.Float64));
        Assert.Equal(exact.shape, found.shape);
        double error = (found.to(ScalarType.Float64) - exact).abs().max().item<double>() / exact.abs().max().item<double>();

        // A norm divides by the deviation, here half of the mean, and a group adds up four million values.
        Assert.True(error < (kind == "groups" ? 5e-5 : 2e-5), $"{kind}: {error:e2}");
        module.Dispose();
    }

    /// <summary>TorchSharp 0.107 leaves the weights of a group norm as its memory was.</summary>
    internal static GroupNorm Started(GroupNorm norm)
    {
        nn.init.ones_(norm.weight!);
        nn.init.zeros_(norm.bias!);
        return norm;
    }

    /// <summary>Integers take the mean of both axes at once, exactly; what stays in float stays in stages.</summary>
    [Fact]
    public void A_mean_in_stages_is_one_integer_node()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(5);
        using Sequential network = nn.Sequential(nn.Conv2d(3, 8, 3, padding: 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1));
        string path = _folder.PathOf("float.onnx"), quantized = _folder.PathOf("int8.onnx");
        network.ExportOnnx(path, randn(1, 3, 80, 80));
        Assert.Equal(2, OnnxModelFile.Load(path).Graph.Node.Count(node => node.OpType == "ReduceMean"));
        OnnxBatch[] batches = [.. Enumerable.Range(0, 4).Select(i => OnnxBatch.From(i == 0 ? ones(1, 3, 80, 80) : randn(1, 3, 80, 80)))];
        QuantizationReport report = Near(path, quantized, batches);
        Assert.Equal(1, report.RuntimeOperators["com.microsoft.QLinearGlobalAveragePool"]);
        Assert.False(report.Operators.ContainsKey("ReduceMean"));
        QuantizationReport kept = OnnxQuantizer.Quantize(path, quantized, batches, _options with { ExcludeOperators = ["ReduceMean"] });
        Assert.Equal(2, kept.Operators["ReduceMean"]);
    }

    private static QuantizationReport Near(string path, string quantized, OnnxBatch[] batches)
    {
        QuantizationReport report = OnnxQuantizer.Quantize(path, quantized, batches, _options);
        QuantizationEffect effect = OnnxSensitivity.Compare(path, quantized, batches, 1);
        Assert.True(effect.Sqnr > 30, $"{effect.Sqnr:0.0} dB; {report}");
        return report;
    }

    private sealed class Global(string kind) : nn.Module<Tensor, Tensor>(nameof(Global))
    {
        public string Kind => kind;

        public override Tensor forward(Tensor x) => kind switch
        {
            "mean" => x.mean([2L, 3L]),
            "sum" => x.sum([2L, 3L]),
            "norm" => x.square().sum([2L, 3L], keepdim: true).sqrt(),
            _ => x.square().sum([2L, 3L], keepdim: true),
        };
    }
}
