namespace TorchSharp.Attention.Training;

/// <summary>The combined result of all runs of one variant.</summary>
/// <param name="Variant">Its name.</param>
/// <param name="Plan">Its plan with all settings.</param>
/// <param name="Runs">How many runs there are.</param>
/// <param name="Score">Mean score, with its interval.</param>
/// <param name="Difference">Mean difference to the baseline with the same seed, with its interval; null for the baseline.</param>
/// <param name="PValue">
/// Two-sided paired t-test against the baseline: how likely such a difference is where there is none. Null for the baseline, with
/// one seed, and where the differences of all seeds are equal but not zero: without variance there is no test.
/// </param>
/// <param name="AdjustedPValue">
/// The p value, adjusted by Holm for the number of variants: one of twenty looks significant by chance.
/// </param>
/// <param name="Parameters">Parameters of the network.</param>
/// <param name="MultiplyAccumulates">Strict multiply-accumulates.</param>
/// <param name="Seconds">Mean time of a run.</param>
/// <param name="IsOnFront">Whether no other variant scores as well or better for as little or less, and one of both.</param>
public sealed record AblationRow(
    string Variant, string Plan, int Runs, Estimate Score, Estimate? Difference, double? PValue, double? AdjustedPValue,
    long Parameters,
    long MultiplyAccumulates, double Seconds, bool IsOnFront);
