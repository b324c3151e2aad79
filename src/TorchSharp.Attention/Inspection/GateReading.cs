using System.Globalization;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// The statistics that a <see cref="GateMonitor"/> read from one map of one module at one step. Statistics that a kind of map
/// does not have are null.
/// </summary>
public sealed record GateReading
{
    /// <summary>The training step, from 1.</summary>
    public required long Step { get; init; }

    /// <summary>The module's name, as <c>named_modules</c> has it.</summary>
    public required string Module { get; init; }

    /// <summary>
    /// The kind of map. A gate that is not the product of a channel gate and a spatial gate is read element by element.
    /// </summary>
    public required AttentionMapKind Map { get; init; }

    /// <summary>Mean of all values of a gate or of branch weights. Null for pairwise weights.</summary>
    public double? Mean { get; init; }

    /// <summary>Standard deviation of all values over units and samples.</summary>
    public double? StandardDeviation { get; init; }

    /// <summary>Square root of the mean variance over samples. It is near 0 if the gate is the same for every sample.</summary>
    public double? StandardDeviationOverSamples { get; init; }

    /// <summary>Smallest value.</summary>
    public double? Minimum { get; init; }

    /// <summary>Largest value.</summary>
    public double? Maximum { get; init; }

    /// <summary>Share of values below <see cref="GateStatistics.Low"/>.</summary>
    public double? ClosedShare { get; init; }

    /// <summary>Share of values above <see cref="GateStatistics.High"/>.</summary>
    public double? OpenShare { get; init; }

    /// <summary>Share of channels that no sample opens beyond <see cref="GateStatistics.Low"/>.</summary>
    public double? DeadShare { get; init; }

    /// <summary>Hoyer's sparsity, as <see cref="GateStatistics.Sparsity"/>.</summary>
    public double? Sparsity { get; init; }

    /// <summary>
    /// Entropy divided by its maximum, averaged over samples; for pairwise weights also over queries and heads.
    /// </summary>
    public double? Entropy { get; init; }

    /// <summary>
    /// Pairwise weights: the largest share in a row, averaged over rows and heads. Branches: the largest mean weight of a branch.
    /// </summary>
    public double? Peak { get; init; }

    /// <summary>Pairwise weights: mean distance from query to key, in positions. Null if the positions are not known.</summary>
    public double? Distance { get; init; }

    /// <summary>Number of values that are NaN or infinite. The other statistics leave them out.</summary>
    public long NotFinite { get; init; }

    /// <summary>Names and values of the numbers that the map has.</summary>
    internal IEnumerable<(string Name, double? Value)> Numbers =>
    [
        ("mean", Mean), ("deviation", StandardDeviation), ("deviationOverSamples", StandardDeviationOverSamples),
        ("minimum", Minimum), ("maximum", Maximum),
        ("shut", ClosedShare), ("open", OpenShare), ("dead", DeadShare), ("sparsity", Sparsity), ("entropy", Entropy),
        ("peak", Peak), ("distance", Distance),
        ("notFinite", NotFinite),
    ];

    /// <summary>Formats the reading in one line, as in the log.</summary>
    public override string ToString()
    {
        StringBuilder line = new(string.Create(CultureInfo.InvariantCulture, $"step {Step}: {Name}"));
        Add("mean", Mean, "0.000");
        Add("deviation", StandardDeviation, "0.000");
        Add("over samples", StandardDeviationOverSamples, "0.000");
        Add("shut", ClosedShare, "0.0 %");
        Add("open", OpenShare, "0.0 %");
        Add("dead", DeadShare, "0.0 %");
        if (Map is AttentionMapKind.Pairwise) Add("entropy", Entropy, "0.000");
        Add("peak", Peak, "0.000");
        Add("distance", Distance, "0.00");
        if (NotFinite > 0) Add("not finite", NotFinite, "0");
        return line.ToString();

        void Add(string name, double? value, string format)
        {
            if (value is double number)
            {
                line.Append(", ").Append(name).Append(' ').Append(number.ToString(format, CultureInfo.InvariantCulture));
            }
        }
    }

    /// <summary>Module and map in words; the network itself has no name.</summary>
    internal string Name => NameOf(Module, Map);

    internal static string NameOf(string module, AttentionMapKind map)
    {
        string kind = map switch
        {
            AttentionMapKind.Channel => "channel",
            AttentionMapKind.Spatial => "spatial",
            AttentionMapKind.Element => "element",
            AttentionMapKind.Pairwise => "pairwise",
            _ => "branch",
        };
        return $"{(module.Length == 0 ? "attention" : module)} {kind}";
    }
}
