using TorchSharp.Attention.Tests.Extending;

namespace TorchSharp.Attention.Tests
{
    /// <summary>The C# of docs/extending.md is compiled and run here, and the page must show exactly what is.</summary>
    public sealed class ExtendingPageTests
    {
        [Fact]
        public void The_page_shows_what_runs_here()
            => DocSnippets.AreShown("docs/extending.md");

        [Fact]
        public void An_attention_of_ones_own_is_named_in_a_plan()
        {
            // begin register
            AttentionCatalog.Register<MeanGateOptions>();
            using ResNet network = ResNet.ResNet18(classes: 10, attention: AttentionPlan.Parse("mean-gate@before-add:3,4"));
            // end register
            Assert.Equal(4, network.modules().OfType<MeanGate>().Count());
            using Tensor map = randn(2, 64, 5, 4), refined = network.modules().OfType<MeanGate>().First().call(randn(2, 256, 5, 4));
            Assert.Equal([2, 256, 5, 4], refined.shape);
        }

        [Fact]
        public void A_network_of_ones_own_takes_a_plan()
        {
            // begin plan
            AttentionPlan plan = AttentionPlan.Of(new CbamOptions { Reduction = 8 }, AttentionPosition.StageEnd).InStages(2);
            using TwoStages small = new(plan);
            // end plan
            Assert.Equal(["_attention2"], small.named_children().Where(child => child.module is Cbam).Select(child => child.name));
            using Tensor pooled = small.call(randn(2, 3, 16, 16));
            Assert.Equal([2, 32], pooled.shape);
            string message = Assert.Throws<ArgumentException>(() => new TwoStages(AttentionPlan.Of(new CbamOptions()))).Message;
            Assert.Contains("It has no position BeforeAdd; its positions are StageEnd.", message, StringComparison.Ordinal);
        }
    }
}

namespace TorchSharp.Attention.Tests.Extending
{
    // begin attention
    [AttentionKind("mean-gate")]
    public sealed record MeanGateOptions : AttentionOptions
    {
        public override AttentionModule Create(int channels) => new MeanGate(channels, this);
    }

    public sealed class MeanGate : GateModule
    {
        public MeanGate(int channels, MeanGateOptions? options = null)
            : base(channels, options ?? new MeanGateOptions()) => Complete();

        protected override Tensor ComputeGate(Tensor input) => input.mean([1], keepdim: true).sigmoid();
    }
    // end attention

    // begin network
    public sealed class TwoStages : nn.Module<Tensor, Tensor>
    {
        public static readonly AttentionSite[] Sites =
        [
            new(AttentionPosition.StageEnd, Stage: 1, Block: 0, BlocksInStage: 1, Channels: 16),
            new(AttentionPosition.StageEnd, Stage: 2, Block: 0, BlocksInStage: 1, Channels: 32),
        ];

        private readonly nn.Module<Tensor, Tensor> _conv1 = nn.Conv2d(3, 16, 3, stride: 2, padding: 1), _conv2 = nn.Conv2d(16, 32, 3, stride: 2, padding: 1);
        private readonly nn.Module<Tensor, Tensor>? _attention1, _attention2;

        public TwoStages(AttentionPlan plan)
            : base(nameof(TwoStages))
        {
            AttentionPlacement placement = plan.Resolve(nameof(TwoStages), Sites);
            _attention1 = placement.Create(AttentionPosition.StageEnd, stage: 1);     // null where the plan has nothing for the site
            _attention2 = placement.Create(AttentionPosition.StageEnd, stage: 2);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor map = _conv1.call(input).relu();
            if (_attention1 is not null) map = _attention1.call(map);
            map = _conv2.call(map).relu();
            if (_attention2 is not null) map = _attention2.call(map);
            return map.mean([2, 3]).MoveToOuterDisposeScope();
        }
    }
    // end network
}
