using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>One gate on one map, by libtorch's operations (composed, the baseline) and by the fused kernels.</summary>
[MemoryDiagnoser(displayGenColumns: false)]
public abstract class GateBenchmarks
{
    private protected GateModule Module { get; private set; } = null!;

    private protected Tensor Input { get; private set; } = null!;

    [ParamsSource(nameof(Kinds))]
    public string Kind { get; set; } = "";

    [ParamsSource(nameof(Maps))]
    public string Map { get; set; } = "";

    [Params(1, 8)]
    public int Batch { get; set; }

    public static IEnumerable<string> Kinds => RatioCases.Kinds;

    public static IEnumerable<string> Maps => RatioCases.Maps;

    [GlobalSetup]
    public virtual void Setup()
    {
        string shape = $"{Batch}x{Map}";
        Module = RatioCases.Module(Kind, shape);
        Input = RatioCases.Map(shape, "nchw");
    }

    [GlobalCleanup]
    public virtual void Cleanup()
    {
        AttentionKernels.Enabled = true;
        Module.Dispose();
        Input.Dispose();
    }
}

/// <summary>Inference: composed, fused with a fresh output, fused over the map itself.</summary>
public class GateInferenceBenchmarks : GateBenchmarks
{
    private Tensor _scratch = null!;

    public override void Setup()
    {
        base.Setup();
        Module.eval();
        _scratch = Input.clone();
    }

    public override void Cleanup()
    {
        _scratch.Dispose();
        base.Cleanup();
    }

    /// <summary>Over and over a gate below one would end in denormal numbers, which are slow.</summary>
    [IterationSetup(Target = nameof(InPlace))]
    public void Refill()
    {
        using IDisposable quiet = no_grad();
        _scratch.copy_(Input);
    }

    [Benchmark(Baseline = true)]
    public void Composed() => RatioCases.Infer(Module, Input, fused: false);

    [Benchmark]
    public void Fused() => RatioCases.Infer(Module, Input, fused: true);

    [Benchmark]
    public void InPlace() => RatioCases.InferOver(Module, _scratch);
}

/// <summary>A training step's forward and backward.</summary>
public class GateTrainingBenchmarks : GateBenchmarks
{
    private Tensor _gradient = null!;

    public override void Setup()
    {
        base.Setup();
        Input.requires_grad_();
        _gradient = randn_like(Input);
    }

    public override void Cleanup()
    {
        _gradient.Dispose();
        base.Cleanup();
    }

    [Benchmark(Baseline = true)]
    public void Composed() => RatioCases.Step(Module, Input, _gradient, fused: false);

    [Benchmark]
    public void Fused() => RatioCases.Step(Module, Input, _gradient, fused: true);
}
