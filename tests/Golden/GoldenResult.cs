using System.Globalization;

namespace TorchSharp.Attention.Golden;

/// <summary>What became of a case.</summary>
public enum GoldenOutcome
{
    /// <summary>Every number agrees.</summary>
    Pass,

    /// <summary>A number differs, or the file or its arguments cannot be used as they are.</summary>
    Fail,

    /// <summary>The library has no such module yet.</summary>
    Skip,
}

/// <summary>The result of a case. Errors are relative, see <see cref="GoldenTolerance.RelativeError"/>; null where not compared.</summary>
/// <param name="Name">The case's name.</param>
/// <param name="Outcome">What became of it.</param>
/// <param name="Reason">Why it failed or was skipped; null if it passed.</param>
public sealed record GoldenResult(string Name, GoldenOutcome Outcome, string? Reason = null)
{
    /// <summary>Error of the output in evaluation mode.</summary>
    public double? EvaluationError { get; init; }

    /// <summary>Error of the output in training mode.</summary>
    public double? TrainingError { get; init; }

    /// <summary>Largest error of a gradient: of an input or of a parameter.</summary>
    public double? GradientError { get; init; }

    /// <summary>Largest error of a running statistic.</summary>
    public double? StatisticsError { get; init; }

    /// <summary>The result in one line.</summary>
    /// <param name="nameWidth">The name is padded to this many characters.</param>
    public string Line(int nameWidth = 0)
    {
        string line = $"{Outcome.ToString().ToUpperInvariant()}  {Name.PadRight(nameWidth)}";
        if (EvaluationError is not null)
        {
            line += $"  y_eval {Show(EvaluationError)}  y_train {Show(TrainingError)}" +
                $"  gradients {Show(GradientError)}  statistics {Show(StatisticsError)}";
        }

        return Reason is null ? line : $"{line}  {Reason}";
    }

    /// <summary>The result in one line.</summary>
    public override string ToString() => Line();

    internal static string Show(double? error) => error?.ToString("0.0E+00", CultureInfo.InvariantCulture) ?? "      -";
}
