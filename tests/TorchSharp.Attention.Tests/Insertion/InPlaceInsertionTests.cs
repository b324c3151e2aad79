using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Maps that a network changes in place, uses under two names, computes without gradients or keeps elsewhere: an insertion is right or refused.</summary>
public sealed class InPlaceInsertionTests
{
    private static readonly CbamOptions Cbam = new() { Reduction = 2, KernelSize = 3 };

    private static readonly Func<Conv2d, nn.Module<Tensor, Tensor>, Conv2d, Tensor, Tensor> Again = (conv, part, last, x) =>
    {
        Tensor y = conv.call(x);
        return last.call(part.call(y)).add(y);
    };

    private static readonly Func<Conv2d, nn.Module<Tensor, Tensor>, Conv2d, Tensor, Tensor> Once = (conv, part, last, x) => last.call(part.call(conv.call(x)));

    private static readonly Func<Conv2d, nn.Module<Tensor, Tensor>, Conv2d, Tensor, Tensor> Ignored = (conv, part, last, x) =>
    {
        Tensor y = conv.call(x);
        part.call(y);
        return last.call(y);
    };

    private static readonly (string Name, Func<nn.Module<Tensor, Tensor>> Create)[] Parts =
    [
        ("ReLU", () => nn.ReLU(inplace: true)),
        ("ReLU6", () => nn.ReLU6(inplace: true)),
        ("Hardswish", () => nn.Hardswish(inplace: true)),
        ("SiLU", () => nn.SiLU(inplace: true)),
        ("LeakyReLU", () => nn.LeakyReLU(0.1, inplace: true)),
        ("ELU", () => nn.ELU(inplace: true)),
        ("Mish", () => nn.Mish(inplace: true)),
        ("Dropout", () => nn.Dropout(0.5, inplace: true)),
        ("add_", () => new Part(x => x.add_(ones(1)))),
        ("relu_ of a view", () => new Part(x =>
        {
            x.view(-1).relu_();
            return x.alias();
        })),
        ("Sequential", () => nn.Sequential(nn.ReLU(inplace: true), nn.Conv2d(4, 4, 1))),
        ("a block whose first layer is in place", () => new Part(x => x.relu_().mul(x))),
    ];

    public static TheoryData<string> Names => [.. Parts.Select(part => part.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Before_an_in_place_submodule_whose_input_is_read_again_is_refused(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using Wired network = new(Parts.Single(part => part.Name == name).Create(), Again);
        Tensor x = randn(2, 3, 6, 6);
        ArgumentException refusal = Assert.Throws<ArgumentException>(() => network.InsertAttention(InsertionPlan.Before("part", Cbam), x));
        Assert.Contains("An attention before 'part'", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("works in place on its input, and the network reads that input again afterwards", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("write x = part.call(x)", refusal.Message, StringComparison.Ordinal);
        Assert.All(network.modules().Prepend(network), module => Assert.Equal(0, InsertAttentionTests.Hooks(module)));

        // Not a matter of the example's values.
        Assert.Throws<ArgumentException>(() => network.InsertAttention(InsertionPlan.Before("part", Cbam), zeros(1, 3, 4, 4)));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Before_an_in_place_submodule_whose_input_is_not_read_again_is_right(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using Wired network = new(Parts.Single(part => part.Name == name).Create(), Once);
        Tensor x = randn(2, 3, 6, 6);
        network.eval();
        Tensor expected = network.call(x);
        using InsertionHandle handle = network.InsertAttention(InsertionPlan.Before("part", Cbam).AddAfter("part", Cbam), x);
        Assert.Equal(WeightsFolder.Bytes(expected), WeightsFolder.Bytes(network.call(x)));
        network.train();

        // TorchSharp's Mish in place fails in its own backward pass.
        if (name == "Mish") return;
        network.call(x).square().sum().backward();
        Assert.All(handle.Attentions, attention => Assert.NotNull(InsertionTrainingTests.Alpha(attention).grad));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void After_an_in_place_submodule_whose_result_is_ignored_is_refused(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using Wired network = new(Parts.Single(part => part.Name == name).Create(), Ignored);
        Tensor x = randn(2, 3, 6, 6);
        ArgumentException refusal = Assert.Throws<ArgumentException>(() => network.InsertAttention(InsertionPlan.After("part", Cbam), x));
        Assert.Contains("An attention after 'part'", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("write x = part.call(x)", refusal.Message, StringComparison.Ordinal);
        refusal = Assert.Throws<ArgumentException>(() => network.InsertAttention(InsertionPlan.After("part", Cbam).WithoutGradient(), x));
        Assert.Contains("write x = part.call(x)", refusal.Message, StringComparison.Ordinal);
    }

    /// <summary>Modules that return their input, or a view of it.</summary>
    [Fact]
    public void Views_and_identities_are_right()
    {
        using DisposeScope scope = NewDisposeScope();
        (Func<nn.Module<Tensor, Tensor>> Create, bool Evaluation)[] parts =
        [
            (nn.Identity, false), (() => nn.Dropout(0.5), true), (() => new Part(x => x), false), (() => new Part(x => x.alias()), false),
            (() => new Part(x => x.view(x.shape)), false), (() => new Part(x => x.chunk(1, 1)[0]), false), (() => new Part(x => x.detach()), false),
        ];
        foreach (var wires in new[] { Again, Once })
        {
            foreach ((Func<nn.Module<Tensor, Tensor>> create, bool _) in parts.SkipLast(1))
            {
                manual_seed(1);
                using Wired network = new(create(), wires);
                network.eval();
                Tensor x = randn(2, 3, 6, 6), expected = network.call(x);
                using InsertionHandle handle = network.InsertAttention(InsertionPlan.Before("part", Cbam).AddAfter("part", Cbam).AddAfter("part", Cbam), x);
                for (int i = 0; i < 2; i++) Assert.Equal(WeightsFolder.Bytes(expected), WeightsFolder.Bytes(network.call(x)));
                network.call(x).square().sum().backward();
                Assert.All(handle.Attentions, attention => Assert.NotNull(InsertionTrainingTests.Alpha(attention).grad));
            }
        }
    }

    /// <summary>A view that the network changes in place, and whose base it reads again: the attention's copy would separate the two.</summary>
    [Fact]
    public void A_view_that_is_changed_in_place_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        foreach (InsertionSide side in Enum.GetValues<InsertionSide>())
        {
            manual_seed(1);
            using Wired network = new(new Part(x => x.view(x.shape)), (conv, part, last, x) =>
            {
                Tensor y = conv.call(x);
                part.call(y).relu_();
                return last.call(y);
            });
            InsertionPlan plan = new([new InsertionRule(Cbam) { Name = "part", Side = side }]);
            string message = Assert.Throws<ArgumentException>(() => network.InsertAttention(plan, randn(2, 3, 6, 6))).Message;
            Assert.Contains("outputs change even if nothing but a copy of the map stands there", message, StringComparison.Ordinal);
        }
    }

    /// <summary>The attention needs the map that it has read; the plain network's backward pass does not.</summary>
    [Fact]
    public void A_map_that_is_changed_in_place_after_the_attention_has_read_it_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using Wired network = new(nn.ReLU(), (conv, part, last, x) =>
        {
            Tensor y = conv.call(x), z = part.call(y);
            y.add_(z);
            return last.call(y);
        });
        Tensor x = randn(2, 3, 6, 6);
        network.call(x).sum().backward();
        string message = Assert.Throws<ArgumentException>(() => network.InsertAttention(InsertionPlan.Before("part", Cbam), x)).Message;
        Assert.Contains("The backward pass fails with an attention before 'part' (ReLU)", message, StringComparison.Ordinal);
        Assert.Contains("modified by an inplace operation", message, StringComparison.Ordinal);
        Assert.Contains("x = x.add(y)", message, StringComparison.Ordinal);

        // For inference it is right.
        network.eval();
        Tensor expected = network.call(x);
        network.InsertAttention(InsertionPlan.Before("part", Cbam).WithoutGradient(), x);
        Assert.Equal(WeightsFolder.Bytes(expected), WeightsFolder.Bytes(network.call(x)));
    }

    /// <summary>A network that fails in its own backward pass is not the insertion's to refuse.</summary>
    [Fact]
    public void What_fails_without_the_attention_is_noted()
    {
        using DisposeScope scope = NewDisposeScope();
        using Wired network = new(nn.Sigmoid(), (conv, part, last, x) =>
        {
            Tensor y = part.call(conv.call(x)), z = last.call(y);
            y.add_(ones(1));
            return z;
        });
        InsertionReport report = InsertionPlan.After("conv", Cbam).DryRun(network, randn(2, 3, 6, 6));
        Assert.Contains("It was not checked whether gradients arrive", Assert.Single(report.Entries[0].Notes), StringComparison.Ordinal);
        Assert.Contains("\n  Note: It was not checked", report.ToString(), StringComparison.Ordinal);
    }

    /// <summary>Every kind: an in-place operation on what the attention returned gives the gradients of one that is not in place.</summary>
    [Fact]
    public void In_place_operations_on_what_the_attention_returns_are_right()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 128, 8, 8);
        foreach (string kind in EveryKindTrainsTests.Kinds.Select(row => row.Data))
        {
            AttentionOptions options = AttentionCatalog.Create(kind);
            if (options is GuidedAttentionOptions or BranchAttentionOptions) continue;
            double[][] gradients = [.. new[] { true, false }.Select(inPlace =>
            {
                manual_seed(2);
                using AttentionModule attention = options.Create(128);
                Tensor leaf = x.clone().requires_grad_(true), y = attention.call(leaf.mul(ones(1)));
                Tensor z = inPlace ? y.mul_(full(1, 2f)) : y.mul(full(1, 2f));
                z.square().sum().backward();
                return leaf.grad!.Doubles();
            })];
            Assert.Equal(gradients[1], gradients[0]);
        }
    }

    [Fact]
    public void A_part_without_gradients_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        Func<Conv2d, nn.Module<Tensor, Tensor>, Conv2d, Tensor, Tensor>[] frozen =
        [
            (conv, part, last, x) =>
            {
                Tensor f;
                using (no_grad()) f = part.call(conv.call(x));
                return last.call(f);
            },
            (conv, part, last, x) =>
            {
                Tensor f;
                using (inference_mode()) f = part.call(conv.call(x));
                return last.call(f.clone());
            },
        ];
        foreach (var wires in frozen)
        {
            using Wired network = new(nn.ReLU(), wires);
            Tensor x = randn(2, 3, 6, 6);
            foreach (InsertionPlan plan in new[] { InsertionPlan.After("part", Cbam), InsertionPlan.After("conv", Cbam), InsertionPlan.Before("part", Cbam) })
            {
                string message = Assert.Throws<ArgumentException>(() => network.InsertAttention(plan, x)).Message;
                Assert.Contains("is run without gradients: no_grad or inference_mode is open around its call", message, StringComparison.Ordinal);
                Assert.Contains("FreezeAllButAttention", message, StringComparison.Ordinal);
                Tensor expected = network.call(x);
                using InsertionHandle allowed = network.InsertAttention(plan.WithoutGradient(), x);
                Near.Identical(expected, network.call(x));
            }

            using InsertionHandle after = network.InsertAttention(InsertionPlan.After("last", Cbam), x);
            network.call(x).square().sum().backward();
            Assert.NotNull(InsertionTrainingTests.Alpha(after.Attentions[0]).grad);
        }
    }

    [Fact]
    public void A_part_whose_result_is_detached_or_unused_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        Func<Conv2d, nn.Module<Tensor, Tensor>, Conv2d, Tensor, Tensor>[] lost =
        [
            (conv, part, last, x) => last.call(part.call(conv.call(x)).detach()),
            (conv, part, last, x) =>
            {
                Tensor y = conv.call(x);
                part.call(y);
                return last.call(y);
            },
            (conv, part, last, x) => last.call(conv.call(x)).add(part.call(conv.call(x)).argmax(1, true)),
        ];
        foreach (var wires in lost)
        {
            using Wired network = new(nn.ReLU(), wires);
            string message = Assert.Throws<ArgumentException>(() => network.InsertAttention(InsertionPlan.After("part", Cbam), randn(2, 3, 6, 6))).Message;
            Assert.Contains("An attention after 'part' (ReLU) would not work", message, StringComparison.Ordinal);
            Assert.Contains("detach, no_grad, argmax", message, StringComparison.Ordinal);
            Assert.Contains(".WithoutGradient()", message, StringComparison.Ordinal);
            network.InsertAttention(InsertionPlan.After("part", Cbam).WithoutGradient(), randn(2, 3, 6, 6));
        }
    }

    /// <summary>A network that has gradients in training alone, one whose backbone is frozen by its parameters, and one that returns labels.</summary>
    [Fact]
    public void Gradients_that_arrive_in_training_are_enough()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 3, 6, 6);
        Wired? self = null;
        using Wired network = self = new(nn.ReLU(), (conv, part, last, input) =>
        {
            using IDisposable? quiet = self!.training ? null : no_grad();
            return last.call(part.call(conv.call(input)));
        });
        foreach (bool training in new[] { true, false })
        {
            network.train(training);
            using InsertionHandle handle = network.InsertAttention(InsertionPlan.After("part", Cbam), x);
            Assert.Empty(handle.Report.Entries[0].Notes);
            Assert.Equal(training, network.training);
        }

        using Wired frozen = new(nn.ReLU(), Once);
        foreach (Parameter parameter in frozen.parameters()) parameter.requires_grad = false;
        InsertionHandle trained = frozen.InsertAttention(InsertionPlan.After("conv", Cbam), x);
        frozen.call(x).square().sum().backward();
        Assert.NotNull(InsertionTrainingTests.Alpha(trained.Attentions[0]).grad);

        using Wired labels = new(nn.ReLU(), (conv, part, last, input) => last.call(part.call(conv.call(input))).argmax(1));
        Assert.Contains("no tensor of floating point", Assert.Single(InsertionPlan.After("conv", Cbam).DryRun(labels, x).Entries[0].Notes), StringComparison.Ordinal);
    }

    [Fact]
    public void Without_an_example_the_first_training_call_shows_what_runs_without_gradients()
    {
        using DisposeScope scope = NewDisposeScope();
        using Wired network = new(nn.ReLU(), (conv, part, last, x) =>
        {
            Tensor f;
            using (no_grad()) f = conv.call(x);
            return last.call(part.call(f));
        });
        Tensor x = randn(2, 3, 6, 6);
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv", Cbam));
        network.eval();
        network.call(x);
        network.train();
        using (no_grad()) network.call(x);
        for (int i = 0; i < 2; i++)
        {
            Assert.Contains("'conv' (Conv2d) is run without gradients", Assert.Throws<InvalidOperationException>(() => network.call(x)).Message, StringComparison.Ordinal);
        }

        handle.Remove();
        network.call(x);
        network.InsertAttention(InsertionPlan.After("conv", Cbam).WithoutGradient());
        network.call(x);
        Assert.Equal(0, InsertAttentionTests.Hooks(network));
    }

    /// <summary>The dry passes leave no gradient, no mode and no value behind, though they run backward.</summary>
    [Fact]
    public void Dry_runs_leave_gradients_and_tables_alone()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor table = randn(2, 4, 6, 6).DetachFromDisposeScope();
        using Wired network = new(nn.ReLU(inplace: true), (conv, part, last, x) => last.call(part.call(conv.call(x)).add(part.call(table))));
        Tensor x = randn(2, 3, 6, 6);
        network.call(x).sum().backward();
        double[][] before = [.. network.parameters().Select(p => p.grad!.Doubles()), table.Doubles()];
        network.InsertAttention(InsertionPlan.After("part", Cbam).AddAfter("conv", Cbam), x);
        Assert.Equal(before, [.. network.named_parameters().Where(p => !p.name.Contains("attn", StringComparison.Ordinal)).Select(p => p.parameter.grad!.Doubles()), table.Doubles()]);
        Assert.All(network.named_parameters().Where(p => p.name.Contains("attn", StringComparison.Ordinal)), p => Assert.Null(p.parameter.grad));
        table.Dispose();
    }

    /// <summary>A network that counts its calls in a field cannot be compared with itself.</summary>
    [Fact]
    public void A_network_that_does_not_repeat_itself_is_noted()
    {
        using DisposeScope scope = NewDisposeScope();
        int calls = 0;
        using Wired network = new(nn.ReLU(), (conv, part, last, x) => last.call(part.call(conv.call(x))).mul(full(1, ++calls % 2)));
        Assert.Contains("differ from one run to the next", Assert.Single(InsertionPlan.After("part", Cbam).DryRun(network, randn(2, 3, 6, 6)).Entries[0].Notes), StringComparison.Ordinal);
    }

    /// <summary>Maps that closures and static fields keep live on, without a dispose scope and in a Sequential.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Maps_kept_by_closures_and_statics_are_not_freed(bool sequential)
    {
        List<Tensor> captured = [];
        (nn.Module<Tensor, Tensor> Module, Func<Tensor?> Kept)[] cases =
        [
            (new StaticCache(), () => StaticCache.Last),
            (new FarCache(), () => FarCache.Elsewhere.Map.Value),
            (new ClosureSkip(captured.Add), () => captured[^1]),
        ];
        using Tensor x = randn(2, 3, 6, 6);
        foreach ((nn.Module<Tensor, Tensor> module, Func<Tensor?> kept) in cases)
        {
            using nn.Module<Tensor, Tensor> network = sequential ? nn.Sequential(("part", module)) : new Holder(module);
            network.InsertAttention(InsertionPlan.After("part", Cbam), x);
            for (int i = 0; i < 3; i++)
            {
                using Tensor y = network.call(x);
                Near.Identical(y, kept()!);
            }
        }
    }

    /// <summary>A map that is kept in training alone is not kept in the dry pass: then the search through closures and static fields has to find it.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Maps_kept_in_training_alone_by_closures_and_statics_are_not_freed(bool sequential)
    {
        Tensor? captured = null;
        ClosureSkip? skip = null;
        skip = new ClosureSkip(map =>
        {
            if (skip!.training) captured = map;
        });
        (nn.Module<Tensor, Tensor> Module, Func<Tensor?> Kept)[] cases = [(new TrainingCache(), () => TrainingCache.Last), (skip, () => captured)];
        using Tensor x = randn(2, 3, 6, 6);
        foreach ((nn.Module<Tensor, Tensor> module, Func<Tensor?> kept) in cases)
        {
            using nn.Module<Tensor, Tensor> network = sequential ? nn.Sequential(("part", module)) : new Holder(module);
            network.InsertAttention(InsertionPlan.After("part", Cbam), x);
            network.train();
            for (int i = 0; i < 3; i++)
            {
                using Tensor y = network.call(x);
                Assert.False(kept()!.IsInvalid, module.GetName());
                Near.Identical(y, kept()!);
            }
        }
    }

    /// <summary>Keeps its map in a static field, in training.</summary>
    private sealed class TrainingCache : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d conv = nn.Conv2d(3, 4, 3, padding: 1);

        public TrainingCache()
            : base("TrainingCache") => RegisterComponents();

        public static Tensor? Last { get; private set; }

        public override Tensor forward(Tensor x)
        {
            Tensor y = conv.call(x);
            if (training) Last = y;
            return y;
        }
    }

    private sealed class Holder : nn.Module<Tensor, Tensor>
    {
        private readonly nn.Module<Tensor, Tensor> part;

        public Holder(nn.Module<Tensor, Tensor> inner)
            : base("Holder")
        {
            part = inner;
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => part.call(x);
    }
}
