using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>Inference of ResNet-18 at 224×224, plain and with an attention before every addition.</summary>
public class NetworkBenchmarks
{
    private ResNet _plain = null!;
    private ResNet _refined = null!;
    private Tensor _images = null!;

    [Params("se", "eca", "cbam", "bam")]
    public string Kind { get; set; } = "";

    [Params(1, 8)]
    public int Batch { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        manual_seed(0);
        _plain = ResNet.ResNet18();
        _refined = ResNet.ResNet18(attention: AttentionPlan.Of(AttentionCatalog.Create(Kind)));
        _plain.eval();
        _refined.eval();
        _images = randn(Batch, 3, 224, 224);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _plain.Dispose();
        _refined.Dispose();
        _images.Dispose();
    }

    [Benchmark(Baseline = true)]
    public void Plain() => Infer(_plain);

    [Benchmark]
    public void WithAttention() => Infer(_refined);

    private void Infer(ResNet network)
    {
        using IDisposable quiet = no_grad();
        using Tensor logits = network.call(_images);
    }
}
