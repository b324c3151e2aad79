namespace TorchSharp.Attention.Tests;

/// <summary>
/// Gathering whole maps with parameters: the one module that takes maps of one size only, so it is not in the rows.
/// </summary>
public class GatherExciteTests
{
    private static readonly Row Row = new(
        "ge, whole map", new GatherExciteOptions { GatherParameters = true, MapHeight = 4, MapWidth = 3, Mlp = true, ReducedChannels = 2 }, 5);

    [Theory]
    [InlineData(1, false)]
    [InlineData(3, false)]
    [InlineData(1, true)]
    [InlineData(3, true)]
    public void A_kernel_of_the_maps_size_computes_the_formula(int batch, bool training)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(Row, seed: 3, training);
        DenseMap x = new MapShape(batch, 4, 3, 1, 1).Input(Row, seed: 4);
        OracleState state = subject.State();
        Near.Equal(subject.Oracle(x, null, state), subject.Forward(x.Tensor(), null), 1e-12, Row.Name);
        Near.Equal(state, subject.State(), 1e-12, Row.Name);
    }

    [Theory]
    [InlineData(6, 4)]
    [InlineData(3, 8)]
    [InlineData(7, 2)]
    public void Timms_padded_kernel_of_the_maps_size_computes_the_formula(int height, int width)
    {
        Row row = new("ge, whole map, padded", GatherExciteOptions.TimmWholeMap(height, width) with { ReducedChannels = 2 }, 5);
        foreach (MapShape shape in new MapShape[] { new(2, height, width, 1, 1), new(1, 9, 2, 1, 1), new(3, 2, 11, 1, 1) })
        {
            using DisposeScope scope = NewDisposeScope();
            using Subject subject = Subject.Random(row, seed: 7, training: true);
            DenseMap x = shape.Input(row, seed: 8);
            OracleState state = subject.State();
            Near.Equal(subject.Oracle(x, null, state), subject.Forward(x.Tensor(), null), 1e-12, row.Name);
            Near.Equal(state, subject.State(), 1e-12, row.Name);
        }
    }

    [Fact]
    public void Its_gradients_are_the_slopes_of_the_formula()
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(Row, seed: 5);
        DenseMap x = new MapShape(2, 4, 3, 1, 1).Input(Row, seed: 6);
        OracleState state = subject.State();
        subject.Forward(x.Tensor(), null).square().sum().backward();
        foreach ((string key, Modules.Parameter parameter) in subject.Module.named_parameters())
        {
            double[] slopes = [.. Enumerable.Range(0, state.Entries[key].Length).Select(i => (Loss(key, i, 1e-6) - Loss(key, i, -1e-6)) / 2e-6)];
            Near.Equal(slopes, parameter.grad!.Doubles(), 1e-6, key, ofLargest: 1);
        }

        double Loss(string key, int i, double step)
        {
            OracleState moved = state.Copy();
            moved.Entries[key][i] += step;
            return subject.Oracle(x, null, moved).Values.Sum(v => v * v);
        }
    }
}
