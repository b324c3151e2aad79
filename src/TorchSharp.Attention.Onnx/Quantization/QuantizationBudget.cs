namespace TorchSharp.Attention.Onnx;

/// <summary>The loss that a quantized model may have, and the batches to measure it on.</summary>
public sealed record QuantizationBudget
{
    /// <summary>
    /// Batches to measure on, which should not be those of calibration. They need labels if accuracy is limited. They are held in
    /// memory and run many times.
    /// </summary>
    public required IEnumerable<OnnxBatch> Evaluation { get; init; }

    /// <summary>
    /// Largest loss of accuracy compared with the float model, as a fraction: 0.005 is half a percentage point. Null: no limit.
    /// </summary>
    public double? MaxAccuracyLoss { get; init; }

    /// <summary>
    /// Largest relative error ‖y − ŷ‖ / ‖y‖. The limit holds for all outputs together, for each output, and for each group of
    /// channels of similar magnitude in an output (<see cref="QuantizationEffect.WorstError"/>). Null: no limit.
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
