using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Which tensor of a file goes where in a model. Names, shapes and types decide first, without reading values; then all values
/// are read and checked; then they are copied.
/// </summary>
internal sealed class WeightsMatch
{
    private const string Counter = "num_batches_tracked", NoCounters = "KeyMap.Drop(\"num_batches_tracked$\")";

    private readonly Dictionary<string, Tensor> _model;
    private readonly SortedDictionary<string, (WeightsEntry Entry, ValueList<long> Shape)> _matched = new(StringComparer.Ordinal);
    private readonly List<(string Name, Tensor Value)> _values = [];
    private readonly nn.Module _module;
    private readonly TiedNames _tied;
    private readonly WeightsFile _file;
    private readonly WeightsLoadOptions _options;
    private readonly string _prefix;
    private readonly string? _adapted;

    public WeightsMatch(nn.Module model, WeightsFile file, KeyMap keys, WeightsLoadOptions options)
    {
        _module = model;
        _file = file;
        _options = options;
        _prefix = string.IsNullOrEmpty(options.Submodule) ? "" : options.Submodule + ".";
        KeyValuePair<string, Tensor>[] state = [
            .. model.state_dict().Where(pair => pair.Key.StartsWith(_prefix, StringComparison.Ordinal))];
        if (state.Length == 0 && _prefix.Length > 0)
        {
            throw new ArgumentException(
                $"Submodule is '{options.Submodule}'; the model has no such part. " +
                $"It has {Listing.Of(model.named_children().Select(child => child.name))}.", nameof(options));
        }

        _model = new Dictionary<string, Tensor>(state, StringComparer.Ordinal);
        _tied = new TiedNames(state);
        string? firstConvolution = state.Where(pair => pair.Value.dim() == 4).Select(pair => pair.Key).FirstOrDefault();
        Dictionary<string, string> taken = new(StringComparer.Ordinal);
        List<string> unexpected = [], skipped = [];
        List<WeightsMismatch> mismatched = [];
        foreach (WeightsEntry entry in file.Entries.Values)
        {
            if (keys.Apply(entry.Name, entry.Shape) is not (string mapped, ValueList<long> shape)
                || IsDropped(mapped = _prefix + mapped))
            {
                skipped.Add(entry.Name);
                continue;
            }

            if (!taken.TryAdd(mapped, entry.Name))
            {
                throw new ArgumentException(
                    $"'{file.Path}': the key map sends both '{taken[mapped]}' and '{entry.Name}' to '{mapped}'; mend its rules.",
                    nameof(keys));
            }

            if (!_model.TryGetValue(mapped, out Tensor? own)) (options.AllowUnexpected ? skipped : unexpected).Add(entry.Name);
            else if (Problem(mapped, entry, shape, own) is not { } problem) _matched.Add(mapped, (entry, shape));
            else mismatched.Add(Mismatch(mapped, entry, shape, problem));
        }

        // Names of one tensor: what one of them takes, all have.
        HashSet<string> covered = [.. taken.Keys.SelectMany(_tied.Of)];
        string[] attention = options.AllowMissingAttention ? Absent(model, covered) : [];
        ILookup<bool, string> absent = _model.Keys
            .Where(name => !covered.Contains(name) && !IsDropped(name) && !IsCounter(name))
            .Order(StringComparer.Ordinal)
            .ToLookup(name => attention.Any(prefix => name.StartsWith(prefix, StringComparison.Ordinal)));
        _adapted = firstConvolution is not null
            && _matched.TryGetValue(firstConvolution, out (WeightsEntry, ValueList<long> Shape) first)
            && !first.Shape.SequenceEqual(_model[firstConvolution].shape) ? firstConvolution : null;
        Report = new WeightsReport
        {
            Loaded = LoadedNames(_matched.Keys),
            Missing = [.. absent[false]],
            Unexpected = [.. unexpected],
            Mismatched = [.. mismatched],
            Skipped = [.. skipped],
            KeptAttention = [.. absent[true]],
            Adapted = _adapted,
            NotTensors = [.. file.NotTensors],
        };
        Report = Report with { Advice = WeightsAdvice.Of(Report, model, _prefix) };

        string? Problem(string name, WeightsEntry entry, ValueList<long> shape, Tensor own)
        {
            if (entry.ForeignType is not null && !file.CanRead(entry))
            {
                return $"it {ForeignType.Of(entry.ForeignType).Unreadable()}";
            }

            if (entry.ForeignType is not null && !options.WidenTypes)
            {
                return $"TorchSharp lacks {entry.ForeignType}; WidenTypes = true loads the values as {entry.Type}, without " +
                    "loss, and scales that lie beside them are for you to apply";
            }

            if (IsCounter(name) && own.dtype == ScalarType.Int64 && own.numel() == 1) return CounterProblem(entry, shape);
            if (Fits(entry, shape, own) || IsAdaptable(name, entry, shape, own)) return null;
            return IsCounter(name) ? $"counters are not needed: {NoCounters} leaves them out" : "";
        }

        bool IsAdaptable(string name, WeightsEntry entry, ValueList<long> shape, Tensor own) =>
            options.AdaptInputChannels && name == firstConvolution && SafetensorsTypes.IsFloatingPoint(entry.Type)
                && shape.Count == 4 && shape[1] > 0 && own.size(1) > 0
            && shape[0] == own.size(0) && shape[2] == own.size(2) && shape[3] == own.size(3);
    }

    public WeightsReport Report { get; private set; }

    /// <summary>
    /// Reads and converts all values. Those that the model's types lack, and names of one tensor with
    /// different values, become mismatches.
    /// </summary>
    public void Read()
    {
        List<WeightsMismatch> mismatched = [.. Report.Mismatched];
        List<WeightsConversion> conversions = [];
        foreach ((string name, (WeightsEntry entry, ValueList<long> shape)) in _matched)
        {
            using DisposeScope scope = NewDisposeScope();
            ValueConversion converted = Converted(name, entry, shape);
            string? problem = Problem(converted, _model[name].dtype) ?? Contradiction(name, entry, converted.Value);
            if (problem is not null)
            {
                mismatched.Add(Mismatch(name, entry, shape, problem));
                continue;
            }

            if (converted.Rounded + converted.Overflowed > 0)
            {
                conversions.Add(
                    new WeightsConversion(name, entry.Type, _model[name].dtype, converted.Rounded, converted.Overflowed));
            }

            _values.Add((name, converted.Value.MoveToOuterDisposeScope()));
        }

        HashSet<string> wrong = [.. mismatched.Select(mismatch => mismatch.Name)];
        _values.RemoveAll(item => _tied.Of(item.Name).Any(wrong.Contains));
        Report = Report with
        {
            Loaded = LoadedNames(_values.Select(item => item.Name)),
            Mismatched = [.. mismatched.OrderBy(mismatch => mismatch.FileName, StringComparer.Ordinal)],
            Conversions = [.. conversions],
        };
        Report = Report with { Advice = WeightsAdvice.Of(Report, _module, _prefix) };
    }

    /// <summary>Copies what was read: a file that fails while it is read changes nothing.</summary>
    public void Copy()
    {
        foreach ((string name, Tensor value) in _values) _model[name].copy_(value);
    }

    /// <summary>
    /// Where the attention modules begin of which the file has nothing; half of one would compute what nobody trained.
    /// </summary>
    private static string[] Absent(nn.Module model, HashSet<string> covered)
    {
        string[] all = [.. model.named_modules().Where(item => item.module is IAttentionModule).Select(item => item.name + ".")];
        return
        [
            .. all.Where(
                start => !all.Any(outer => outer.Length < start.Length && start.StartsWith(outer, StringComparison.Ordinal)))
                .Where(start => !covered.Any(name => name.StartsWith(start, StringComparison.Ordinal))),
        ];
    }

    private static bool IsCounter(string name) => name.EndsWith(Counter, StringComparison.Ordinal);

    private ValueList<string> LoadedNames(IEnumerable<string> names)
        => [.. names.SelectMany(_tied.Of).Distinct().Order(StringComparer.Ordinal)];

    private WeightsMismatch Mismatch(string name, WeightsEntry entry, ValueList<long> shape, string problem) =>
        new(name, entry.Name, shape, ValueList.Create<long>(_model[name].shape), entry.Type, _model[name].dtype)
        {
            ForeignType = entry.ForeignType,
            Problem = problem.Length == 0 ? null : problem,
        };

    private ValueConversion Converted(string name, WeightsEntry entry, ValueList<long> shape)
    {
        Tensor value = _file.Load(entry.Name).view([.. shape]), target = _model[name];
        if (name == _adapted)
        {
            // The sums and scales of an adapted weight are rounded by their nature.
            return ValueConversion.Of(Adapt(value, target.size(1)), target.dtype) with { Rounded = 0 };
        }

        // Checked before: a whole number in one value.
        if (IsCounter(name) && target.dtype == ScalarType.Int64 && target.numel() == 1)
        {
            return new ValueConversion(value.to_type(target.dtype).view(target.shape), 0, 0, null);
        }

        return ValueConversion.Of(value, target.dtype);
    }

    private string? Problem(ValueConversion converted, ScalarType type)
    {
        if (converted.Overflowed > 0 && !_options.AllowOverflow)
        {
            return $"{Values(converted.Overflowed)} beyond {type}, for example {converted.Example}; " +
                "AllowOverflow = true makes them infinite";
        }

        return converted.Rounded > 0 && !_options.AllowRounding
            ? $"{Values(converted.Rounded)} not in {type}, for example {converted.Example}; AllowRounding = true rounds them"
            : null;

        static string Values(long count) => count == 1 ? "1 value is" : $"{count} values are";
    }

    /// <summary>What is wrong where another name of the tensor came with other values.</summary>
    private string? Contradiction(string name, WeightsEntry entry, Tensor value)
    {
        IReadOnlyList<string> names = _tied.Of(name);
        if (names.Count == 1) return null;
        foreach ((string other, Tensor earlier) in _values.Where(item => names.Contains(item.Name)))
        {
            // NaN differs from itself.
            if (!value.ne(earlier).logical_and(value.isnan().logical_and(earlier.isnan()).logical_not()).any().ToBoolean())
            {
                continue;
            }

            return $"the network has one tensor for this name and {Listing.Short(other)}, and the file has other values for " +
                $"{Listing.Short(_matched[other].Entry.Name)}; leave one of them out with KeyMap.Drop";
        }

        return null;
    }

    /// <summary>
    /// Why a counter of batches that is stored in another type or shape cannot be one; null where it is a whole number.
    /// </summary>
    private string? CounterProblem(WeightsEntry entry, ValueList<long> shape)
    {
        const double end = 9223372036854775808.0;
        if (SafetensorsTypes.IsComplex(entry.Type) || shape.Any(size => size != 1))
        {
            return $"a counter is one whole number; {NoCounters} leaves counters out";
        }

        using DisposeScope scope = NewDisposeScope();
        Tensor read = _file.Load(entry.Name);
        if (!read.is_floating_point()) return null;
        double value = read.to_type(ScalarType.Float64).reshape(-1)[0].ToDouble();
        return double.IsInteger(value) && value is >= -end and < end
            ? null
            : FormattableString.Invariant($"the counter is {value}, which is no whole number; {NoCounters} leaves counters out");
    }

    private bool IsDropped(string name) =>
        _options.DropClassifier && _options.Classifier.Any(start => name.StartsWith(_prefix + start, StringComparison.Ordinal));

    /// <summary>
    /// The same shape, and a type that converts without losing its meaning: no fractions into integers, no complex into real
    /// numbers, no integers into fewer bits, where they would wrap around. Whether each value survives is seen when it is read.
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
