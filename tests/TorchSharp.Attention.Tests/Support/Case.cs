using CsCheck;

namespace TorchSharp.Attention.Tests;

/// <summary>Random modules, weights, maps and guides for property tests.</summary>
internal sealed record Case(Row Row, MapShape Shape, int Seed)
{
    public static Gen<Case> Any { get; } = Of(Row.All);

    public static Gen<Case> Of(IReadOnlyList<Row> rows)
        => Gen.Select(Gen.Int[0, rows.Count - 1], Gen.Int[1, 4], Gen.Int[1, 7].Array[4], Gen.Int[0, 1_000_000], (row, n, size, seed)
            => new Case(rows[row], new MapShape(n, size[0], size[1], size[2], size[3]), seed));

    /// <summary>
    /// Checks a property of (module, input, guide or null) on random cases, the module in evaluation and double precision. A failure
    /// prints the case, which is all it takes to repeat it.
    /// </summary>
    public static void Check(Gen<Case> cases, Action<Subject, Tensor, Tensor?> property, int times = 100)
        => cases.Sample(
            one =>
            {
                using DisposeScope scope = NewDisposeScope();
                using Subject subject = Subject.Random(one.Row, one.Seed);
                property(subject, one.Shape.Input(one.Row, one.Seed).Tensor(), one.Shape.Guide(one.Row, one.Seed)?.Tensor());
            },
            iter: times, threads: 1);
}
