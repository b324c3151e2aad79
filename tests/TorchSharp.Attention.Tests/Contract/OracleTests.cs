namespace TorchSharp.Attention.Tests;

/// <summary>Every module against plain loops over the paper's formula, in double precision.</summary>
public class OracleTests
{
    /// <summary>Sums of up to some hundred terms in another order: 10⁻¹⁶ each, so 10⁻¹² leaves room.</summary>
    private const double Tolerance = 1e-12;

    public static TheoryData<string> Names => Row.Names;

    public static TheoryData<string> Contexts => Row.Contexts;

    [Theory]
    [MemberData(nameof(Names))]
    public void Evaluation_computes_the_formula(string name) => Check(Row.Named(name), training: false);

    [Theory]
    [MemberData(nameof(Names))]
    public void Training_computes_the_formula_and_the_running_statistics(string name) => Check(Row.Named(name), training: true);

    [Theory]
    [MemberData(nameof(Names))]
    public void Identity_start_blends_by_alpha(string name)
    {
        Check(Row.Named(name).As(AttentionInitialization.Identity), training: false);
        Check(Row.Named(name).As(AttentionInitialization.Identity), training: true);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Identity_start_returns_the_input_to_the_last_bit(string name)
    {
        Row row = Row.Named(name).As(AttentionInitialization.Identity);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(row, ScalarType.Float32);
        foreach (MapShape shape in MapShape.Several)
        {
            Tensor x = shape.Input(row, 1).Tensor(ScalarType.Float32);
            Tensor? guide = shape.Guide(row, 1)?.Tensor(ScalarType.Float32);
            Near.Identical(x, subject.Mode(false).Forward(x, guide));
            Near.Identical(x, subject.Mode(true).Forward(x, guide));
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Identity_start_learns_through_its_scale(string name)
    {
        manual_seed(7);
        Row row = Row.Named(name).As(AttentionInitialization.Identity);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(row);
        Tensor x = MapShape.Several[0].Input(row, 1).Tensor();
        subject.Forward(x, MapShape.Several[0].Guide(row, 1)?.Tensor()).square().sum().backward();
        string[] scales = [.. subject.Module.named_parameters()
            .Where(p => p.name.EndsWith("alpha", StringComparison.Ordinal) || p.name == "gamma")
            .Where(p => p.parameter.grad!.abs().sum().ToDouble() > 1e-3)
            .Select(p => p.name)];
        Assert.Equal(row.Options switch
        {
            CbamOptions or LightCbamOptions => ["channel.alpha", "spatial.alpha"],
            _ when subject.Module.state_dict().ContainsKey("gamma") => ["gamma"],
            _ => new[] { "alpha" },
        }, scales);
    }

    [Theory]
    [MemberData(nameof(Contexts))]
    public void Weights_are_those_of_the_formula(string name)
    {
        Row row = Row.Named(name);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(row, seed: 5);
        foreach (MapShape shape in MapShape.Several)
        {
            DenseMap x = shape.Input(row, 6);
            Tensor weights = ((ContextModule)subject.Module).Weights(x.Tensor());
            Near.Equal(ContextOracle.Weights(row.Options, x, subject.State()), weights, Tolerance, $"{row.Name}, {shape}");
        }
    }

    private static void Check(Row row, bool training)
    {
        for (int i = 0; i < MapShape.Several.Count; i++)
        {
            MapShape shape = MapShape.Several[i];
            string what = $"{row.Name}, {shape}, training {training}";
            using DisposeScope scope = NewDisposeScope();
            using Subject subject = Subject.Random(row, seed: i, training);
            DenseMap x = shape.Input(row, seed: 100 + i);
            DenseMap? guide = shape.Guide(row, seed: 100 + i);
            OracleState state = subject.State();

            Near.Equal(subject.Oracle(x, guide, state), subject.Forward(x.Tensor(), guide?.Tensor()), Tolerance, what);
            Near.Equal(state, subject.State(), Tolerance, what);

            // A second step starts from the statistics of the first.
            Tensor? gate = subject.Gate(x.Tensor(), guide?.Tensor());
            if (gate is null) continue;
            Near.Equal(x.Times(Oracle.Gate(row.Options, x, guide, state, training)), x.Tensor().mul(gate), Tolerance, $"gate of {what}");
            Near.Equal(state, subject.State(), Tolerance, $"gate of {what}");
        }
    }
}
