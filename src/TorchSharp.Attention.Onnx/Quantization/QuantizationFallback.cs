namespace TorchSharp.Attention.Onnx;

/// <summary>Which groups must stay in float for a budget.</summary>
internal static class QuantizationFallback
{
    /// <summary>
    /// Keeps the group with the largest error of its own (of any output or group of channels) in float, then the next, until the
    /// rest is within the budget; then gives back to the integers those that turn out not to be needed, the last one kept aside.
    /// Error decides the order, because accuracy on some hundred images is too coarse to rank by.
    /// </summary>
    /// <exception cref="ArgumentException">Accuracy is limited and batches have no labels.</exception>
    public static IReadOnlyList<SensitivityGroup> Choose(
        PreparedModel prepared, QuantizationBudget budget, QuantizationOptions options)
    {
        ModelEvaluation evaluation = new(prepared.Source, budget.Evaluation, options.Threads, nameof(budget));
        if (budget.MaxAccuracyLoss is not null && !evaluation.HasLabels)
        {
            throw new ArgumentException(
                $"{nameof(QuantizationBudget.MaxAccuracyLoss)} is set, but not all batches of " +
                $"{nameof(QuantizationBudget.Evaluation)} have labels.", nameof(budget));
        }

        if (Fits([])) return [];
        IReadOnlyList<SensitivityGroup> groups = SensitivityGroup.Of(prepared, prepared.Quantize().Plan, null);
        List<SensitivityGroup> kept = [];
        foreach (SensitivityGroup group in groups.OrderByDescending(
            group => OnnxSensitivity.Only(prepared, evaluation, group).WorstError))
        {
            kept.Add(group);
            if (Fits(kept)) break;
        }

        foreach (SensitivityGroup group in kept.SkipLast(1).Reverse().ToArray())
        {
            List<SensitivityGroup> fewer = [.. kept.Where(other => other != group)];
            if (Fits(fewer)) kept = fewer;
        }

        return kept;

        bool Fits(IReadOnlyList<SensitivityGroup> inFloat)
        {
            HashSet<string> nodes = [.. inFloat.SelectMany(group => group.Nodes)];
            return budget.Allows(
                evaluation.Measure(prepared.Quantize(node => nodes.Contains(node.Name) ? "kept" : null).Quantized),
                evaluation.FloatAccuracy);
        }
    }
}
