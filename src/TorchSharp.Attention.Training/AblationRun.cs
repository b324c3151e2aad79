namespace TorchSharp.Attention.Training;

/// <summary>A finished run.</summary>
/// <param name="Variant">Name of the variant.</param>
/// <param name="Seed">Its seed.</param>
/// <param name="Outcome">What came of it.</param>
/// <param name="Seconds">How long it took.</param>
public sealed record AblationRun(string Variant, int Seed, AblationOutcome Outcome, double Seconds);
