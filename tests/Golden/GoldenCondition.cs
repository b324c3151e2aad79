using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>How well float32 can know the gradients of a case: a property of its network and numbers, not of a processor.</summary>
/// <param name="Rounding">How far the library's gradients in float32 are from those in float64, relative.</param>
/// <param name="Moved">
/// How far those in float64 move, relative, when weights and inputs are off by 2⁻²⁴ of themselves, which float32 cannot tell; the largest of some draws.
/// </param>
public sealed record GoldenCondition(double Rounding, double Moved)
{
    private const double HalfUnit = 1.0 / (1 << 24);
    private const int DrawsOfShakes = 4;

    /// <summary>Measures a case; null where it has no gradients or is in float64 itself.</summary>
    /// <param name="path">The file.</param>
    public static GoldenCondition? Of(string path)
    {
        using DisposeScope scope = NewDisposeScope();
        GoldenCase golden = GoldenCase.Read(path);
        Blueprint blueprint = Blueprints.For(golden);
        golden.Validate();
        if (!golden.HasTraining || golden["x"].dtype != ScalarType.Float32) return null;
        Measurement exact = Measurement.Take(golden, blueprint, ScalarType.Float64);
        double rounding = Distance(exact, Measurement.Take(golden, blueprint, ScalarType.Float32)), moved = 0;
        for (int draw = 0; draw < DrawsOfShakes; draw++)
        {
            manual_seed(draw + 1);
            moved = Math.Max(moved, Distance(exact, Measurement.Take(golden, blueprint, ScalarType.Float64, tensor => Shake.Each(tensor, HalfUnit, 0))));
        }

        return new GoldenCondition(rounding, moved);
    }

    /// <summary>The largest relative difference of a gradient; one that vanishes is measured by the largest.</summary>
    private static double Distance(Measurement exact, Measurement other)
    {
        double largest = exact.Gradients.Values.Max(GoldenTolerance.Largest);
        return exact.Gradients.Max(gradient =>
            GoldenTolerance.RelativeError(
                other.Gradients[gradient.Key],
                gradient.Value,
                GoldenTolerance.Largest(gradient.Value) <= GoldenTolerance.Vanishing * largest ? largest : null));
    }
}
