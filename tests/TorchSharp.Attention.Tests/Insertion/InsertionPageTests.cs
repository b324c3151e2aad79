using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>The C# of docs/insertion.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class InsertionPageTests
{
    private static readonly Dictionary<string, Action> Snippets = new()
    {
        ["insert"] = Insert,
        ["choose"] = Choose,
        ["freeze"] = Freeze,
        ["weights"] = Weights,
        ["guard"] = Guard,
    };

    public static TheoryData<string> Names => [.. Snippets.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_snippet_of_the_page_runs(string name) => Snippets[name]();

    [Fact]
    public void The_page_shows_what_runs_here()
        => DocSnippets.AreShown("docs/insertion.md");

    private static void Insert()
    {
        using DisposeScope scope = NewDisposeScope();
        using MyNetwork model = new();
        model.eval();
        Tensor image = randn(1, 3, 32, 32), before = model.call(image);

        // begin insert
        InsertionPlan plan = InsertionPlan
            .After("blocks.*.conv2", new CbamOptions { Reduction = 8 })
            .AddBefore("head", new EfficientChannelAttentionOptions());
        Console.WriteLine(plan.DryRun(model, image));                         // what would go where, and what it costs
        InsertionHandle handle = model.InsertAttention(plan, image);          // outputs stay what they were, to the last bit
        // end insert
        Assert.Equal(WeightsFolder.Bytes(before), WeightsFolder.Bytes(model.call(image)));
        Assert.Equal(["blocks.0.conv2_attn", "blocks.1.conv2_attn", "head_attn_before"], handle.Report.Entries.Select(entry => entry.Key));
    }

    private static void Choose()
    {
        using MyNetwork model = new();

        // begin choose
        InsertionPlan plan = InsertionPlan
            .After<BatchNorm2d>(new SqueezeExcitationOptions { Reduction = 4 }).Where((path, _) => !path.StartsWith("blocks.0", StringComparison.Ordinal))
            .AddAfter((path, module) => module is Conv2d { out_channels: 16 }, new SimAmOptions())
            .AddAfter("**.conv1", new GlobalContextOptions { Reduction = 4 }).WithoutIdentityStart();
        // end choose
        Assert.Equal(["blocks.1.bn", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "blocks.0.conv1", "blocks.1.conv1"],
            plan.DryRun(model).Entries.Select(entry => entry.Path));
    }

    private static void Guard()
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> model = nn.Sequential(("conv", nn.Conv2d(3, 8, 3)), ("pool", nn.AdaptiveAvgPool2d(1)), ("bn", nn.BatchNorm2d(8)));
        InsertionPlan plan = InsertionPlan.After("conv", new SimAmOptions());
        Tensor image = randn(1, 3, 8, 8);
        using (nn.Module<Tensor, Tensor> other = nn.Sequential(("conv", nn.Conv2d(3, 8, 3)))) other.InsertAttention(plan, image);

        // begin guard
        InsertionPlan guarded = plan with { GuardBatchNorms = true };
        using InsertionHandle handle = model.InsertAttention(guarded, image);   // a batch norm with one value per channel throws now
        // end guard
        model.train();
        Assert.Throws<ArgumentException>(() => model.call(image));
    }

    private static void Freeze()
    {
        using DisposeScope scope = NewDisposeScope();
        using MyNetwork model = new();
        string[] keys = [.. model.state_dict().Keys];
        InsertionHandle handle = model.InsertAttention(InsertionPlan.After("blocks.*", new CbamOptions { Reduction = 8 }), randn(1, 3, 8, 8));

        // begin freeze
        using (FrozenParameters frozen = handle.FreezeAllButAttention())   // or model.FreezeAllButAttention(), for built-in attention too
        {
            using optim.Optimizer optimizer = optim.AdamW(model.parameters().Where(parameter => parameter.requires_grad), lr: 1e-3);
            // … train the attention alone …
        }

        handle.Remove();                                                   // keys, outputs and hooks are what they were
        // end freeze
        Assert.Equal(keys, model.state_dict().Keys);
        Assert.All(model.parameters(), parameter => Assert.True(parameter.requires_grad));
    }

    private static void Weights()
    {
        using WeightsFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        using MyNetwork trained = new(), model = new();
        InsertionPlan plan = InsertionPlan.After("blocks.*.conv1", new SimAmOptions()).AddAfter("blocks.*", new CbamOptions { Reduction = 8 });
        Tensor image = randn(1, 3, 16, 16);
        trained.InsertAttention(plan, image);
        trained.SaveWeights(folder.PathOf("trained.safetensors"));
        string path = folder.PathOf("trained.safetensors");

        // begin weights
        model.InsertAttention(plan, image);   // the same plan first, then the weights
        model.LoadWeights(path);              // or load_state_dict, or load
        // end weights
        trained.eval();
        model.eval();
        Near.Identical(trained.call(image), model.call(image));
    }

    private sealed class MyNetwork : nn.Module<Tensor, Tensor>
    {
        private readonly ModuleList<Block> blocks = new(new Block(3, 16), new Block(16, 16));
        private readonly Conv2d head = nn.Conv2d(16, 5, 1);

        public MyNetwork()
            : base("MyNetwork") => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            using DisposeScope scope = NewDisposeScope();
            foreach (Block block in blocks) x = block.call(x);
            return head.call(x).mean([2, 3]).MoveToOuterDisposeScope();
        }
    }

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d conv1;
        private readonly Conv2d conv2;
        private readonly BatchNorm2d bn;

        public Block(int input, int output)
            : base("Block")
        {
            conv1 = nn.Conv2d(input, output, 3, padding: 1);
            conv2 = nn.Conv2d(output, output, 3, padding: 1);
            bn = nn.BatchNorm2d(output);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => nn.functional.relu(bn.call(conv2.call(nn.functional.relu(conv1.call(x)))));
    }
}
