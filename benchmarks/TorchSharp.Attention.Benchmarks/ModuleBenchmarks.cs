using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>One module on one map of ResNet-50 at 224×224, inference and a training step's forward and backward.</summary>
[MemoryDiagnoser(displayGenColumns: false)]
public class ModuleBenchmarks
{
    private AttentionModule _module = null!;
    private Tensor _input = null!;

    [Params("se", "eca", "channel", "spatial", "cbam", "bam", "self")]
    public string Kind { get; set; } = "";

    [Params("256x56x56", "512x28x28", "2048x7x7")]
    public string Map { get; set; } = "";

    [Params(1, 8)]
    public int Batch { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        long[] sizes = [.. Map.Split('x').Select(long.Parse)];
        manual_seed(0);
        _module = AttentionCatalog.Create(Kind).Create((int)sizes[0]);
        _input = randn(Batch, sizes[0], sizes[1], sizes[2], requires_grad: true);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _module.Dispose();
        _input.Dispose();
    }

    [Benchmark]
    public void Inference()
    {
        _module.eval();
        using IDisposable quiet = no_grad();
        using Tensor y = _module.call(_input);
    }

    [Benchmark]
    public void ForwardBackward()
    {
        _module.train();
        using Tensor y = _module.call(_input);
        using Tensor loss = y.sum();
        loss.backward();
    }
}
