using System.Text;

namespace TorchSharp.Attention;

/// <summary>The result of loading weights, or what it would have been. Names are in ordinal order.</summary>
public sealed record WeightsReport
{
    private const int Shown = 20;

    /// <summary>Names of the tensors in the model that got values from the file.</summary>
    public required ValueList<string> Loaded { get; init; }

    /// <summary>
    /// Names of the tensors in the model that are missing in the file. Batch counters (<c>num_batches_tracked</c>) are not
    /// listed.
    /// </summary>
    public required ValueList<string> Missing { get; init; }

    /// <summary>Names of the tensors in the file that do not exist in the model.</summary>
    public required ValueList<string> Unexpected { get; init; }

    /// <summary>Tensors whose shape, type or values do not fit the model.</summary>
    public required ValueList<WeightsMismatch> Mismatched { get; init; }

    /// <summary>
    /// Names of the tensors in the file that were left out on purpose: by the key map, as classifier, or as allowed unexpected
    /// tensors.
    /// </summary>
    public required ValueList<string> Skipped { get; init; }

    /// <summary>
    /// Names of the tensors in attention modules that kept their values, because the file has none of them and
    /// <see cref="WeightsLoadOptions.AllowMissingAttention"/> is true.
    /// </summary>
    public required ValueList<string> KeptAttention { get; init; }

    /// <summary>
    /// Name of the first convolution in the model, if its weight was adapted to the number of input channels; otherwise null.
    /// </summary>
    public required string? Adapted { get; init; }

    /// <summary>
    /// Tensors with values that were rounded or became infinite, as the options allow. Empty if all values are exactly those of
    /// the file.
    /// </summary>
    public ValueList<WeightsConversion> Conversions { get; init; } = [];

    /// <summary>Advice on how to fix mismatches, as far as names and shapes show it. Empty if everything fits.</summary>
    public ValueList<string> Advice { get; init; } = [];
    /// <summary>
    /// The contents of the file other than tensors, each with its place and kind, as in <see cref="WeightsFile.NotTensors"/>.
    /// They were neither read nor executed.
    /// </summary>
    public ValueList<string> NotTensors { get; init; } = [];

    /// <summary>Whether nothing is missing, unexpected or mismatched.</summary>
    public bool IsComplete => Missing.Count == 0 && Unexpected.Count == 0 && Mismatched.Count == 0;

    /// <summary>
    /// Formats the counts, then one line per kind of names with the first twenty. The properties list all names.
    /// </summary>
    public override string ToString()
    {
        StringBuilder text = new(
            $"{Loaded.Count} loaded, {Missing.Count} missing, {Unexpected.Count} unexpected, {Mismatched.Count} of wrong shape " +
            "or type");
        Line("missing (the network has it, the file does not)", Missing, Listing.Short);
        Line("unexpected (the file has it, the network does not)", Unexpected, Listing.Short);
        Line("wrong", Mismatched, mismatch => mismatch.ToString());
        Line("skipped", Skipped, Listing.Short);
        Line("attention that keeps its start", KeptAttention, Listing.Short);
        Line("not exact", Conversions, conversion => conversion.ToString());
        foreach (string advice in Advice) text.Append("\n  advice: ").Append(advice);
        Line("no tensors, so not read", NotTensors, what => what);
        if (Adapted is not null) text.Append("\n  adapted to the input channels: '").Append(Adapted).Append('\'');
        return text.ToString();

        void Line<T>(string what, ValueList<T> all, Func<T, string> show)
        {
            if (all.Count > 0) text.Append("\n  ").Append(what).Append(": ").Append(Listing.Of(all, show, Shown));
        }
    }
}
