using System.Globalization;

namespace TorchSharp.Attention.Tests;

/// <summary>A thousand forward and backward steps leave not one tensor more alive; the count is printed.</summary>
public sealed class LiveTensorTests(ITestOutputHelper output)
{
    private const int Steps = 1000;

    public static TheoryData<string> ModuleNames => Row.Names;

    /// <summary>Modules whose gates decompose for the fused kernels.</summary>
    public static TheoryData<string> KernelNames => [.. Row.All.Where(row => row.GuideChannels == 0 && Decomposes(row)).Select(row => row.Name)];

    public static TheoryData<string> Kinds => Row.Kinds;

    public static TheoryData<string> NetworkNames => Cases.NetworkNames;

    [Theory]
    [MemberData(nameof(ModuleNames))]
    public void A_module_leaves_no_tensor_alive(string name) => Module(name, Row.Named(name));

    /// <summary>The other tests' maps are small enough for libtorch's operations.</summary>
    [Theory]
    [MemberData(nameof(KernelNames))]
    public void A_module_on_the_kernels_leaves_no_tensor_alive(string name)
    {
        using KernelSettings kernels = KernelSettings.ForAnySize();
        Module(name + ", kernels", Row.Named(name));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_module_with_identity_start_and_drops_leaves_nothing_behind(string name)
    {
        Row row = Row.Named(name);
        AttentionOptions options = row.Options with { Initialization = AttentionInitialization.Identity, Dropout = 0.2, AttentionDropPath = 0.3 };
        if (options is SelfAttention2dOptions self) options = self with { AttentionDropout = 0.1 };
        if (options is SparseAttentionOptions sparse) options = sparse with { AttentionDropout = 0.1 };
        Module(name + ", drops", row with { Options = options });
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void A_network_leaves_nothing_behind(string name)
    {
        using FeatureNetwork network = Cases.Networks[name]();
        using Tensor x = randn(2, 3, 9, 8, requires_grad: true);
        Repeat(name, network, x, () => network.call(x));
        Measure(name + ", features", 100, () =>
        {
            foreach (Tensor map in network.Features(x)) map.Dispose();
        });
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void A_fused_network_leaves_nothing_behind(string name)
    {
        using FeatureNetwork network = Cases.Networks[name]();
        using FeatureNetwork fused = network.FuseForInference();
        using Tensor x = randn(2, 3, 9, 8);
        Measure(name + ", fused", 250, () => fused.call(x).Dispose());
        using (no_grad()) Measure(name + ", fused, without gradients", 250, () => fused.call(x).Dispose());
        Measure(name + ", features", 100, () =>
        {
            foreach (Tensor map in fused.Features(x)) map.Dispose();
        });
    }

    [Theory]
    [MemberData(nameof(ModuleNames))]
    public void Maps_on_demand_leave_no_tensor_alive(string name)
    {
        using Subject subject = new(Row.Named(name), ScalarType.Float32);
        using Tensor x = randn(2, subject.Row.Channels, 5, 4);
        using Tensor? guide = Guide(subject.Row);
        Measure(name, 100, () =>
        {
            using Tensor map = subject.Module is DynamicAttention dynamic
                ? dynamic.Weights(x)
                : subject.Gate(x, guide) ?? ((ContextModule)subject.Module).Weights(x);
        });
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Fusing_leaves_no_tensor_alive(string name)
    {
        using FeatureNetwork network = Cases.Networks[name]();
        Measure(name + ", fusing", 20, () => network.FuseForInference().Dispose());
    }

    [Fact]
    public void Measuring_cost_leaves_nothing_behind_and_no_hook()
    {
        using FeatureNetwork network = Cases.Networks["mobilenetv2, attention everywhere"]();
        ModelCost first = ModelCost.Measure(network, 1, 3, 16, 16);
        Measure("cost", 20, () => Assert.Equal(first, ModelCost.Measure(network, 1, 3, 16, 16)));
    }

    [Fact]
    public void A_module_built_inside_a_dispose_scope_outlives_it()
    {
        List<(string Name, nn.Module<Tensor, Tensor> Module)> built = [];
        using (NewDisposeScope())
        {
            foreach (Row row in Row.All.Where(row => row.GuideChannels == 0)) built.Add((row.Name, row.Options.Create(row.Channels)));
            foreach ((string name, Func<FeatureNetwork> create) in Cases.Networks) built.Add((name, create()));
        }

        foreach ((string name, nn.Module<Tensor, Tensor> module) in built)
        {
            Assert.All(module.state_dict(), entry => Assert.False(entry.Value.IsInvalid, $"{name}: {entry.Key}"));
            using Tensor x = randn(2, module is FeatureNetwork ? 3 : ((IAttentionModule)module).Channels, 9, 8);
            using Tensor y = module.call(x);
            Assert.Equal(2, y.size(0));
            module.Dispose();
        }
    }

    private static bool Decomposes(Row row)
    {
        using AttentionModule module = row.Options.Create(row.Channels);
        return module is GateModule gate && GateParts.Of(gate) is not null;
    }

    private static Tensor? Guide(Row row) => row.GuideChannels == 0 ? null : randn(2, row.GuideChannels, 3, 2);

    private void Module(string name, Row row)
    {
        using Subject subject = new(row, ScalarType.Float32);
        using Tensor x = randn(2, row.Channels, 5, 4, requires_grad: true);
        using Tensor? guide = Guide(row);
        Repeat(name, subject.Module, x, () => subject.Forward(x, guide));
    }

    private void Repeat(string name, nn.Module module, Tensor x, Func<Tensor> forward)
    {
        module.train();
        Measure(name + ", training", Steps, () =>
        {
            using Tensor y = forward();
            using Tensor loss = y.sum();
            loss.backward();
        });
        module.eval();
        Measure(name + ", evaluation", Steps / 4, () =>
        {
            using Tensor y = forward();
        });
        using (no_grad())
        {
            Measure(name + ", evaluation without gradients", Steps / 10, () =>
            {
                using Tensor y = forward();
            });
        }

        Assert.False(x.IsInvalid);
    }

    private void Measure(string what, int steps, Action step)
    {
        for (int i = 0; i < 3; i++) step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < steps; i++) step();
        long left = LiveTensors.OfThread - before;
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}: {steps} steps, {left} tensors more alive"));
        Assert.Equal(0, left);
    }
}
