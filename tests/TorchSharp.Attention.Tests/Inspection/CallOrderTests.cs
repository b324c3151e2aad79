using TorchSharp.Utils;

namespace TorchSharp.Attention.Tests;

/// <summary>The recorder knows in which order the network ran its attentions, whatever the order of registration, and reads no more than it is asked to.</summary>
public sealed class CallOrderTests
{
    [Fact]
    public void Calls_are_told_in_their_own_order()
    {
        using DisposeScope scope = NewDisposeScope();
        using Backwards network = new();
        using AttentionRecorder maps = AttentionRecorder.Attach(network);
        Assert.Equal(["last", "middle", "first"], maps.Names);
        Assert.Empty(maps.CallOrder);
        Tensor x = randn(2, 8, 4, 4);
        network.call(x);
        Assert.Equal(["first", "middle", "last"], maps.CallOrder);

        // What a pass leaves out keeps its older place; what it repeats takes the last one.
        network.Again = true;
        network.call(x);
        Assert.Equal(["middle", "last", "first"], maps.CallOrder);
        maps.Clear();
        Assert.Empty(maps.CallOrder);
    }

    [Fact]
    public void A_few_samples_are_the_same_as_those_of_the_whole_batch()
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = nn.Sequential(
            ("gate", new Cbam(8, new CbamOptions { Reduction = 2, KernelSize = 3 })), ("self", new SelfAttention2d(8, new SelfAttention2dOptions { Heads = 2 })),
            ("norm", new Cbam(8, new CbamOptions { Reduction = 2, KernelSize = 3, SpatialNorm = true })));
        using AttentionRecorder whole = AttentionRecorder.Attach(network);
        using AttentionRecorder few = AttentionRecorder.Attach(network, new AttentionRecorderOptions { Samples = 3 });
        network.call(randn(5, 8, 4, 4));
        Assert.Equal([5L, 3, 5], new[] { whole["gate"].Samples, few["gate"].Samples, few["norm"].Samples });
        Near.Equal(whole["gate"].ChannelGate!.narrow(0, 0, 3), few["gate"].ChannelGate!, 1e-6, "channel");
        Near.Equal(whole["self"].PairwiseWeights!.narrow(0, 0, 3), few["self"].PairwiseWeights!, 1e-6, "pairs");

        // In training a norm reads the whole batch; in evaluation it need not.
        network.eval();
        network.call(randn(5, 8, 4, 4));
        Assert.Equal(3, few["norm"].Samples);
        network.call(randn(2, 8, 4, 4));
        Assert.Equal(2, few["gate"].Samples);
        Assert.Contains("Samples is 0", Assert.Throws<ArgumentOutOfRangeException>(
            () => AttentionRecorder.Attach(network, new AttentionRecorderOptions { Samples = 0 })).Message, StringComparison.Ordinal);
    }

    /// <summary>Registers its attentions from the last to the first.</summary>
    private sealed class Backwards : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "last")]
        private readonly SelfAttention2d _last = new(8, new SelfAttention2dOptions { Heads = 2 });

        [ComponentName(Name = "middle")]
        private readonly Cbam _middle = new(8, new CbamOptions { Reduction = 2, KernelSize = 3 });

        [ComponentName(Name = "first")]
        private readonly SelfAttention2d _first = new(8, new SelfAttention2dOptions { Heads = 2 });

        public Backwards()
            : base(nameof(Backwards)) => RegisterComponents();

        public bool Again { get; set; }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor x = Again ? input : _first.call(input);
            x = _last.call(_middle.call(x));
            return (Again ? _first.call(x) : x.alias()).MoveToOuterDisposeScope();
        }
    }
}
