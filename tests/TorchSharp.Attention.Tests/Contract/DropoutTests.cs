namespace TorchSharp.Attention.Tests;

/// <summary>Dropouts and stochastic attention drop: shares over many seeded draws, within five standard deviations and more.</summary>
public class DropoutTests
{
    private const double Probability = 0.3;

    /// <summary>Elements of the samples of <see cref="Many"/>.</summary>
    private static readonly MapShape Many = new(1500, 2, 2, 2, 2);

    public static TheoryData<string> Names => Row.Names;

    public static TheoryData<string> Kinds => Row.Kinds;

    [Theory]
    [MemberData(nameof(Names))]
    public void Stochastic_drop_returns_the_input_or_the_attended_sample_and_nothing_between(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        (Tensor x, Tensor? guide) = Batch(row);
        Tensor attended = Run(row, x, guide, training: true);
        Tensor dropped = Run(With(row, drop: Probability), x, guide, training: true);

        Tensor skipped = SameSample(dropped, x);
        Tensor kept = SameSample(dropped, attended);
        Assert.True(skipped.logical_or(kept).all().ToBoolean());
        Assert.InRange(Share(skipped), Probability - 0.07, Probability + 0.07);
        Assert.InRange(Share(kept), 1 - Probability - 0.07, 1 - Probability + 0.07);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Stochastic_drop_at_one_skips_every_sample_and_at_evaluation_none(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        (Tensor x, Tensor? guide) = Batch(row, 7);
        Near.Identical(x, Run(With(row, drop: 1), x, guide, training: true));
        Near.Identical(Run(row, x, guide, training: false), Run(With(row, drop: 1), x, guide, training: false));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Skipped_samples_pass_the_gradient_through_and_teach_the_weights_nothing(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(With(row, drop: 0.5), seed: 1, training: true);
        (Tensor x, Tensor? guide) = Batch(row, 40);
        x.requires_grad_();
        manual_seed(3);
        Tensor y = subject.Forward(x, guide);
        y.sum().backward();
        Tensor skipped = SameSample(y, x);
        Assert.InRange(Share(skipped), 0.1, 0.9);

        // A norm's statistics tie the samples together, so that a skipped sample still moves the others.
        if (subject.HasNorm) return;
        Tensor passed = x.grad!.index_select(0, skipped.nonzero().view(-1));
        Near.Identical(ones_like(passed), passed);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Dropout_zeroes_elements_of_what_attention_made_and_scales_the_rest(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        (Tensor x, Tensor? guide) = Batch(row);
        Tensor attended = Run(row, x, guide, training: true);
        Tensor dropped = Run(With(row, dropout: Probability), x, guide, training: true);

        // Of a gate the refined map is dropped; of a context the context, before the input is added.
        bool isContext = row.IsResidual;
        double[] whole = (isContext ? attended.sub(x) : attended).Doubles();
        double[] rest = (isContext ? dropped.sub(x) : dropped).Doubles();

        // What attention made may hold zeros of its own, behind a ReLU.
        int made = whole.Count(value => value != 0);
        int zeros = Enumerable.Range(0, rest.Length).Count(i => rest[i] == 0 && whole[i] != 0);
        double tolerance = 1e-12 * whole.Max(Math.Abs);
        for (int i = 0; i < rest.Length; i++)
        {
            if (rest[i] != 0) Assert.Equal(whole[i] / (1 - Probability), rest[i], tolerance);
        }

        Assert.InRange(zeros / (double)made, Probability - 0.02, Probability + 0.02);
        Near.Identical(Run(row, x, guide, training: false), Run(With(row, dropout: Probability), x, guide, training: false));
    }

    [Fact]
    public void Dropout_of_a_context_that_replaces_the_input_leaves_zeros()
    {
        Row row = Row.Named("self, no residual");
        using DisposeScope scope = NewDisposeScope();
        (Tensor x, _) = Batch(row);
        double[] rest = Run(With(row, dropout: Probability), x, null, training: true).Doubles();
        Assert.InRange(rest.Count(value => value == 0) / (double)rest.Length, Probability - 0.02, Probability + 0.02);
    }

    [Fact]
    public void Attention_dropout_keeps_the_expected_context_and_acts_in_training_only()
    {
        SelfAttention2dOptions options = new() { Heads = 2, Residual = false };
        Row plain = new("plain", options, 6);
        Row dropping = new("dropping", options with { AttentionDropout = Probability }, 6);
        using DisposeScope scope = NewDisposeScope();
        DenseMap one = Data.Random(1, 6, 2, 3, 4);
        Tensor x = one.Tensor().expand(4000, -1, -1, -1);
        Tensor expected = Run(plain, x, null, training: false);
        Near.Identical(expected, Run(dropping, x, null, training: false));
        Tensor dropped = Run(dropping, x, null, training: true);

        // The context is linear in the weights, so that its mean is what no dropout gives; a sample's own is not.
        Tensor error = dropped.mean([0]).sub(expected.mean([0])).abs();
        Assert.True(error.max().ToDouble() < 0.05 * expected.abs().max().ToDouble());
        Assert.True(dropped.sub(expected).abs().max().ToDouble() > 0.1 * expected.abs().max().ToDouble());
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_seed_repeats_the_draws(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        (Tensor x, Tensor? guide) = Batch(row, 50);
        Tensor first = Run(With(row, Probability, Probability), x, guide, training: true);
        Near.Identical(first, Run(With(row, Probability, Probability), x, guide, training: true));
        Tensor other = Run(With(row, Probability, Probability), x, guide, training: true, seed: 8);
        Assert.True(first.ne(other).any().ToBoolean());
    }

    private static Row With(Row row, double drop = 0, double dropout = 0)
        => row with { Options = row.Options with { AttentionDropPath = drop, Dropout = dropout } };

    private static (Tensor Input, Tensor? Guide) Batch(Row row, int samples = 0)
    {
        MapShape shape = samples == 0 ? Many : Many with { N = samples };
        return (shape.Input(row, 21).Tensor(), shape.Guide(row, 21)?.Tensor());
    }

    /// <summary>The same weights for every variant of a row: dropouts have none.</summary>
    private static Tensor Run(Row row, Tensor x, Tensor? guide, bool training, int seed = 7)
    {
        using IDisposable quiet = no_grad();
        using Subject subject = Subject.Random(row, seed: 22, training);
        manual_seed(seed);
        return subject.Forward(x, guide);
    }

    private static Tensor SameSample(Tensor a, Tensor b) => a.eq(b).flatten(1).all(1);

    private static double Share(Tensor mask) => mask.to_type(ScalarType.Float64).mean().ToDouble();
}
