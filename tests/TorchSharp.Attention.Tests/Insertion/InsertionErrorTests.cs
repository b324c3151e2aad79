using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>What an insertion refuses: it says what, where and what to do, and leaves the network as it was.</summary>
public sealed class InsertionErrorTests
{
    private static readonly CbamOptions Cbam = new() { Reduction = 2, KernelSize = 3 };

    private static readonly (string What, Func<nn.Module> Network, Func<InsertionPlan> Plan, Func<Tensor[]> Example, string Parameter, string[] Message)[] Table =
    [
        ("nothing by name", () => new FieldNetwork(), () => InsertionPlan.After("layer3.*.conv2", Cbam), () => [],
            "plan", ["Rule 1 of the plan (cbam after 'layer3.*.conv2') matches no submodule", "block.conv1 (Conv2d)", "fc (Linear)"]),
        ("nothing by type", () => new FieldNetwork(), () => InsertionPlan.After("conv1", Cbam).AddBefore<ConvTranspose2d>(Cbam), () => [],
            "plan", ["Rule 2 of the plan (cbam before every ConvTranspose2d) matches no submodule"]),
        ("nothing by predicate", () => new FieldNetwork(), () => InsertionPlan.After("**", Cbam).Where((_, _) => false), () => [],
            "plan", ["cbam after '**', where a predicate holds"]),
        ("nothing registered", () => new Bare(), () => InsertionPlan.After("**", Cbam), () => [], "plan", ["call RegisterComponents()", "ModuleList"]),
        ("inside an attention", () => new ResNet(Cases.TinyResNet with { Attention = AttentionPlan.Of(Cbam) }),
            () => InsertionPlan.After("layer1.0.attn", Cbam), () => [], "plan", ["Attentions and what is in them are not places"]),
        ("no width", () => new FieldNetwork(), () => InsertionPlan.After("block", Cbam), () => [],
            "example", ["The width of the map after 'block' (UserBlock) is not to be read from weights", "model.InsertAttention(plan, example)"]),
        ("matrix", () => new FieldNetwork(), () => InsertionPlan.After("fc", Cbam), () => [randn(2, 3, 6, 6)],
            "plan", ["after 'fc' (Linear) the map is (2, 4) of Float32", "(N, C, H, W)", "Where"]),
        ("no batch", () => nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), () => InsertionPlan.After("0", Cbam), () => [randn(3, 6, 6)],
            "plan", ["the map is (4, 6, 6)", "unsqueeze(0)"]),
        ("wrong channels of the example", () => new FieldNetwork(), () => InsertionPlan.After("conv1", Cbam), () => [randn(2, 5, 6, 6)],
            "example", ["FieldNetwork does not run on the example of shape (2, 5, 6, 6)", "Give an example that it takes"]),
        ("wrong width of a linear layer", () => nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2)), () => InsertionPlan.After("0", Cbam), () => [randn(2, 3, 6, 6)],
            "example", ["does not run on the example of shape (2, 3, 6, 6)"]),
        ("too many inputs", () => new FieldNetwork(), () => InsertionPlan.After("conv1", Cbam), () => [randn(2, 3, 6, 6), randn(2)],
            "example", ["FieldNetwork has no call with 2 tensors"]),
        ("too few inputs", () => new TwoInputNetwork(), () => InsertionPlan.After("left", Cbam), () => [randn(2, 3, 6, 6)],
            "example", ["TwoInputNetwork has no call with 1 tensor;"]),
        ("null example", () => new FieldNetwork(), () => InsertionPlan.After("conv1", Cbam), () => [null!], "example", ["null or disposed"]),
        ("before two inputs", () => new TwoInputNetwork(), () => InsertionPlan.Before("merge", Cbam), () => [],
            "plan", ["'merge' (Merge), which has 2 inputs: 'before' does not say which"]),
        ("tuple", () => new TwoInputNetwork(), () => InsertionPlan.After<LSTM>(Cbam), () => [], "plan", ["'sequence' (LSTM), which is not a module of one to three tensors"]),
        ("list", () => new ListNetwork(), () => InsertionPlan.After("blocks", Cbam), () => [], "plan", ["'blocks' (ModuleList`1), which is not a module"]),
        ("run by forward", () => new ForwardNetwork(), () => InsertionPlan.After("first", Cbam), () => [randn(1, 3, 6, 6)],
            "example", ["'first' (Conv2d) was not called though the network ran", "in the forward of the network (ForwardNetwork), write first.call(x) instead of .forward(x)"]),
        ("run by forward, its parts by call", () => new ForwardNetwork(), () => InsertionPlan.After("hidden", Cbam), () => [randn(1, 3, 6, 6)],
            "example", ["'hidden' (UserBlock) is run by forward", "write hidden.call(x)"]),
        ("not used", () => new ForwardNetwork(), () => InsertionPlan.After("unused", Cbam), () => [randn(1, 3, 6, 6)],
            "example", ["'unused' (Conv2d) was not called", "leave it out of the rule"]),
        ("settings", () => new FieldNetwork(), () => InsertionPlan.After("conv1", Cbam).AddAfter("conv1", new SqueezeExcitationOptions()), () => [randn(1, 3, 6, 6)],
            "Reduction", ["'se' does not fit after 'conv1' (Conv2d) (8 channels): Reduction is 16"]),
        ("settings and size", () => new FieldNetwork(), () => InsertionPlan.After("conv1", new GatherExciteOptions { GatherParameters = true, MapHeight = 4, MapWidth = 5 }),
            () => [randn(1, 3, 6, 6)], "input", ["'ge' does not fit after 'conv1'", "whole maps of 4×5"]),
        ("several widths", () => new Growing(), () => InsertionPlan.After("relu", Cbam), () => [randn(1, 3, 6, 6)],
            "plan", ["after 'relu' (ReLU) the map has 4 channels in one call and 6 in another"]),
        ("deaf", () => new Deaf(), () => InsertionPlan.After("0", Cbam), () => [], "", ["does not list '0_attn'"]),
    ];

    public static TheoryData<string> Rows => [.. Table.Select(row => row.What)];

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_refusal_says_what_and_changes_nothing(string what)
    {
        using DisposeScope scope = NewDisposeScope();
        var row = Table.Single(row => row.What == what);
        using nn.Module network = row.Network();
        nn.Module[] modules = [.. network.modules().Prepend(network)];
        string[] keys = [.. network.state_dict().Keys], names = [.. network.named_modules().Select(m => m.name)];
        Tensor[] example = row.Example();
        byte[] random = WeightsFolder.Bytes(get_rng_state());
        long alive = LiveTensors.OfThread;
        Exception insert = Assert.ThrowsAny<Exception>(() => network.InsertAttention(row.Plan(), example));
        Assert.Equal(alive, LiveTensors.OfThread);
        if (row.Parameter.Length > 0)
        {
            Assert.Equal(row.Parameter, Assert.IsType<ArgumentException>(insert).ParamName);
            Exception dry = Assert.Throws<ArgumentException>(() => row.Plan().DryRun(network, example));
            Assert.Equal(insert.Message, dry.Message);
        }

        Assert.All(row.Message, part => Assert.Contains(part, insert.Message, StringComparison.Ordinal));
        Assert.Equal(keys, network.state_dict().Keys);
        Assert.Equal(names, network.named_modules().Select(m => m.name));
        Assert.All(modules, module => Assert.True(module.training));
        Assert.All(modules, module => Assert.Equal(0, InsertAttentionTests.Hooks(module)));
        Assert.Equal(random, WeightsFolder.Bytes(get_rng_state()));
    }

    [Fact]
    public void The_networks_own_exception_is_inside()
    {
        using FieldNetwork network = new();
        using Tensor x = randn(2, 5, 6, 6);
        Assert.NotNull(Assert.Throws<ArgumentException>(() => network.InsertAttention(InsertionPlan.After("conv1", Cbam), x)).InnerException);
    }

    [Fact]
    public void Plans_refuse_bad_rules_when_they_are_made()
    {
        Says("'selective-kernel' replaces a convolution", () => InsertionPlan.After("conv1", new SelectiveKernelOptions()));
        Says("'split-attention' replaces a convolution", () => InsertionPlan.Before<Conv2d>(new SplitAttentionOptions()));
        Says("'attention-gate' is steered by a second map", () => InsertionPlan.After("conv1", new AttentionGateOptions()));
        Says("name is '', which has an empty level", () => InsertionPlan.After("", Cbam));
        Says("name is 'a..b'", () => InsertionPlan.After("a", Cbam).AddAfter("a..b", Cbam));
        Says("The plan has no rule", () => _ = new InsertionPlan([]));
        Says("InsertionSide has After, Before", () => _ = new InsertionPlan([new InsertionRule(Cbam) { Side = (InsertionSide)7 }]));
        Assert.Throws<ArgumentNullException>(() => InsertionPlan.After((string)null!, Cbam));
        Assert.Throws<ArgumentNullException>(() => InsertionPlan.After("a", null!));
        Assert.Throws<ArgumentNullException>(() => InsertionPlan.After("a", Cbam).Where(null!));
        Assert.Throws<ArgumentNullException>(() => ((nn.Module)null!).InsertAttention(InsertionPlan.After("a", Cbam)));
        using FieldNetwork network = new();
        Assert.Throws<ArgumentNullException>(() => network.InsertAttention(null!));

        static void Says(string part, Action act) => Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(act).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Plans_are_values()
    {
        InsertionPlan plan = InsertionPlan.After("a.*", Cbam).AddBefore<Conv2d>(new SimAmOptions()).WithoutIdentityStart();
        Assert.Equal(plan, InsertionPlan.After("a.*", Cbam with { }).AddBefore<Conv2d>(new SimAmOptions()).WithoutIdentityStart());
        Assert.NotEqual(plan, InsertionPlan.After("a.*", Cbam).AddBefore<Conv2d>(new SimAmOptions()));
        Assert.Equal("cbam after 'a.*'; simam before every Conv2d", plan.ToString());
        Assert.Equal("cbam after everything", new InsertionRule(Cbam).ToString());
    }

    private sealed class Bare : nn.Module<Tensor, Tensor>
    {
        public Bare()
            : base("Bare")
        {
        }

        public override Tensor forward(Tensor x) => x.alias();
    }

    private sealed class Growing : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d narrow = nn.Conv2d(3, 4, 1);
        private readonly Conv2d wide = nn.Conv2d(4, 6, 1);
        private readonly ReLU relu = nn.ReLU();

        public Growing()
            : base("Growing") => RegisterComponents();

        public override Tensor forward(Tensor x) => relu.call(wide.call(relu.call(narrow.call(x))));
    }

    /// <summary>Lists what it likes.</summary>
    private sealed class Deaf : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d _conv = nn.Conv2d(3, 4, 1);

        public Deaf()
            : base("Deaf") => RegisterComponents();

        public override IEnumerable<(string name, nn.Module module)> named_children() => [("0", _conv)];

        public override IEnumerable<(string name, nn.Module module)> named_modules() => [("0", _conv)];

        public override Tensor forward(Tensor x) => _conv.call(x);
    }
}
