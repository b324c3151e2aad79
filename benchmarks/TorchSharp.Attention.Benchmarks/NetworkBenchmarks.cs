using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>A network at 224×224: plain (the baseline), and with an attention before every addition, composed and fused.</summary>
public abstract class NetworkBenchmarks
{
    private protected FeatureNetwork Without { get; private set; } = null!;

    private protected FeatureNetwork With { get; private set; } = null!;

    private protected Tensor Images { get; private set; } = null!;

    [Params("resnet50", "mobilenetv2")]
    public string Network { get; set; } = "";

    [Params("se", "eca", "cbam")]
    public string Kind { get; set; } = "";

    [Params(1, 8)]
    public int Batch { get; set; }

    [GlobalSetup]
    public virtual void Setup()
    {
        manual_seed(0);
        Without = RatioCases.Build(Network, AttentionPlan.None);
        With = RatioCases.Build(Network, AttentionPlan.Of(RatioCases.Options(Kind)));
        Images = randn(Batch, 3, 224, 224);
    }

    [GlobalCleanup]
    public virtual void Cleanup()
    {
        AttentionKernels.Enabled = true;
        Without.Dispose();
        With.Dispose();
        Images.Dispose();
    }

    [Benchmark(Baseline = true)]
    public void Plain() => Run(Without, fused: true);

    [Benchmark]
    public void Composed() => Run(With, fused: false);

    [Benchmark]
    public void Fused() => Run(With, fused: true);

    private protected void Run(FeatureNetwork network, bool fused) => RatioCases.Run(network, Images, fused);
}

/// <summary>Inference, with the copies that <c>FuseForInference</c> makes.</summary>
public class NetworkInferenceBenchmarks : NetworkBenchmarks
{
    private FeatureNetwork _plainCopy = null!;
    private FeatureNetwork _copy = null!;

    public override void Setup()
    {
        base.Setup();
        Without.eval();
        With.eval();
        _plainCopy = RatioCases.Copy(Without);
        _copy = RatioCases.Copy(With);
    }

    public override void Cleanup()
    {
        _plainCopy.Dispose();
        _copy.Dispose();
        base.Cleanup();
    }

    [Benchmark]
    public void PlainCopy() => Run(_plainCopy, fused: true);

    [Benchmark]
    public void Copy() => Run(_copy, fused: true);
}

/// <summary>A training step's forward and backward.</summary>
public class NetworkTrainingBenchmarks : NetworkBenchmarks;
