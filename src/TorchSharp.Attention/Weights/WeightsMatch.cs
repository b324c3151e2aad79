using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Which tensor of a file goes where in a model; decided from names, shapes and types alone, before any value is read.</summary>
internal sealed class WeightsMatch
{
    private const string Counter = "num_batches_tracked";

    private readonly Dictionary<string, Tensor> _model;
    private readonly SortedDictionary<string, (WeightsEntry Entry, ValueList<long> Shape)> _matched = new(StringComparer.Ordinal);
    private readonly WeightsFile _file;
    private readonly WeightsLoadOptions _options;
    private readonly string _prefix;
    private readonly string? _adapted;

    public WeightsMatch(nn.Module model, WeightsFile file, KeyMap keys, WeightsLoadOptions options)
    {
        _file = file;
        _options = options;
        _prefix = string.IsNullOrEmpty(options.Into) ? "" : options.Into + ".";
        KeyValuePair<string, Tensor>[] state = [.. model.state_dict().Where(pair => pair.Key.StartsWith(_prefix, StringComparison.Ordinal))];
        if (state.Length == 0 && _prefix.Length > 0)
        {
            throw new ArgumentException(
                $"Into is '{options.Into}'; the model has no such part. It has {Listing.Of(model.named_children().Select(child => child.name))}.", nameof(options));
        }

        _model = new Dictionary<string, Tensor>(state, StringComparer.Ordinal);
        string? firstConvolution = state.Where(pair => pair.Value.dim() == 4).Select(pair => pair.Key).FirstOrDefault();
        Dictionary<string, string> taken = new(StringComparer.Ordinal);
        List<string> unexpected = [], skipped = [];
        List<WeightsMismatch> mismatched = [];
        foreach (WeightsEntry entry in file.Entries.Values)
        {
            if (keys.Apply(entry.Name, entry.Shape) is not (string mapped, ValueList<long> shape) || IsDropped(mapped = _prefix + mapped))
            {
                skipped.Add(entry.Name);
                continue;
            }

            if (!taken.TryAdd(mapped, entry.Name))
            {
                throw new ArgumentException($"'{file.Path}': the key map sends both '{taken[mapped]}' and '{entry.Name}' to '{mapped}'; mend its rules.", nameof(keys));
            }

            if (!_model.TryGetValue(mapped, out Tensor? own)) (options.AllowUnexpected ? skipped : unexpected).Add(entry.Name);
            else if (Fits(entry, shape, own) || IsAdaptable(mapped, entry, shape, own)) _matched.Add(mapped, (entry, shape));
            else mismatched.Add(new WeightsMismatch(mapped, entry.Name, shape, ValueList.Create<long>(own.shape), entry.Type, own.dtype));
        }

        string[] attention = options.AllowMissingAttention ? Absent(model, taken) : [];
        ILookup<bool, string> absent = _model.Keys
            .Where(name => !taken.ContainsKey(name) && !IsDropped(name) && !name.EndsWith(Counter, StringComparison.Ordinal))
            .Order(StringComparer.Ordinal)
            .ToLookup(name => attention.Any(prefix => name.StartsWith(prefix, StringComparison.Ordinal)));
        _adapted = firstConvolution is not null && _matched.TryGetValue(firstConvolution, out (WeightsEntry, ValueList<long> Shape) first)
            && !first.Shape.SequenceEqual(_model[firstConvolution].shape) ? firstConvolution : null;
        Report = new WeightsReport
        {
            Loaded = [.. _matched.Keys],
            Missing = [.. absent[false]],
            Unexpected = [.. unexpected],
            Mismatched = [.. mismatched],
            Skipped = [.. skipped],
            KeptAttention = [.. absent[true]],
            Adapted = _adapted,
            NotTensors = [.. file.NotTensors],
        };

        bool IsAdaptable(string name, WeightsEntry entry, ValueList<long> shape, Tensor own) =>
            options.AdaptInputChannels && name == firstConvolution && SafetensorsTypes.IsFloatingPoint(entry.Type) && shape.Count == 4 && shape[1] > 0 && own.size(1) > 0
            && shape[0] == own.size(0) && shape[2] == own.size(2) && shape[3] == own.size(3);
    }

    public WeightsReport Report { get; }

    /// <summary>Reads all values, then copies them: a file that fails while it is read changes nothing.</summary>
    public void Copy()
    {
        List<(Tensor Target, Tensor Value)> values = [];
        foreach ((string name, (WeightsEntry entry, ValueList<long> shape)) in _matched)
        {
            Tensor value = _file.Load(entry.Name).view([.. shape]);
            values.Add((_model[name], name == _adapted ? Adapt(value, _model[name].size(1)) : value));
        }

        foreach ((Tensor target, Tensor value) in values) target.copy_(value);
    }

    /// <summary>Where the attention modules begin of which the file has nothing; half of one would compute what nobody trained.</summary>
    private static string[] Absent(nn.Module model, Dictionary<string, string> taken)
    {
        string[] all = [.. model.named_modules().Where(item => item.module is IAttentionModule).Select(item => item.name + ".")];
        return
        [
            .. all.Where(start => !all.Any(outer => outer.Length < start.Length && start.StartsWith(outer, StringComparison.Ordinal)))
                .Where(start => !taken.Keys.Any(name => name.StartsWith(start, StringComparison.Ordinal))),
        ];
    }

    private bool IsDropped(string name) =>
        _options.DropClassifier && _options.Classifier.Any(start => name.StartsWith(_prefix + start, StringComparison.Ordinal));

    /// <summary>
    /// The same shape, and a type that converts without losing its meaning: no fractions into integers, no complex into real numbers, no
    /// integers into fewer bits, where they would wrap around.
    /// </summary>
    private static bool Fits(WeightsEntry entry, ValueList<long> shape, Tensor own) =>
        shape.SequenceEqual(own.shape) && (own.dtype == entry.Type || own.is_complex() || (own.is_floating_point()
            ? !SafetensorsTypes.IsComplex(entry.Type)
            : SafetensorsTypes.Holds(own.dtype, entry.Type)));

    private static Tensor Adapt(Tensor weight, long channels)
    {
        Tensor exact = weight.to_type(ScalarType.Float64);
        if (channels == 1) return exact.sum(1, keepdim: true);
        long given = weight.size(1);
        using Scalar scale = ((double)given / channels).ToScalar();
        return cat([.. Enumerable.Repeat(exact, (int)((channels + given - 1) / given))], 1).narrow(1, 0, channels).mul(scale);
    }
}
