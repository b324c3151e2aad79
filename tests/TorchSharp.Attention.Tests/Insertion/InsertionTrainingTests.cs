using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>What surrounds the training of inserted attention: freezes that overlap, optimizers that were made before, inference mode, disposed networks.</summary>
public sealed class InsertionTrainingTests
{
    private static readonly CbamOptions Cbam = new() { Reduction = 2, KernelSize = 3 };
    private static readonly SqueezeExcitationOptions Se = new() { Reduction = 2 };

    private static readonly (string Name, Func<IEnumerable<Parameter>, optim.Optimizer> Create)[] Makers =
    [
        ("AdamW", parameters => optim.AdamW(parameters, 1e-2, weight_decay: 0.1)),
        ("Adam", parameters => optim.Adam(parameters, 1e-2)),
        ("SGD", parameters => optim.SGD(parameters, 1e-2)),
        ("SGD with momentum", parameters => optim.SGD(parameters, 1e-2, momentum: 0.9, weight_decay: 0.1)),
        ("RMSProp", parameters => optim.RMSProp(parameters, 1e-2)),
        ("Adagrad", parameters => optim.Adagrad(parameters, 1e-2)),
    ];

    public static TheoryData<string> Optimizers => [.. Makers.Select(maker => maker.Name)];

    [Fact]
    public void Overlapping_freezes_end_in_any_order()
    {
        using DisposeScope scope = NewDisposeScope();
        using FieldNetwork network = new();
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv1", Cbam), randn(1, 3, 9, 8));
        bool[] before = Trained(network), alone = [.. network.named_parameters().Select(p => p.name.StartsWith("conv1_attn.", StringComparison.Ordinal))];
        foreach (bool firstEndsFirst in new[] { true, false })
        {
            FrozenParameters first = handle.FreezeAllButAttention(), second = handle.FreezeAllButAttention();
            Assert.Equal(first.Count, second.Count);
            Assert.Equal(before.Length - alone.Count(a => a), first.Count);
            (firstEndsFirst ? first : second).Dispose();
            (firstEndsFirst ? first : second).Dispose();
            Assert.Equal(alone, Trained(network));
            network.to(firstEndsFirst ? ScalarType.Float64 : ScalarType.Float32);
            Assert.Equal(alone, Trained(network));
            (firstEndsFirst ? second : first).Unfreeze();
            Assert.Equal(before, Trained(network));
        }
    }

    /// <summary>Freezes of two handles, of the network and of a part; one handle is removed meanwhile; what the user froze stays frozen.</summary>
    [Fact]
    public void Freezes_of_several_handles_and_of_a_part_are_counted()
    {
        using DisposeScope scope = NewDisposeScope();
        using FieldNetwork network = new();
        network.parameters().First().requires_grad = false;
        bool[] before = Trained(network);
        InsertionHandle one = network.InsertAttention(InsertionPlan.After("conv1", Cbam), randn(1, 3, 9, 8));
        InsertionHandle two = network.InsertAttention(InsertionPlan.After("block.conv2", Se), randn(1, 3, 9, 8));
        bool IsTrained(string prefix) => network.named_parameters().Where(p => p.name.StartsWith(prefix, StringComparison.Ordinal)).All(p => p.parameter.requires_grad);
        FrozenParameters ofOne = one.FreezeAllButAttention(), ofTwo = two.FreezeAllButAttention();
        Assert.All(Trained(network), Assert.False);
        FrozenParameters part = network.named_modules().Single(m => m.name == "block").module.FreezeAllButAttention();
        ofOne.Dispose();
        Assert.True(IsTrained("block.conv2_attn"));
        Assert.False(IsTrained("conv1_attn"));
        Assert.False(IsTrained("fc"));
        two.Remove();
        Assert.True(IsTrained("conv1_attn"));
        Assert.True(IsTrained("fc"));
        Assert.DoesNotContain(network.named_parameters(), p => p.name.StartsWith("block.", StringComparison.Ordinal) && p.parameter.requires_grad);
        ofTwo.Dispose();
        part.Dispose();
        one.Remove();
        Assert.Equal(before, Trained(network));
    }

    /// <summary>A parameter of two modules trains again when the last freeze that holds it at either has ended.</summary>
    [Fact]
    public void A_shared_parameter_is_counted_once()
    {
        using DisposeScope scope = NewDisposeScope();
        using OddNetwork network = new();
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("stem", Cbam), randn(1, 3, 9, 8));
        Parameter shared = network.named_parameters().Single(p => p.name == "shared.weight").parameter;
        using (handle.FreezeAllButAttention())
        {
            using (handle.FreezeAllButAttention()) Assert.False(shared.requires_grad);
            Assert.False(shared.requires_grad);
        }

        Assert.True(shared.requires_grad);
    }

    /// <summary>Frozen parameters have no gradient, so neither momentum nor weight decay moves them, though zero_grad keeps zeros.</summary>
    [Theory]
    [MemberData(nameof(Optimizers))]
    public void Frozen_parameters_stay_what_they_are(string optimizer)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using FieldNetwork network = new();
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv1", Cbam), randn(2, 3, 9, 8));
        using optim.Optimizer made = Maker(optimizer)(network.parameters());
        Steps(network, made, 2);
        using FrozenParameters frozen = handle.FreezeAllButAttention();
        Dictionary<string, double[]> before = network.named_parameters().ToDictionary(p => p.name, p => p.parameter.Doubles());
        Steps(network, made, 3);
        foreach ((string name, Parameter parameter) in network.named_parameters())
        {
            if (!parameter.requires_grad) Assert.Equal(before[name], parameter.Doubles());
        }

        Assert.NotEqual(before[network.named_parameters().First(p => p.name.EndsWith("alpha", StringComparison.Ordinal)).name], Alpha(network).Doubles());
    }

    [Theory]
    [MemberData(nameof(Optimizers))]
    public void An_optimizer_made_before_the_insertion_is_named(string optimizer)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using FieldNetwork network = new();
        foreach (bool list in new[] { false, true })
        {
            using optim.Optimizer before = Maker(optimizer)(list ? network.parameters().ToList() : network.parameters());
            network.CheckOptimizer(before);
            InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv1", Cbam), randn(2, 3, 9, 8));
            string message = Assert.Throws<InvalidOperationException>(() => network.CheckOptimizer(before)).Message;
            Assert.Contains("does not train", message, StringComparison.Ordinal);
            Assert.Contains("conv1_attn.", message, StringComparison.Ordinal);
            Assert.Contains("Make the optimizer, and schedulers of its learning rate, after InsertAttention", message, StringComparison.Ordinal);
            using optim.Optimizer after = Maker(optimizer)(network.parameters());
            network.CheckOptimizer(after);
            Steps(network, after, 1);
            handle.Remove();
        }

        // Frozen parameters need no optimizer.
        using InsertionHandle last = network.InsertAttention(InsertionPlan.After("conv1", Cbam), randn(2, 3, 9, 8));
        using FrozenParameters frozen = last.FreezeAllButAttention();
        using optim.Optimizer partial = Maker(optimizer)(network.parameters().Where(p => p.requires_grad).ToList());
        network.CheckOptimizer(partial);
        frozen.Dispose();
        Assert.Throws<InvalidOperationException>(() => network.CheckOptimizer(partial));
    }

    /// <summary>What the troubleshooting of README quotes is what TorchSharp says.</summary>
    [Fact]
    public void The_quoted_message_is_the_real_one()
    {
        using DisposeScope scope = NewDisposeScope();
        using FieldNetwork network = new();
        using optim.Optimizer optimizer = optim.AdamW(network.parameters());
        network.InsertAttention(InsertionPlan.After("conv1", Cbam), randn(2, 3, 9, 8));
        network.call(randn(2, 3, 9, 8)).sum().backward();
        string message = Assert.Throws<KeyNotFoundException>(() => optimizer.step()).Message;
        Assert.Matches(@"\AThe given key '\d+' was not present in the dictionary\.\z", message);
        foreach (string page in new[] { "README.md", Path.Combine("docs", "insertion.md") })
        {
            Assert.Contains("The given key '94855393348848' was not present in the dictionary.", File.ReadAllText(Path.Combine(Repository.Root, page)), StringComparison.Ordinal);
        }
    }

    /// <summary>Conversion, removal, a copy: whatever makes other parameters makes an optimizer old.</summary>
    [Fact]
    public void An_optimizer_made_before_other_changes_is_named()
    {
        using DisposeScope scope = NewDisposeScope();
        using FieldNetwork network = new();
        using InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv1", Cbam), randn(2, 3, 9, 8));
        using (optim.Optimizer lazy = optim.AdamW(network.parameters()))
        {
            using optim.Optimizer list = optim.AdamW(network.parameters().ToList());
            network.to(ScalarType.Float64);
            Assert.Throws<InvalidOperationException>(() => network.CheckOptimizer(lazy));
            Assert.Contains("have been disposed", Assert.Throws<InvalidOperationException>(() => network.CheckOptimizer(list)).Message, StringComparison.Ordinal);
        }

        using (optim.Optimizer list = optim.AdamW(network.parameters().ToList()))
        {
            using WeightsFolder folder = new();
            network.SaveWeights(folder.PathOf("weights.safetensors"));
            network.LoadWeights(folder.PathOf("weights.safetensors"));
            network.CheckOptimizer(list);
            handle.Remove();
            Assert.Contains("have been disposed", Assert.Throws<InvalidOperationException>(() => network.CheckOptimizer(list)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void What_is_inserted_in_inference_mode_trains_afterwards()
    {
        using DisposeScope scope = NewDisposeScope();
        using FieldNetwork network = new();
        Tensor x = randn(2, 3, 9, 8);
        InsertionHandle handle;
        using (inference_mode())
        {
            Tensor example = x.clone();
            Assert.Equal(2, InsertionPlan.After("block.conv?", Cbam).DryRun(network, example).Entries.Count);
            handle = network.InsertAttention(InsertionPlan.After("block.conv?", Cbam), example);
            Assert.True(is_inference_mode_enabled());
            network.call(example);
        }

        network.call(x).square().sum().backward();
        Assert.All(handle.Attentions, attention => Assert.NotNull(Alpha(attention).grad));
        using optim.Optimizer optimizer = optim.AdamW(network.parameters());
        optimizer.step();
        using (no_grad()) handle = network.InsertAttention(InsertionPlan.After("conv1", Cbam), x);
        network.call(x).square().sum().backward();
        Assert.NotNull(Alpha(handle.Attentions[0]).grad);
    }

    [Fact]
    public void Attentions_that_meet_are_noted()
    {
        using DisposeScope scope = NewDisposeScope();
        using FieldNetwork network = new();
        Tensor x = randn(2, 3, 9, 8);
        InsertionReport first = network.InsertAttention(InsertionPlan.After("conv1", Cbam).AddBefore("bn1", Cbam), x).Report;
        Assert.All(first.Entries, entry => Assert.Empty(entry.Notes));
        InsertionReport second = InsertionPlan.After("conv1", Se).AddAfter("conv1", Cbam).AddBefore("conv1", new SimAmOptions()).DryRun(network, x);
        Assert.Equal("There is an attention after 'conv1' (Conv2d) already (cbam). All of them act, in the order of their insertion.", Assert.Single(second.Entries[0].Notes));
        Assert.Contains("already (cbam, se)", Assert.Single(second.Entries[1].Notes), StringComparison.Ordinal);
        Assert.Empty(second.Entries[2].Notes);
        Assert.Contains("\n  Note: There is an attention after", second.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Names_are_those_of_the_classes()
    {
        using nn.Module<Tensor, Tensor> sequence = UserNetworks.Sequence();
        using Tensor x = randn(2, 3, 9, 8);
        Assert.StartsWith("Sequential: 1 attention, ", InsertionPlan.After("features", Cbam).DryRun(sequence, x).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Channels_last_is_guessed()
    {
        using Cbam attention = new(8, Cbam);
        using Tensor x = randn(2, 6, 7, 8);
        string message = Assert.Throws<ArgumentException>(() => attention.call(x)).Message;
        Assert.Contains("built for 8 channels; input has 6", message, StringComparison.Ordinal);
        Assert.Contains("Its last axis has 8: if it is channels last, (N, H, W, C), give input.permute(0, 3, 1, 2).", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Disposed_networks_are_named()
    {
        using Tensor x = randn(2, 3, 9, 8);
        FieldNetwork network = new();
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv1", Cbam), x);
        using optim.Optimizer optimizer = optim.AdamW(network.parameters());
        network.Dispose();
        foreach (Action act in new Action[]
        {
            () => network.InsertAttention(InsertionPlan.After("conv1", Cbam), x),
            () => InsertionPlan.After("conv1", Cbam).DryRun(network, x),
            () => network.FreezeAllButAttention(),
            () => handle.FreezeAllButAttention(),
            () => network.CheckOptimizer(optimizer),
        })
        {
            Assert.Equal(nameof(FieldNetwork), Assert.Throws<ObjectDisposedException>(act).ObjectName);
        }

        handle.Remove();
        Assert.Equal(nameof(InsertionHandle), Assert.Throws<ObjectDisposedException>(handle.FreezeAllButAttention).ObjectName);
    }

    /// <summary>TorchSharp's own train visits 2^depth modules: 40 levels would take days.</summary>
    [Fact]
    public void Deeply_nested_sequences_are_walked_once()
    {
        using DisposeScope scope = NewDisposeScope();
        nn.Module<Tensor, Tensor> network = nn.Sequential(("conv", nn.Conv2d(3, 4, 1)), ("drop", nn.Dropout(0.5)));
        for (int i = 0; i < 40; i++) network = nn.Sequential(("inner", network));
        Tensor x = randn(1, 3, 4, 4);
        string path = string.Concat(Enumerable.Repeat("inner.", 40)) + "conv";
        Assert.True(network.modules().All(module => module.training));
        Assert.Equal(40 + 3, network.modules().Prepend(network).Count());
        Assert.Equal(16 * 12, ModelCost.Measure(network, 1, 3, 4, 4).MultiplyAccumulates);
        network.InsertAttention(InsertionPlan.After(path, Cbam), x);
        Assert.True(network.modules().All(module => module.training));
        network.Dispose();
    }

    /// <summary>A class may keep a part in evaluation whatever the mode: its own train is called, and every mode comes back.</summary>
    [Fact]
    public void Modes_of_a_class_with_a_train_of_its_own_come_back()
    {
        using DisposeScope scope = NewDisposeScope();
        using Stubborn network = new();
        network.train();
        bool[] before = [.. network.modules().Prepend(network).Select(module => module.training)];
        Assert.Equal([true, true, true, false], before);
        InsertionPlan.After("body.0", Cbam).DryRun(network, randn(2, 3, 5, 5));
        ModelCost.Measure(network, 2, 3, 5, 5);
        Assert.Equal(before, network.modules().Prepend(network).Select(module => module.training));
    }

    private static void Steps(nn.Module<Tensor, Tensor> network, optim.Optimizer optimizer, int steps)
    {
        Tensor x = randn(2, 3, 9, 8);
        for (int i = 0; i < steps; i++)
        {
            optimizer.zero_grad();
            network.call(x).square().sum().backward();
            optimizer.step();
        }
    }

    internal static Parameter Alpha(nn.Module network) => network.named_parameters().First(p => p.name.EndsWith("alpha", StringComparison.Ordinal)).parameter;

    private static Func<IEnumerable<Parameter>, optim.Optimizer> Maker(string name) => Makers.Single(maker => maker.Name == name).Create;

    private static bool[] Trained(nn.Module network) => [.. network.parameters().Select(parameter => parameter.requires_grad)];

    private sealed class Stubborn : nn.Module<Tensor, Tensor>
    {
        private readonly Sequential body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4));

        public Stubborn()
            : base("Stubborn") => RegisterComponents();

        public override void train(bool train = true)
        {
            base.train(train);
            ((nn.Module)body[1]).eval();
        }

        public override Tensor forward(Tensor x) => body.call(x);
    }
}
