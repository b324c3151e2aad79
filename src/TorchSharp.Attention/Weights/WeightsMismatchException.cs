namespace TorchSharp.Attention;

/// <summary>Weights do not fit a model, which is unchanged. The message contains the report.</summary>
public sealed class WeightsMismatchException : InvalidOperationException
{
    /// <summary>Creates the exception from a report.</summary>
    /// <param name="path">The file.</param>
    /// <param name="report">What would have been done.</param>
    public WeightsMismatchException(string path, WeightsReport report)
        : base($"'{path}' does not fit the model, which is unchanged: {report}\n" +
               "Remedies in general: a key map (KeyMaps has those of published weights), or in WeightsLoadOptions " +
               "DropClassifier, AdaptInputChannels, " +
               "AllowMissingAttention, AllowUnexpected, AllowRounding, or Strict = false.") => Report = report;

    /// <summary>The report of what would have been loaded.</summary>
    public WeightsReport Report { get; }
}
