using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>
/// Compares what the library computed with the reference. A float32 case was also run in float64 with the same weights, which shows
/// what rounding alone does, to both sides:
/// <list type="bullet">
/// <item>a gradient that vanishes in float64, such as that of a bias before a batch norm, is nothing but rounding on both sides: its
/// difference is measured against the largest gradient of the case, and the result says so;</item>
/// <item>where rounding alone reaches the tolerance of the training pass (a deep network with batch norms over a few values), twice
/// the rounding is allowed, and the result says so.</item>
/// </list>
/// A wrong module differs from the reference but not from its own float64 run, so neither rule lets it through.
/// </summary>
/// <param name="actual">What the library computed in the type of the case.</param>
/// <param name="exact">What it computed in float64.</param>
/// <param name="reference">What the reference computed.</param>
internal sealed class Comparison(Measurement actual, Measurement exact, Measurement reference)
{
    private readonly List<string> _notes = [];
    private string? _offence;
    private int _offences;

    /// <summary>The result. Its reason names the worst offence of the first group that offends: what comes later follows from it.</summary>
    public GoldenResult Judge(string name, GoldenTolerance tolerance)
    {
        double evaluation = Check("y_eval", One(actual.Evaluation), null, One(reference.Evaluation), tolerance.Output)!.Value;
        if (tolerance == GoldenTolerance.NineDigits) _notes.Add($"{GoldenResult.Show(tolerance.Output)} allowed, the file's numbers have nine digits");
        double? training = null, gradient = null, statistic = null;
        if (reference.Training is not null)
        {
            training = Check("y_train", One(actual.Training!), One(exact.Training!), One(reference.Training), tolerance.Output);
            gradient = Check("gradients", actual.Gradients, exact.Gradients, reference.Gradients, tolerance.Gradient);
            statistic = Check("statistics", actual.Statistics, exact.Statistics, reference.Statistics, tolerance.Statistic);
        }

        if (_offences > 0) _notes.Add(_offences == 1 ? _offence! : $"{_offence}; {_offences} tensors are off");
        GoldenOutcome outcome = _offences == 0 ? GoldenOutcome.Pass : GoldenOutcome.Fail;
        return new GoldenResult(name, outcome, _notes.Count == 0 ? null : string.Join("; ", _notes))
        {
            EvaluationError = evaluation,
            TrainingError = training,
            GradientError = gradient,
            StatisticsError = statistic,
        };
    }

    /// <summary>Compares a group of tensors; returns the largest error, null where there is none.</summary>
    private double? Check(
        string group,
        IReadOnlyDictionary<string, Tensor> ours,
        IReadOnlyDictionary<string, Tensor>? inFloat64,
        IReadOnlyDictionary<string, Tensor> theirs,
        double tolerance)
    {
        if (theirs.Count == 0) return null;
        double largest = theirs.Values.Max(GoldenTolerance.Largest), rounding = 0;
        List<(string Name, double Error)> errors = [];
        List<string> vanishing = [];
        foreach ((string name, Tensor tensor) in theirs)
        {
            double? scale = null;
            if (inFloat64 is not null)
            {
                if (GoldenTolerance.Largest(inFloat64[name]) <= GoldenTolerance.Vanishing * largest) scale = largest;
                rounding = Math.Max(rounding, GoldenTolerance.RelativeError(ours[name], inFloat64[name], scale));
            }

            errors.Add((name.Length == 0 ? group : name, GoldenTolerance.RelativeError(ours[name], tensor, scale)));
            if (scale is not null && errors[^1].Error <= tolerance && GoldenTolerance.RelativeError(ours[name], tensor) > tolerance) vanishing.Add(name);
        }

        if (vanishing.Count > 0)
        {
            _notes.Add(
                $"{group}: {vanishing[0]}{(vanishing.Count == 1 ? "" : $" and {vanishing.Count - 1} more")} zero but for rounding, " +
                "held to the case's largest gradient");
        }

        double worst = errors.Max(error => error.Error), allowed = tolerance;
        if (errors.Exists(error => double.IsNaN(error.Error))) worst = double.NaN;
        if (worst > tolerance && rounding <= GoldenTolerance.LargestRounding && 2 * rounding > tolerance)
        {
            allowed = 2 * rounding;
            _notes.Add($"{group}: {GoldenResult.Show(allowed)} allowed, float32 alone is off by {GoldenResult.Show(rounding)} from float64");
        }

        List<(string Name, double Error)> offences = [.. errors.Where(error => !(error.Error <= allowed))]; // So that NaN offends.
        _offences += offences.Count;
        if (offences.Count > 0)
        {
            _offence ??= Describe(offences.MaxBy(error => double.IsNaN(error.Error) ? double.PositiveInfinity : error.Error), allowed);
        }

        return worst;
    }

    private static string Describe((string Name, double Error) offence, double allowed) => double.IsNaN(offence.Error)
        ? $"{offence.Name} has a value that is not finite"
        : $"{offence.Name} is off by {GoldenResult.Show(offence.Error)}, more than {GoldenResult.Show(allowed)}";

    private static Dictionary<string, Tensor> One(Tensor tensor) => new() { [""] = tensor };
}
