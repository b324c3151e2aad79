using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>What insertion promises: the same outputs, everything in its place, and the way back, on networks as people write them.</summary>
public sealed class InsertAttentionTests
{
    private static readonly CbamOptions Cbam = new() { Reduction = 2, KernelSize = 3 };

    public static TheoryData<string> Names => UserNetworks.Names;

    [Theory]
    [MemberData(nameof(Names))]
    public void Outputs_and_gradients_stay_to_the_last_bit(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> plain = UserNetworks.Create(name), network = UserNetworks.Create(name);
        Tensor x = randn(2, 3, 9, 8);
        network.InsertAttention(UserNetworks.All[name].Plan, x);
        foreach (bool training in new[] { false, true })
        {
            plain.train(training);
            network.train(training);
            manual_seed(3);
            Tensor expected = plain.call(x);
            manual_seed(3);
            Tensor actual = network.call(x);
            Assert.Equal(WeightsFolder.Bytes(expected), WeightsFolder.Bytes(actual));
            expected.square().sum().backward();
            actual.square().sum().backward();
        }

        plain.eval();
        network.eval();
        using (no_grad()) Near.Identical(plain.call(x), network.call(x));
        Dictionary<string, Parameter> trained = network.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        foreach ((string key, Parameter parameter) in plain.named_parameters()) Near.Equal(parameter.grad!, trained[key].grad!, 1e-5, key);
        foreach ((string key, Tensor buffer) in plain.named_buffers()) Near.Identical(buffer, network.state_dict()[key]);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Attentions_are_part_of_the_network(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = UserNetworks.Create(name);
        network.eval();
        using InsertionHandle handle = network.InsertAttention(UserNetworks.All[name].Plan, randn(2, 3, 9, 8));
        string[] keys = [.. handle.Report.Entries.Select(entry => entry.Key)];
        if (UserNetworks.All[name].Keys is { Length: > 0 } expected) Assert.Equal(expected, keys);
        Assert.Equal(keys.Length, handle.Attentions.Count);
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        Dictionary<string, Parameter> parameters = network.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        for (int i = 0; i < keys.Length; i++)
        {
            AttentionModule attention = handle.Attentions[i];
            Assert.Same(attention, modules[keys[i]]);
            Assert.False(attention.training);
            Assert.Equal(AttentionInitialization.Identity, attention.Options.Initialization);
            foreach ((string key, Parameter parameter) in attention.named_parameters()) Assert.Same(parameter, parameters[$"{keys[i]}.{key}"]);
            foreach (string key in attention.state_dict().Keys) Assert.Contains($"{keys[i]}.{key}", network.state_dict().Keys);
        }

        network.train();
        Assert.All(handle.Attentions, attention => Assert.True(attention.training));
        network.to(ScalarType.Float64);
        Assert.All(handle.Attentions.SelectMany(attention => attention.parameters()), parameter => Assert.Equal(ScalarType.Float64, parameter.dtype));
        network.eval();
        Assert.Equal(ScalarType.Float64, network.call(randn(1, 3, 9, 8, dtype: ScalarType.Float64)).dtype);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Removal_restores_the_network(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = UserNetworks.Create(name);
        network.eval();
        Tensor x = randn(2, 3, 9, 8);
        string[] keys = [.. network.state_dict().Keys], modules = [.. network.named_modules().Select(m => m.name)];
        Tensor before = network.call(x);
        InsertionHandle first = network.InsertAttention(UserNetworks.All[name].Plan, x);
        InsertionHandle second = network.InsertAttention(UserNetworks.All[name].Plan.WithoutIdentityStart(), x);
        Assert.NotEqual(keys, network.state_dict().Keys);
        using (no_grad())
        {
            foreach (AttentionModule attention in first.Attentions)
            {
                foreach (Parameter parameter in attention.parameters()) parameter.add_(0.3f);
            }
        }

        Assert.NotEqual(before.Doubles(), network.call(x).Doubles());
        first.Remove();
        first.Remove();
        Assert.All(first.Attentions.SelectMany(attention => attention.parameters()), parameter => Assert.True(parameter.IsInvalid));
        Assert.NotEqual(keys, network.state_dict().Keys);
        second.Dispose();
        Assert.Equal(keys, network.state_dict().Keys);
        Assert.Equal(modules, network.named_modules().Select(m => m.name));
        Assert.Equal(WeightsFolder.Bytes(before), WeightsFolder.Bytes(network.call(x)));
        Assert.All(network.modules().Prepend(network), module => Assert.Equal(0, Hooks(module)));
        if (network is Sequential sequence) Assert.Equal(4, sequence.Count);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Attentions_learn(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = UserNetworks.Create(name);
        Tensor x = randn(4, 3, 9, 8);
        InsertionHandle handle = network.InsertAttention(UserNetworks.All[name].Plan, x);
        network.train();
        using FrozenParameters frozen = handle.FreezeAllButAttention();
        Dictionary<string, double[]> before = network.named_parameters().ToDictionary(p => p.name, p => p.parameter.Doubles());
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.1);
        for (int i = 0; i < 3; i++)
        {
            optimizer.zero_grad();
            network.call(x).square().sum().backward();
            optimizer.step();
        }

        HashSet<Parameter> attention = new(handle.Attentions.SelectMany(a => a.parameters()), ReferenceEqualityComparer.Instance);
        Assert.All(network.named_parameters().Where(p => !attention.Contains(p.parameter)), p => Assert.Equal(before[p.name], p.parameter.Doubles()));
        Assert.All(
            network.named_parameters().Where(p => attention.Contains(p.parameter) && p.name.EndsWith("alpha", StringComparison.Ordinal)),
            p => Assert.NotEqual(before[p.name], p.parameter.Doubles()));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void What_one_insertion_saved_another_loads(string name)
    {
        using WeightsFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 3, 9, 8);
        nn.Module<Tensor, Tensor> Inserted(int seed)
        {
            nn.Module<Tensor, Tensor> network = UserNetworks.Create(name, seed);
            network.InsertAttention(UserNetworks.All[name].Plan.WithoutIdentityStart(), x);
            network.eval();
            return network;
        }

        using nn.Module<Tensor, Tensor> saved = Inserted(1), first = Inserted(2), second = Inserted(3), third = Inserted(4);
        Tensor expected = saved.call(x);
        Assert.NotEqual(expected.Doubles(), first.call(x).Doubles());
        first.load_state_dict(saved.state_dict());
        saved.save(folder.PathOf("torchsharp.dat"));
        second.load(folder.PathOf("torchsharp.dat"));
        saved.SaveWeights(folder.PathOf("weights.safetensors"));
        Assert.True(third.LoadWeights(folder.PathOf("weights.safetensors")).IsComplete);
        foreach (nn.Module<Tensor, Tensor> loaded in new[] { first, second, third }) Near.Identical(expected, loaded.call(x));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_dry_run_changes_nothing(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = UserNetworks.Create(name);
        nn.Module[] modules = [.. network.modules().Prepend(network)];
        modules[^1].train(false);
        modules[0].eval();
        modules[^1].train(true);
        bool[] training = [.. modules.Select(module => module.training)];
        Dictionary<string, byte[]> state = network.state_dict().ToDictionary(pair => pair.Key, pair => WeightsFolder.Bytes(pair.Value));
        Tensor x = randn(2, 3, 9, 8), copy = x.clone();
        manual_seed(7);
        using (rand(3))
        {
        }

        byte[] random = WeightsFolder.Bytes(get_rng_state());
        long alive = LiveTensors.OfThread;
        InsertionReport report = UserNetworks.All[name].Plan.DryRun(network, x);
        long left = LiveTensors.OfThread - alive;
        Assert.Equal(random, WeightsFolder.Bytes(get_rng_state()));
        Assert.Equal(training, modules.Select(module => module.training));
        Assert.Equal(state.Keys, network.state_dict().Keys);
        Assert.All(network.state_dict(), pair => Assert.Equal(state[pair.Key], WeightsFolder.Bytes(pair.Value)));
        Assert.All(modules, module => Assert.Equal(0, Hooks(module)));
        Near.Identical(copy, x);

        // A convolution with a bias leaves a tensor behind when it is disposed, which is TorchSharp's.
        alive = LiveTensors.OfThread;
        foreach (InsertionEntry entry in report.Entries) entry.Attention.Create(entry.Channels).Dispose();
        Assert.Equal(LiveTensors.OfThread - alive, left);
        ModelCost plain = ModelCost.Measure(network, x.shape);
        InsertionHandle handle = network.InsertAttention(UserNetworks.All[name].Plan, x);
        ModelCost with = ModelCost.Measure(network, x.shape);
        Assert.Equal((report.Parameters, report.MultiplyAccumulates), (with.Parameters - plain.Parameters, with.MultiplyAccumulates - plain.MultiplyAccumulates));
        Assert.Equal(report, handle.Report);
        Assert.Equal(training, modules.Select(module => module.training));
        Assert.Equal(report.Parameters, handle.Attentions.Sum(attention => attention.parameters().Sum(p => p.numel())));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Plain_weights_load_into_the_network_with_attention(string name)
    {
        using WeightsFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 3, 9, 8);
        using nn.Module<Tensor, Tensor> plain = UserNetworks.Create(name, 1), network = UserNetworks.Create(name, 2);
        plain.SaveWeights(folder.PathOf("plain.safetensors"));
        network.InsertAttention(UserNetworks.All[name].Plan, x);
        network.LoadWeights(folder.PathOf("plain.safetensors"), options: new WeightsLoadOptions { AllowMissingAttention = true });
        plain.eval();
        network.eval();
        Assert.Equal(WeightsFolder.Bytes(plain.call(x)), WeightsFolder.Bytes(network.call(x)));
    }

    /// <summary>What the dry pass draws does not count: the attentions start from the seed alike with an example and without.</summary>
    [Fact]
    public void The_dry_run_draws_no_random_numbers()
    {
        using DisposeScope scope = NewDisposeScope();
        using OddNetwork network = new();
        double[][] starts = [.. new Tensor[][] { [], [randn(1, 3, 9, 8)] }.Select(example =>
        {
            manual_seed(5);
            using InsertionHandle handle = network.InsertAttention(InsertionPlan.After("stem", Cbam), example);
            return handle.Attentions[0].parameters().SelectMany(parameter => parameter.Doubles()).ToArray();
        })];
        Assert.Equal(starts[0], starts[1]);
    }

    [Fact]
    public void A_buffer_that_the_dry_pass_writes_is_put_back()
    {
        using DisposeScope scope = NewDisposeScope();
        using CountingNetwork network = new();
        Tensor x = randn(1, 3, 5, 5);
        InsertionPlan.After("conv", Cbam).DryRun(network, x);
        using InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv", Cbam), x);
        Assert.Equal(0, network.Calls);
        network.call(x);
        Assert.Equal(1, network.Calls);
    }

    [Fact]
    public void A_disposed_network_takes_its_attentions_along()
    {
        foreach (string name in new[] { "sequential", "fields" })
        {
            nn.Module<Tensor, Tensor> network = UserNetworks.Create(name);
            using Tensor x = randn(2, 3, 9, 8);
            InsertionHandle handle = network.InsertAttention(UserNetworks.All[name].Plan, x);
            handle.FreezeAllButAttention();
            network.Dispose();
            Assert.All(handle.Attentions.SelectMany(attention => attention.parameters()), parameter => Assert.True(parameter.IsInvalid));
            handle.Remove();
        }
    }

    [Fact]
    public void The_report_says_what_goes_where()
    {
        using nn.Module<Tensor, Tensor> network = UserNetworks.Create("odd");
        using Tensor x = randn(2, 3, 6, 5);
        InsertionPlan plan = InsertionPlan.After("shared", new SqueezeExcitationOptions { Reduction = 2 }).AddBefore("tail", new EfficientChannelAttentionOptions());
        InsertionReport report = plan.DryRun(network, x);

        // Squeeze-and-excitation: 2 · 8 · 4 weights, 4 + 8 biases, alpha; its products for 3 calls on a batch of 2. ECA: a kernel of 3, alpha.
        InsertionEntry shared = report.Entries[0];
        Assert.Equal((8, 64 + 12 + 1, 3, 3L * 2 * 64), (shared.Channels, shared.Parameters, shared.Calls, shared.MultiplyAccumulates));
        Assert.Equal(["tail.0"], shared.OtherPaths);
        Assert.Equal([2, 8, 6, 5], shared.MapShape!);
        Assert.Equal(
            $"""
            OddNetwork: 2 attentions, 81 parameters beside the network's 808, {(3 * 2 * 64) + (2 * 8 * 3)} multiply-accumulates for the example
              place                                    attention  map      parameters  multiply-accumulates  key
              after shared = tail.0 (Conv2d), 3 calls  se         2×8×6×5          77                   384  shared_attn
              before tail (Sequential)                 eca        2×8×6×5           4                    48  tail_attn_before
            """.ReplaceLineEndings("\n"),
            report.ToString());
        Assert.Contains("– ", InsertionPlan.After("stem", Cbam).DryRun(network).ToString(), StringComparison.Ordinal);
        Assert.Null(InsertionPlan.After("stem", Cbam).DryRun(network).MultiplyAccumulates);
    }

    /// <summary>An attention that is not the identity acts at its place: held against the network written out by hand.</summary>
    [Fact]
    public void Attentions_act_where_the_plan_says()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = UserNetworks.Sequence();
        network.eval();
        Tensor x = randn(2, 3, 9, 8);
        nn.Module<Tensor, Tensor>[] layers = [.. ((Sequential)network[0]).children().Cast<nn.Module<Tensor, Tensor>>()];
        InsertionHandle first = network.InsertAttention(
            InsertionPlan.Before("features.1", Cbam).WithoutIdentityStart().AddAfter("features.1", Cbam).WithoutIdentityStart(), x);
        InsertionHandle second = network.InsertAttention(InsertionPlan.After("features.1", new SqueezeExcitationOptions { Reduction = 2 }).WithoutIdentityStart(), x);
        InsertionHandle third = network.InsertAttention(InsertionPlan.After("features", new SimAmOptions()).WithoutIdentityStart(), x);
        AttentionModule before = first.Attentions[0], after = first.Attentions[1], later = second.Attentions[0], end = third.Attentions[0];
        Assert.Equal(["features_1_attn_before", "features_1_attn", "features_1_attn2", "features_attn"], network.named_modules()
            .Where(m => m.module is AttentionModule && m.name.Split('.').Length == 2).Select(m => m.name.Split('.')[1]));

        Tensor Head(Tensor map) => ((nn.Module<Tensor, Tensor>)network[3]).forward(map.mean([2, 3]));
        Tensor norm = layers[1].forward(before.call(layers[0].forward(x)));
        Near.Equal(Head(end.call(later.call(after.call(norm)).relu())), network.call(x), 1e-6, "all");

        // What comes after a removal acts last, too.
        first.Remove();
        InsertionHandle last = network.InsertAttention(InsertionPlan.After("features.1", Cbam).WithoutIdentityStart(), x);
        norm = layers[1].forward(layers[0].forward(x));
        Near.Equal(Head(end.call(last.Attentions[0].call(later.call(norm)).relu())), network.call(x), 1e-6, "after a removal");
    }

    [Fact]
    public void Modules_of_two_inputs_take_attention_after_them()
    {
        using DisposeScope scope = NewDisposeScope();
        using TwoInputNetwork network = new();
        Tensor a = randn(2, 3, 5, 5), b = randn(2, 1, 5, 5), expected = network.call(a, b);
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("merge", Cbam), a, b);
        Near.Identical(expected, network.call(a, b));
        handle.Remove();
        handle = network.InsertAttention(InsertionPlan.After("merge", Cbam).WithoutIdentityStart(), a, b);
        Near.Identical(handle.Attentions[0].call(expected), network.call(a, b));
    }

    [Fact]
    public void A_hook_that_keeps_a_map_keeps_it_under_a_scope()
    {
        using DisposeScope scope = NewDisposeScope();
        using ListNetwork network = new();
        Tensor? seen = null;
        ModuleList<UserBlock> blocks = (ModuleList<UserBlock>)network.children().First();
        using DisposeScope inner = NewDisposeScope();
        blocks[0].register_forward_hook((_, _, y) => seen = y.DetachFromDisposeScope());
        network.InsertAttention(InsertionPlan.After("blocks.0", Cbam), randn(1, 3, 5, 5));
        network.call(randn(1, 3, 5, 5));
        Assert.False(seen!.IsInvalid);
    }

    [Fact]
    public void Freezing_can_be_undone()
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = UserNetworks.Create("resnet of ours with a plan");
        Parameter never = network.parameters().First();
        never.requires_grad = false;
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("layer1.0.conv1", Cbam), randn(1, 3, 9, 8));
        bool[] before = [.. network.parameters().Select(p => p.requires_grad)];
        network.call(randn(2, 3, 9, 8)).sum().backward();
        using (FrozenParameters all = network.FreezeAllButAttention())
        {
            Assert.All(network.named_parameters(), p => Assert.Equal(p.name.Contains("attn", StringComparison.Ordinal), p.parameter.requires_grad));
            Assert.All(network.parameters().Where(p => !p.requires_grad), p => Assert.Null(p.grad));
            Assert.Equal(before.Count(b => b) - network.parameters().Count(p => p.requires_grad), all.Count);
            FrozenParameters inner = handle.FreezeAllButAttention();
            Assert.All(network.named_parameters(), p => Assert.Equal(p.name.StartsWith("layer1.0.conv1_attn.", StringComparison.Ordinal), p.parameter.requires_grad));
            network.to(ScalarType.Float64);
            inner.Unfreeze();
        }

        Assert.Equal(before, network.parameters().Select(p => p.requires_grad));
        handle.FreezeAllButAttention();
        handle.Remove();
        Assert.False(network.parameters().First().requires_grad);
        Assert.All(network.parameters().Skip(1), p => Assert.True(p.requires_grad));
        Assert.Throws<ObjectDisposedException>(handle.FreezeAllButAttention);
        using FieldNetwork plain = new();
        Assert.Contains("no attention", Assert.Throws<ArgumentException>(() => plain.FreezeAllButAttention()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_an_example_the_first_call_shows_what_is_run_by_forward()
    {
        using DisposeScope scope = NewDisposeScope();
        using ForwardNetwork network = new();
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("hidden.conv1", Cbam).AddAfter("first", Cbam));
        Assert.Throws<InvalidOperationException>(() => network.call(randn(1, 3, 5, 5)));
        string message = Assert.Throws<InvalidOperationException>(() => network.call(randn(1, 3, 5, 5))).Message;
        Assert.Contains("'first' (Conv2d) was not called though the network ran", message, StringComparison.Ordinal);
        Assert.Contains("write first.call(x) instead of .forward(x)", message, StringComparison.Ordinal);
        handle.Remove();
        network.call(randn(1, 3, 5, 5));

        network.InsertAttention(InsertionPlan.After("hidden.conv1", Cbam));
        network.call(randn(1, 3, 5, 5));
        Assert.Equal(0, Hooks(network));
    }

    [Fact]
    public void A_table_made_in_the_dry_pass_and_a_map_used_again_live_on()
    {
        using LooseNetwork network = new();
        using Tensor x = randn(1, 3, 4, 4);
        using (NewDisposeScope()) network.InsertAttention(InsertionPlan.After("same", Cbam), x);
        using Tensor y = network.call(x);
        network.InsertAttention(InsertionPlan.Before("same", Cbam), x);
        using Tensor z = network.call(x);
        Near.Identical(y, z);
    }

    /// <summary>What a submodule keeps (its map or input for a skip, a buffer that it hands out), and what others have seen by a hook, is not the insertion's to free.</summary>
    [Fact]
    public void Maps_that_others_keep_are_not_freed()
    {
        using KeepingNetwork network = new();
        using Tensor x = randn(1, 3, 8, 8);
        using Tensor expected = network.call(x);
        List<Tensor> seen = [];
        nn.Module<Tensor, Tensor> last = network.children().OfType<Conv2d>().Single();
        last.register_forward_hook((_, _, y) =>
        {
            seen.Add(y);
            return y;
        });
        network.InsertAttention(InsertionPlan.After("encoder", Cbam).AddBefore("encoder", Cbam), x);
        network.InsertAttention(InsertionPlan.After("table", Cbam).AddAfter("last", Cbam), x);
        seen.Clear();
        for (int i = 0; i < 3; i++)
        {
            using Tensor y = network.call(x);
            Near.Identical(expected, y);
        }

        Assert.Equal(3, seen.Count);
        Assert.All(seen, map => Assert.False(map.IsInvalid));
    }

    /// <summary>A Sequential frees neither its input nor its last output; what an only child keeps or hands out stays, with a dispose scope and without.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_a_child_of_a_sequential_keeps_is_not_freed(bool scoped)
    {
        using KeepingNetwork.Encoder encoder = new();
        using KeepingNetwork.Table table = new();
        using KeepingNetwork.Weight weight = new();
        using Tensor x = randn(1, 3, 8, 8);
        foreach (nn.Module<Tensor, Tensor> child in (nn.Module<Tensor, Tensor>[])[encoder, table, weight])
        {
            using Sequential network = nn.Sequential(("child", child));
            network.InsertAttention(InsertionPlan.After("child", Cbam).AddBefore("child", Cbam).WithoutGradient(), x);
            for (int i = 0; i < 2; i++)
            {
                using DisposeScope? scope = scoped ? NewDisposeScope() : null;
                network.call(x);
                Tensor?[] kept = child == encoder ? [encoder.Skip, encoder.Given] : child == weight ? [weight.get_parameter("w")] : [table.get_buffer("positions")];
                Assert.All(kept, tensor => Assert.False(tensor!.IsInvalid));
            }
        }
    }

    /// <summary>A field that another thread fills meanwhile, and one that leads to a long list, neither throw nor take long.</summary>
    [Fact]
    public async Task Objects_that_a_submodule_knows_do_no_harm()
    {
        using KeepingNetwork.Busy busy = new();
        using Tensor x = randn(1, 3, 8, 8);
        using Sequential network = nn.Sequential(("first", nn.Conv2d(3, 3, 1)), ("busy", busy), ("last", nn.Conv2d(3, 3, 1)));
        using Tensor expected = network.call(x);
        network.InsertAttention(InsertionPlan.After("busy", new CbamOptions { ReducedChannels = 1 }), x);
        using CancellationTokenSource stop = new();
        Task filling = Task.Run(() => busy.Fill(stop.Token), TestContext.Current.CancellationToken);
        for (int i = 0; i < 200; i++)
        {
            using Tensor y = network.call(x);
            Near.Identical(expected, y);
        }

        await stop.CancelAsync();
        await filling;
    }

    /// <summary>A thousand steps, in scopes and without one: not a tensor more alive; nor after insertions and removals.</summary>
    [Theory]
    [InlineData("sequential")]
    [InlineData("module list")]
    [InlineData("odd")]
    public void A_thousand_steps_leave_no_tensor_alive(string name)
    {
        using nn.Module<Tensor, Tensor> network = UserNetworks.Create(name);
        using Tensor x = randn(2, 3, 5, 4);
        InsertionPlan plan = UserNetworks.All[name].Plan;
        using InsertionHandle handle = network.InsertAttention(plan, x);
        network.train();
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 1e-4);
        Flat(1000, () =>
        {
            using Tensor output = network.call(x);
            using Tensor loss = output.sum();
            loss.backward();
            using DisposeScope scope = NewDisposeScope();
            optimizer.step();
            optimizer.zero_grad();
        });
        network.eval();
        using (no_grad()) Flat(200, () => network.call(x).Dispose());
        Flat(50, () =>
        {
            using DisposeScope scope = NewDisposeScope();
            network.call(x);
        });
        InsertionPlan removed = InsertionPlan.After<Conv2d>(new EfficientChannelAttentionOptions());
        Flat(20, () => removed.DryRun(network, x));
        Flat(20, () => network.InsertAttention(removed, x).Remove());

        static void Flat(int steps, Action step)
        {
            for (int i = 0; i < 3; i++) step();
            long before = LiveTensors.OfThread;
            for (int i = 0; i < steps; i++) step();
            Assert.Equal(before, LiveTensors.OfThread);
        }
    }

    /// <summary>Counts its calls in a buffer, in evaluation, too.</summary>
    private sealed class CountingNetwork : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d conv = nn.Conv2d(3, 8, 3);
        private readonly Tensor calls = zeros(1);

        public CountingNetwork()
            : base("CountingNetwork") => RegisterComponents();

        public float Calls => calls.item<float>();

        public override Tensor forward(Tensor x)
        {
            using (no_grad()) calls.add_(ones(1));
            return conv.call(x);
        }
    }

    /// <summary>All hooks of a module, whatever its number of inputs.</summary>
    internal static int Hooks(nn.Module module)
    {
        int hooks = 0;
        foreach (string field in new[] { "pre_hooks", "post_hooks", "module_pre_hooks", "module_post_hooks" })
        {
            for (Type? type = module.GetType(); type is not null; type = type.BaseType)
            {
                System.Reflection.FieldInfo? info = type.GetField(
                    field, System.Reflection.BindingFlags.Instance | System.Reflection.BindingFlags.NonPublic | System.Reflection.BindingFlags.DeclaredOnly);
                if (info?.GetValue(module) is System.Collections.ICollection collection) hooks += collection.Count;
            }
        }

        return hooks;
    }
}
