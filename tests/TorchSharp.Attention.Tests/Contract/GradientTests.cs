namespace TorchSharp.Attention.Tests;

/// <summary>
/// The gradients of the library against central differences of the oracle, in double precision: for the input, the guide and every
/// parameter of every settings row.
/// </summary>
public class GradientTests
{
    private const double Step = 1e-6;

    /// <summary>Of the largest slope of the tensor in question.</summary>
    private const double Tolerance = 1e-6;

    /// <summary>
    /// A difference of two losses carries their rounding, divided by the step: 10⁻¹⁶ / 10⁻⁶ of the loss's terms, some of them
    /// adding up. What has no slope at all (a bias before a norm) shows this and nothing else.
    /// </summary>
    private const double Rounding = 1e-9;

    public static TheoryData<string> Names => Row.Names;

    [Theory]
    [MemberData(nameof(Names))]
    public void Evaluation(string name) => Check(Row.Named(name), new(2, 3, 2, 2, 3), training: false);

    [Theory]
    [MemberData(nameof(Names))]
    public void Training(string name) => Check(Row.Named(name), new(3, 2, 3, 2, 3), training: true);

    [Theory]
    [MemberData(nameof(Names))]
    public void Identity_scale(string name)
        => Check(Row.Named(name).As(AttentionInitialization.Identity), new(1, 2, 2, 3, 1), training: false);

    /// <summary>
    /// libtorch's batch norm computes a wrong gradient for a batch of one from a gradient of unusual strides. So no module may hand one to
    /// the norm before it.
    /// </summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void A_norm_before_the_module_has_the_gradient_of_a_larger_batch(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(row, seed: 11);
        using Modules.BatchNorm2d norm = nn.BatchNorm2d(row.Channels);
        norm.to(ScalarType.Float64).eval();
        MapShape shape = new(1, 3, 2, 2, 3);
        Tensor x = shape.Input(row, 12).Tensor(), slope = shape.Input(row, 13).Tensor();
        Tensor? guide = shape.Guide(row, 12)?.Tensor();
        Near.Equal(Slope(2).narrow(0, 0, 1), Slope(1), 1e-9, name);

        Tensor Slope(long samples)
        {
            Tensor input = x.repeat(samples, 1, 1, 1).detach().requires_grad_();
            subject.Forward(norm.call(input), guide?.repeat(samples, 1, 1, 1)).mul(slope).sum().backward();
            return input.grad!;
        }
    }

    private static void Check(Row row, MapShape shape, bool training)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(row, seed: 11, training);
        OracleState state = subject.State();
        DenseMap x = shape.Input(row, 12);
        DenseMap? guide = shape.Guide(row, 12);
        double[] slope = Data.Random(shape.N, row.Channels, shape.H, shape.W, 13).Values;
        double scale = Loss(magnitude: true);

        Tensor input = x.Tensor().requires_grad_();
        Tensor? steering = guide?.Tensor().requires_grad_();
        subject.Forward(input, steering).mul(tensor(slope, input.shape)).sum().backward();

        Compare("input", x.Values, input);
        if (guide is not null) Compare("guide", guide.Values, steering!);
        foreach ((string key, Modules.Parameter parameter) in subject.Module.named_parameters())
        {
            Compare(key, state.Entries[key], parameter);
        }

        void Compare(string what, double[] values, Tensor variable)
        {
            Assert.True(variable.grad is not null, $"{row.Name}: {what} has no gradient.");
            double[] actual = variable.grad.Doubles();
            double[] expected = [.. Enumerable.Range(0, values.Length).Select(i => Difference(values, i))];
            double allowed = (Tolerance * expected.Max(Math.Abs)) + (Rounding * scale);
            double error = expected.Zip(actual, (e, a) => Math.Abs(e - a)).Max();
            Assert.True(error <= allowed, $"{row.Name}, training {training}, {what}: off by {error:g3}, allowed {allowed:g3}.");
        }

        double Difference(double[] values, int i)
        {
            double value = values[i];
            values[i] = value + Step;
            double above = Loss();
            values[i] = value - Step;
            double below = Loss();
            values[i] = value;
            return (above - below) / (2 * Step);
        }

        double Loss(bool magnitude = false)
        {
            double[] output = subject.Oracle(x, guide, state.Copy()).Values;
            return output.Zip(slope, (y, s) => magnitude ? Math.Abs(y * s) : y * s).Sum();
        }
    }
}
