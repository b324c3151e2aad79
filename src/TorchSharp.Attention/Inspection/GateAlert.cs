using System.Globalization;

namespace TorchSharp.Attention;

/// <summary>The problem with an attention that an alert reports.</summary>
public enum GateAlertKind
{
    /// <summary>Nearly all values of a gate are near 0, where a sigmoid passes hardly any gradient.</summary>
    Closed,

    /// <summary>Nearly all values of a gate are near 1, where a sigmoid passes hardly any gradient.</summary>
    Open,

    /// <summary>A gate that started as the identity is still the identity.</summary>
    Identity,

    /// <summary>A gate has the same value everywhere.</summary>
    Uniform,

    /// <summary>A gate keeps many channels closed for every sample.</summary>
    Sparse,

    /// <summary>All pairwise weights or branch weights are nearly equal, so the attention only computes a mean.</summary>
    UniformWeights,

    /// <summary>Each query attends to a single key, or nearly all weight is on one branch.</summary>
    CollapsedWeights,

    /// <summary>A map has NaN or infinite values.</summary>
    NotFinite,

    /// <summary>
    /// Nearly all values of a gate are near 0 or near 1, with some at both ends: it switches, and a sigmoid passes hardly any
    /// gradient.
    /// </summary>
    Saturated,
}

/// <summary>A warning of a <see cref="GateMonitor"/>, with advice on what usually helps.</summary>
/// <param name="Step">The step that raised it.</param>
/// <param name="Module">The module's name.</param>
/// <param name="Map">Which of its maps.</param>
/// <param name="Kind">What is the matter.</param>
/// <param name="Statistic">The statistic that tells it, in words.</param>
/// <param name="Value">Its value.</param>
/// <param name="Threshold">The option's value that it passed.</param>
/// <param name="Advice">What to try.</param>
public sealed record GateAlert(
    long Step, string Module, AttentionMapKind Map, GateAlertKind Kind, string Statistic, double Value, double Threshold,
    string Advice)
{
    /// <summary>Formats the alert in one line, as in the log.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"step {Step}: ALERT {GateReading.NameOf(Module, Map)}: {Statistic} is {Value:0.####} (threshold {Threshold:0.####}). " +
        $"{Advice}");
}
