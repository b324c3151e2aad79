using CsCheck;

namespace TorchSharp.Attention.Tests;

/// <summary>What must hold for every module, every setting and every shape.</summary>
public class PropertyTests
{
    /// <summary>The same sums in another order or with other strides: 10⁻¹⁶ for each of some hundred terms, relative to a thousandth of the largest.</summary>
    private const double Tolerance = 1e-11;

    private static readonly Scalar Zero = 0.0.ToScalar();

    private static readonly Gen<Case> Gates = Case.Of([.. Row.All.Where(row => !row.IsContext && row.Options is not DynamicAttentionOptions)]);

    private static readonly Gen<Case> Normalised = Case.Of(
        [.. Row.All.Where(row => row.IsContext && row.Options is not (
            NonLocalOptions { Pairwise: NonLocalPairwise.DotProduct } or HaloAttentionOptions or LambdaLayerOptions or BatAttentionOptions or
            WindowAttentionOptions { MaskPadding: false }))]);

    private static readonly Gen<Case> SelfWithoutPositions = Case.Of(
        [.. Row.All.Where(row => row.Options is SelfAttention2dOptions { RelativePosition: false })]);

    private static readonly Gen<Case> SelfWithPositions = Case.Of(
        [.. Row.All.Where(row => row.Options is SelfAttention2dOptions { RelativePosition: true })]);

    public static TheoryData<string> Names => Row.Names;

    [Fact]
    public void A_gate_broadcasts_and_its_product_is_the_output() => Case.Check(Gates, (subject, x, guide) =>
    {
        Tensor gate = subject.Gate(x, guide)!;
        for (int axis = 0; axis < 4; axis++) Assert.True(gate.size(axis) == 1 || gate.size(axis) == x.size(axis));
        Assert.Equal(x.size(0), gate.size(0));
        Near.Equal(subject.Forward(x, guide), x.mul(gate), Tolerance, subject.Row.Name);
    });

    [Fact]
    public void The_shape_and_type_are_kept() => Case.Check(Case.Any, (subject, x, guide) =>
    {
        Tensor y = subject.Forward(x, guide);
        Assert.Equal(x.shape, y.shape);
        Assert.Equal(x.dtype, y.dtype);
        Assert.True(y.isfinite().all().ToBoolean());
    });

    [Theory]
    [MemberData(nameof(Names))]
    public void An_empty_batch_gives_an_empty_batch(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(row, seed: 1);
        Tensor? guide = row.GuideChannels == 0 ? null : empty(0, row.GuideChannels, 2, 3, dtype: ScalarType.Float64);
        Tensor y = subject.Forward(empty(0, row.Channels, 4, 5, dtype: ScalarType.Float64), guide);
        Assert.Equal([0, row.Channels, 4, 5], y.shape);
    }

    [Fact]
    public void Permuting_the_batch_permutes_the_output() => Case.Check(Case.Any, (subject, x, guide) =>
    {
        Tensor order = Order(x.size(0), reverse: true);
        Tensor permuted = subject.Forward(x.index_select(0, order), guide?.index_select(0, order));
        Near.Equal(subject.Forward(x, guide).index_select(0, order), permuted, Tolerance, subject.Row.Name);
    });

    [Fact]
    public void Permuting_the_batch_permutes_the_output_in_training_too() => Case.Check(Case.Any, (subject, x, guide) =>
    {
        subject.Mode(training: true);
        Tensor order = Order(x.size(0), reverse: true);
        Tensor permuted = subject.Forward(x.index_select(0, order), guide?.index_select(0, order));

        // Batch norm may divide by a tiny standard deviation, which magnifies rounding.
        Near.Equal(subject.Forward(x, guide).index_select(0, order), permuted, 1e-8, subject.Row.Name);
    });

    [Fact]
    public void A_sample_does_not_see_the_rest_of_its_batch() => Case.Check(Case.Any, (subject, x, guide) =>
    {
        Tensor together = subject.Forward(x, guide);
        for (long i = 0; i < x.size(0); i++)
        {
            Tensor alone = subject.Forward(x.narrow(0, i, 1), guide?.narrow(0, i, 1));
            Near.Equal(together.narrow(0, i, 1), alone, Tolerance, subject.Row.Name);
        }
    });

    [Fact]
    public void Strides_do_not_matter() => Case.Check(Case.Any, (subject, x, guide) =>
    {
        Tensor expected = subject.Forward(x, guide);
        Tensor channelsLast = ChannelsLast(x);
        Near.Equal(expected, subject.Forward(channelsLast, guide is null ? null : ChannelsLast(guide)), Tolerance, "channels last");
        Tensor transposed = x.transpose(2, 3).contiguous().transpose(2, 3);
        Near.Equal(expected, subject.Forward(transposed, guide), Tolerance, "transposed");
        Tensor slice = cat([x, x, x], 3).narrow(3, x.size(3), x.size(3));
        Near.Equal(expected, subject.Forward(slice, guide), Tolerance, "slice");
        Tensor everyOther = stack([x, x.neg()], 4).flatten(3)[.., .., .., TensorIndex.Slice(null, null, 2)];
        Near.Equal(expected, subject.Forward(everyOther, guide), Tolerance, "every other column");
        Tensor channels = cat([x.neg(), x], 1).narrow(1, x.size(1), x.size(1));
        Near.Equal(expected, subject.Forward(channels, guide), Tolerance, "half of the channels");
    });

    [Fact]
    public void An_expanded_input_is_as_good_as_a_full_one() => Case.Check(Case.Any, (subject, x, guide) =>
    {
        Tensor expanded = x.narrow(0, 0, 1).narrow(3, 0, 1).expand(x.shape);
        Near.Equal(subject.Forward(expanded.contiguous(), guide), subject.Forward(expanded, guide), Tolerance, subject.Row.Name);
    });

    [Fact]
    public void The_inputs_are_neither_changed_nor_disposed_and_the_output_owns_itself() => Case.Check(Case.Any, (subject, x, guide) =>
    {
        subject.Mode(training: x.size(0) % 2 == 0);
        double[] before = x.Doubles();
        double[]? guideBefore = guide?.Doubles();
        Tensor y = subject.Forward(x, guide);
        Assert.NotSame(x, y);
        Tensor kept = y.clone();
        using (Tensor second = subject.Forward(x, guide))
        {
            second.zero_();
        }

        Assert.False(x.IsInvalid);
        Assert.Equal(before, x.Doubles());
        Assert.Equal(guideBefore, guide?.Doubles());
        Near.Identical(kept, y);
    });

    [Fact]
    public void Self_attention_without_positions_is_equivariant() => Case.Check(SelfWithoutPositions, (subject, x, _) =>
    {
        Tensor order = Order(x.size(2) * x.size(3), reverse: false);
        Tensor expected = Shuffle(subject.Forward(x, null), order);
        Near.Equal(expected, subject.Forward(Shuffle(x, order), null), Tolerance, subject.Row.Name);
    });

    [Fact]
    public void Rows_of_the_weights_sum_to_one() => Case.Check(Normalised, (subject, x, _) =>
    {
        Tensor weights = ((ContextModule)subject.Module).Weights(x);
        Assert.Equal(4, weights.dim());
        Assert.Equal(x.size(0), weights.size(0));
        Assert.True(weights.ge(Zero).all().ToBoolean());
        Tensor sums = weights.sum(-1);
        Near.Equal(ones_like(sums), sums, Tolerance, subject.Row.Name);
    });

    [Fact]
    public void The_position_bias_depends_on_the_offset_alone() => Case.Check(SelfWithPositions, (subject, x, _) =>
    {
        // Without queries and keys the weights are softmax(bias): the difference of two logarithms is a difference of two biases.
        subject.Set("qkv.weight", 0);
        subject.Set("qkv.bias", 0);
        DenseMap log = ((ContextModule)subject.Module).Weights(x).log().Map();
        int height = (int)x.size(2);
        int width = (int)x.size(3);
        Dictionary<(int Head, int Down, int Right), double> bias = [];
        for (int head = 0; head < log.C; head++)
            for (int query = 0; query < log.H; query++)
                for (int key = 0; key < log.W; key++)
                {
                    // Seen from the query itself, the softmax's normalisation drops out.
                    double relative = log[0, head, query, key] - log[0, head, query, query];
                    (int, int, int) offset = (head, (query / width) - (key / width), (query % width) - (key % width));
                    if (!bias.TryAdd(offset, relative)) Assert.Equal(bias[offset], relative, 1e-11);
                }

        Assert.Equal(log.C * ((2 * height) - 1) * ((2 * width) - 1), bias.Count);
    });

    [Fact]
    public void The_position_bias_is_the_same_on_every_map_size() => Case.Check(SelfWithPositions, (subject, x, _) =>
    {
        subject.Set("qkv.weight", 0);
        subject.Set("qkv.bias", 0);
        Tensor larger = zeros(1, x.size(1), x.size(2) + 2, x.size(3) + 1, dtype: x.dtype);
        DenseMap small = ((ContextModule)subject.Module).Weights(x).log().Map();
        DenseMap large = ((ContextModule)subject.Module).Weights(larger).log().Map();
        int width = (int)x.size(3);
        for (int head = 0; head < small.C; head++)
            for (int key = 0; key < small.W; key++)
            {
                int inLarge = (key / width * (width + 1)) + (key % width);
                double expected = small[0, head, 0, key] - small[0, head, 0, 0];
                Assert.Equal(expected, large[0, head, 0, inLarge] - large[0, head, 0, 0], 1e-11);
            }
    });

    private static Tensor ChannelsLast(Tensor x) => x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);

    /// <summary>A fixed permutation of n places: backwards, or by a stride that shares no divisor with n.</summary>
    private static Tensor Order(long n, bool reverse)
    {
        long stride = Enumerable.Range(2, 100).First(s => System.Numerics.BigInteger.GreatestCommonDivisor(s, n) == 1);
        return tensor([.. Enumerable.Range(0, (int)n).Select(i => reverse ? n - 1 - i : ((i * stride) + 1) % n)]);
    }

    private static Tensor Shuffle(Tensor x, Tensor order) => x.flatten(2).index_select(2, order).view(x.shape);
}
