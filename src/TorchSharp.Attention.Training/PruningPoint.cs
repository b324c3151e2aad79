namespace TorchSharp.Attention.Training;

/// <summary>A smaller network after its fine-tuning.</summary>
/// <param name="Fraction">The share of channels that the plan was asked to remove.</param>
/// <param name="RemovedChannels">Channels that went.</param>
/// <param name="Parameters">Parameters that are left.</param>
/// <param name="MultiplyAccumulates">Strict multiply-accumulates that are left, for one input.</param>
/// <param name="Score">What evaluating it gave, such as the accuracy on a test set.</param>
/// <param name="Seconds">How long fine-tuning and evaluating took.</param>
public sealed record PruningPoint(
    double Fraction, int RemovedChannels, long Parameters, long MultiplyAccumulates, double Score, double Seconds);
