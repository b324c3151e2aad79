namespace TorchSharp.Attention;

/// <summary>Weights do not fit a model; nothing was changed. The message is the report.</summary>
public sealed class WeightsMismatchException : InvalidOperationException
{
    /// <summary>An exception about a report.</summary>
    /// <param name="path">The file.</param>
    /// <param name="report">What would have been done.</param>
    public WeightsMismatchException(string path, WeightsReport report)
        : base($"'{path}' does not fit the model, which is unchanged: {report}\n" +
               "Remedies in general: a key map (KeyMaps has those of published weights), or in WeightsLoadOptions " +
               "DropClassifier, AdaptInputChannels, " +
               "AllowMissingAttention, AllowUnexpected, AllowRounding, or Strict = false.") => Report = report;

    /// <summary>What would have been done.</summary>
    public WeightsReport Report { get; }
}
