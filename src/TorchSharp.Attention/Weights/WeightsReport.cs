using System.Text;

namespace TorchSharp.Attention;

/// <summary>What loading weights did, or would have done. Names are in ordinal order.</summary>
public sealed record WeightsReport
{
    private const int Shown = 20;

    /// <summary>The model's names that took values from the file.</summary>
    public required ValueList<string> Loaded { get; init; }

    /// <summary>The model's names that the file lacks. Counters of batches (<c>num_batches_tracked</c>) are not missed.</summary>
    public required ValueList<string> Missing { get; init; }

    /// <summary>The file's names that the model has no place for.</summary>
    public required ValueList<string> Unexpected { get; init; }

    /// <summary>Tensors of wrong shape or type, or with values that do not fit.</summary>
    public required ValueList<WeightsMismatch> Mismatched { get; init; }

    /// <summary>
    /// The file's names that were left out on purpose: by the key map, as classifier, or as unexpected where that is allowed.
    /// </summary>
    public required ValueList<string> Skipped { get; init; }

    /// <summary>The model's names in attention modules that keep their values because the file has none and may.</summary>
    public required ValueList<string> KeptAttention { get; init; }

    /// <summary>
    /// The model's name of the first convolution, where it was adapted to the model's input channels; else null.
    /// </summary>
    public required string? Adapted { get; init; }

    /// <summary>
    /// Tensors whose values were rounded or became infinite, where the options allow that. Empty where every value is the file's.
    /// </summary>
    public ValueList<WeightsConversion> Conversions { get; init; } = [];

    /// <summary>What would mend it, as far as names and shapes tell; empty where everything fits.</summary>
    public ValueList<string> Advice { get; init; } = [];
    /// <summary>
    /// What the file holds besides tensors, each with its place and kind, as in
    /// <see cref="WeightsFile.NotTensors"/>. It was neither read nor run.
    /// </summary>
    public ValueList<string> NotTensors { get; init; } = [];

    /// <summary>Whether nothing is missing, unexpected or mismatched.</summary>
    public bool IsComplete => Missing.Count == 0 && Unexpected.Count == 0 && Mismatched.Count == 0;

    /// <summary>The counts, then a line for each kind of names with the first twenty; the lists have them all.</summary>
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
