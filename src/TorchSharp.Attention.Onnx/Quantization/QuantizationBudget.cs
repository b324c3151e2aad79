namespace TorchSharp.Attention.Onnx;

/// <summary>What a quantized model may lose, and on which batches that is measured.</summary>
public sealed record QuantizationBudget
{
    /// <summary>
    /// Batches that calibration did not see; with labels where accuracy is limited. They are held in memory and run many times.
    /// </summary>
    public required IEnumerable<OnnxBatch> Evaluation { get; init; }

    /// <summary>
    /// Largest loss of accuracy against the float model, as a share: 0.005 is half a percentage point. Null for no such limit.
    /// </summary>
    public double? MaxAccuracyLoss { get; init; }

    /// <summary>
    /// Largest relative error, ‖y − ŷ‖ / ‖y‖: of all outputs together, of each output, and of each group of channels of like size
    /// in one (<see cref="QuantizationEffect.WorstError"/>). Null for no such limit.
    /// </summary>
    public double? MaxRelativeError { get; init; }

    /// <exception cref="ArgumentException">There is no limit, or one below zero.</exception>
    internal void Validate()
    {
        ArgumentNullException.ThrowIfNull(Evaluation);
        if (MaxAccuracyLoss is null && MaxRelativeError is null)
        {
            throw new ArgumentException($"The budget has no limit; set {nameof(MaxAccuracyLoss)} or {nameof(MaxRelativeError)}.");
        }

        if (MaxAccuracyLoss is { } loss && !(loss >= 0))
        {
            throw new ArgumentOutOfRangeException(
                nameof(MaxAccuracyLoss), loss, $"{nameof(MaxAccuracyLoss)} is {loss}; it must be at least 0.");
        }

        if (MaxRelativeError is { } error && !(error > 0))
        {
            throw new ArgumentOutOfRangeException(
                nameof(MaxRelativeError), error, $"{nameof(MaxRelativeError)} is {error}; it must be above 0.");
        }
    }

    internal bool Allows(QuantizationEffect effect, double? floatAccuracy)
        => (MaxAccuracyLoss is not { } loss || floatAccuracy - effect.Accuracy <= loss + 1e-12)
            && (MaxRelativeError is not { } error || effect.WorstError <= error);
}
