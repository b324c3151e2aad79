using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>Forward and backward of one gate, by libtorch's operations and by the fused kernels.</summary>
[MemoryDiagnoser(displayGenColumns: false)]
public class GateTrainingBenchmarks
{
    private GateModule _module = null!;
    private Tensor _input = null!;
    private Tensor _gradient = null!;

    [Params("se", "eca", "ese", "channel", "spatial", "cbam", "lcbam", "srm", "gct")]
    public string Kind { get; set; } = "";

    [Params("64x112x112", "256x56x56", "512x28x28", "1024x14x14", "2048x7x7", "96x56x56", "160x7x7")]
    public string Map { get; set; } = "";

    [Params(1, 8)]
    public int Batch { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        long[] sizes = [.. Map.Split('x').Select(long.Parse)];
        manual_seed(0);
        _module = (GateModule)AttentionCatalog.Create(Kind).Create((int)sizes[0]);
        _input = randn(Batch, sizes[0], sizes[1], sizes[2]).requires_grad_();
        _gradient = randn_like(_input);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        AttentionKernels.Enabled = true;
        _module.Dispose();
        _input.Dispose();
        _gradient.Dispose();
    }

    [Benchmark(Baseline = true)]
    public void Composed() => Step(fused: false);

    [Benchmark]
    public void Fused() => Step(fused: true);

    private void Step(bool fused)
    {
        AttentionKernels.Enabled = fused;
        using DisposeScope scope = NewDisposeScope();
        _input.grad = null;
        _module.zero_grad();
        _module.call(_input).backward([_gradient]);
    }
}

/// <summary>Forward and backward of whole networks at 224×224 with an attention before every addition, by libtorch's operations and by the fused kernels.</summary>
public class NetworkTrainingBenchmarks
{
    private FeatureNetwork _plain = null!;
    private FeatureNetwork _refined = null!;
    private Tensor _images = null!;

    [Params("resnet50", "mobilenetv2")]
    public string Network { get; set; } = "";

    [Params("se", "eca", "cbam")]
    public string Kind { get; set; } = "";

    [Params(1, 8)]
    public int Batch { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        manual_seed(0);
        _plain = Build(AttentionPlan.None);
        _refined = Build(AttentionPlan.Of(AttentionCatalog.Create(Kind)));
        _images = randn(Batch, 3, 224, 224);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        AttentionKernels.Enabled = true;
        _plain.Dispose();
        _refined.Dispose();
        _images.Dispose();
    }

    [Benchmark(Baseline = true)]
    public void Composed() => Step(_refined, fused: false);

    [Benchmark]
    public void Fused() => Step(_refined, fused: true);

    [Benchmark]
    public void Plain() => Step(_plain, fused: true);

    private FeatureNetwork Build(AttentionPlan plan)
        => Network == "resnet50" ? ResNet.ResNet50(attention: plan) : new MobileNetV2(new MobileNetV2Options { Attention = plan });

    private void Step(FeatureNetwork network, bool fused)
    {
        AttentionKernels.Enabled = fused;
        using DisposeScope scope = NewDisposeScope();
        network.train();
        network.zero_grad();
        network.call(_images).square().mean().backward();
    }
}
