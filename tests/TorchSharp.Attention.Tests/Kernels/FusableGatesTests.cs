namespace TorchSharp.Attention.Tests;

/// <summary>The list of gates with fused kernels says what the kernels do: no kind is missing, and each path is the one that runs.</summary>
public sealed class FusableGatesTests : IDisposable
{
    private readonly KernelSettings _kernels = KernelSettings.ForAnySize();

    public void Dispose() => _kernels.Dispose();

    [Fact]
    public void Every_kind_that_the_kernels_run_is_in_the_list()
    {
        string[] run = [.. AttentionCatalog.Kinds.Where(kind => RunsByDefault(AttentionCatalog.Create(kind)))];
        Assert.Equal(run.Order(), FusableGates.Kinds.Order());
    }

    [Fact]
    public void Every_gate_runs_on_the_kernels_in_inference_and_in_training()
    {
        foreach (FusableGate gate in FusableGates.All)
        {
            foreach (bool training in (bool[])[false, true]) Assert.True(Runs(gate.Create(8), training), $"{gate}, training: {training}");
        }
    }

    [Fact]
    public void Every_gate_takes_the_paths_that_the_list_gives_it()
    {
        (string, FusedPaths)[] found = [.. FusableGates.All.Select(gate => (gate.Name, PathsOf(gate)))];
        Assert.Equal(FusableGates.All.Select(gate => (gate.Name, gate.Paths)), found);
    }

    private static FusedPaths PathsOf(FusableGate gate)
    {
        using DisposeScope scope = NewDisposeScope();
        GateTrial trial = new(gate, 2, 8, 6, 5, Seed: 1) { Training = true };
        using GateModule module = trial.Build();
        using Modules.BatchNorm2d norm = nn.BatchNorm2d(8);
        Tensor x = trial.Map().requires_grad_(), residual = trial.NextMap();
        FusedPaths paths = FusedPaths.None;
        if (module.TryGateAddRelu(x, residual) is not null) paths |= FusedPaths.AddRelu;
        if (module.TryFuseAfterNorm(norm, x, residual) is not null) paths |= FusedPaths.AfterNorm;
        module.eval();
        using IDisposable quiet = no_grad();
        Assert.True(MapView.TryOf(x, out MapView view));
        bool oneRegion = GateParts.Of(module) is { } parts && InferenceGateKernel.TryRun(parts, view, x, overwrite: false, null) is not null;
        return oneRegion ? paths | FusedPaths.OneRegion : paths;
    }

    private static bool RunsByDefault(AttentionOptions options)
    {
        if (options is GuidedAttentionOptions or BranchAttentionOptions || options.GetType().Assembly != typeof(AttentionOptions).Assembly) return false;
        using AttentionModule module = options.Create(128);
        return module is GateModule gate && Runs(gate, training: false);
    }

    private static bool Runs(GateModule module, bool training)
    {
        using DisposeScope scope = NewDisposeScope();
        using GateModule gate = module;
        using IDisposable mode = training ? enable_grad() : no_grad();
        gate.train(training);
        return FusedGate.TryRun(gate, randn(2, gate.Channels, 6, 5), overwrite: false) is not null;
    }
}
