namespace TorchSharp.Attention.Tests;

/// <summary>
/// The shuffled output, which no gate's product gives: the rows hold the module without the shuffle to everything that gates
/// keep.
/// </summary>
public class ShuffleAttentionTests
{
    private static readonly Row Row = new("shuffle", new ShuffleAttentionOptions { Groups = 3 });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_output_is_the_gated_map_with_its_channels_shuffled(bool training)
    {
        foreach (MapShape shape in MapShape.Several)
        {
            using DisposeScope scope = NewDisposeScope();
            using Subject subject = Subject.Random(Row, seed: 1, training);
            DenseMap x = shape.Input(Row, seed: 2);
            DenseMap refined = x.Times(Oracle.Gate(Row.Options, x, null, subject.State(), training));
            Tensor y = subject.Forward(x.Tensor(), null);
            Near.Equal(ShuffleAttentionOracle.Shuffled(refined), y, 1e-12, $"{shape}");
            Near.Equal(refined, x.Tensor().mul(subject.Gate(x.Tensor(), null)!), 1e-12, $"gate, {shape}");
        }
    }

    [Fact]
    public void The_halves_take_turns()
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(new Row("shuffle", new ShuffleAttentionOptions { Groups = 2 }, 8));
        Tensor x = arange(8, dtype: ScalarType.Float64).view(1, 8, 1, 1);
        double[] order = subject.Forward(x, null).div(x.amax([1]).mul(0).add(1 / (1 + Math.Exp(-1)))).Doubles();
        Assert.Equal([0, 4, 1, 5, 2, 6, 3, 7], order.Select(v => Math.Round(v, 10)));
    }

    [Fact]
    public void A_shuffled_step_leaves_nothing_behind()
    {
        using Subject subject = new(Row with { Options = Row.Options with { Dropout = 0.2 } }, ScalarType.Float32);
        using Tensor x = randn(2, 12, 5, 4, requires_grad: true);
        Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 200; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);

        void Step()
        {
            using Tensor y = subject.Forward(x, null);
            using Tensor loss = y.sum();
            loss.backward();
        }
    }

    [Fact]
    public void An_empty_batch_is_shuffled_too()
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(Row);
        Assert.Equal([0, 12, 4, 5], subject.Forward(empty(0, 12, 4, 5, dtype: ScalarType.Float64), null).shape);
    }
}
