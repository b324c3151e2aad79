using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.ML.OnnxRuntime;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>One export: writes the graph, saves it, runs it beside the network.</summary>
internal sealed class OnnxExporter
{
    /// <summary>Metadata with the paths of all attention modules, as JSON.</summary>
    public const string AttentionsKey = "torchsharp_attention.attentions";

    /// <summary>Metadata with the kind of each attention module by its path, as JSON.</summary>
    public const string KindsKey = "torchsharp_attention.kinds";

    private const string NoMap = "In the emitter, pass every map that AttentionRecorder would record to context.Map(...), or set AttentionMaps or Verify to false.";

    // How many steps of a 16-bit type its rounding, layer by layer, may add up to.
    private const double Steps = 8;

    // By how much the input's magnitude differs in one comparison.
    private const float Large = 8;

    // What is no rounding any more, even so.
    private const double LargeTolerance = 0.05;

    // How much more than such a change makes of an output the file may differ: its own roundings come at every layer.
    private const double NudgedSteps = 8;

    private static readonly (string Kind, Func<long, float[]> Values)[] _patterns =
    [
        ("constant", count => [.. Enumerable.Repeat(0.1f, (int)count)]),
        ("one-hot", count => [.. Enumerable.Range(0, (int)count).Select(i => i == count / 2 ? 1f : 0f)]),
        ("ramp", count => [.. Enumerable.Range(0, (int)count).Select(i => (float)((2.0 * i / count) - 1))]),
    ];

    private readonly nn.Module _model;
    private readonly IReadOnlyList<Tensor> _examples;
    private readonly OnnxExportOptions _options;
    private readonly List<string> _notes = [];
    private readonly List<(int Input, int Axis, string Symbol)> _dynamic = [];
    private readonly List<OnnxSkippedCheck> _skipped = [];
    private List<(string Path, AttentionMapKind Kind, string Output)> _maps = [];
    private OnnxGraph _graph = null!;
    private int _outputCount = 1;
    private IReadOnlyList<OnnxValue> _inputs = [], _outputs = [];

    public OnnxExporter(nn.Module model, IReadOnlyList<Tensor> examples, OnnxExportOptions options)
    {
        (_model, _examples, _options) = (model, examples, options);
        for (int input = 0; input < examples.Count; input++)
        {
            foreach ((OnnxDynamicAxes flag, int axis, string name) in AxesOf(examples[input].dim()))
            {
                // Inputs whose first axes are as long share them; every other axis is its own.
                int owner = flag == OnnxDynamicAxes.Batch ? examples.ToList().FindIndex(example => example.size(0) == examples[input].size(0)) : input;
                if (options.DynamicAxes.HasFlag(flag)) _dynamic.Add((input, axis, owner == 0 ? name : $"{name}{owner + 1}"));
            }
        }
    }

    public OnnxExportReport Run(string path)
    {
        _options.Normalization?.Validate(_examples[0].shape);
        NoteUnfound();
        WriteGraph();
        IReadOnlyList<OnnxCheck> checks = [];
        string? data = OnnxModelFile.Save(_graph.Model, path, _options.ExternalDataThreshold, _options.Verify ? file => checks = Verify(file) : null);
        return new OnnxExportReport
        {
            Path = path,
            DataPath = data,
            Opset = OnnxGraph.Opset,
            IrVersion = OnnxGraph.IrVersion,
            Inputs = [.. _inputs.Select(Line)],
            Outputs = [.. _outputs.Select(Line)],
            Nodes = _graph.Model.Graph.Node.Count,
            Bytes = new FileInfo(path).Length + (data is null ? 0 : new FileInfo(data).Length),
            Checks = checks,
            Skipped = _skipped,
            Notes = _notes,
        };
    }

    /// <summary>Writes the graph, again with an axis less wherever a module needs its size.</summary>
    private void WriteGraph()
    {
        while (true)
        {
            try
            {
                TryWriteGraph();
                return;
            }
            catch (FixedAxisException e)
            {
                string[] symbols = [.. Symbols().Where((_, i) => (e.Axes >> i & 1) != 0)];
                if (_options.RequireDynamicAxes)
                {
                    throw new NotSupportedException(
                        $"{string.Join(" and ", symbols)} cannot stay dynamic: {e.Message}. Leave it out of DynamicAxes, or set RequireDynamicAxes to false.", e);
                }

                _notes.Add($"{string.Join(" and ", symbols)} fixed at the example's size: {e.Message}.");
                _dynamic.RemoveAll(axis => symbols.Contains(axis.Symbol));
            }
        }
    }

    /// <summary>Says which of the asked axes no input has.</summary>
    private void NoteUnfound()
    {
        foreach (OnnxDynamicAxes flag in new[] { OnnxDynamicAxes.Height, OnnxDynamicAxes.Width, OnnxDynamicAxes.Length })
        {
            if (!_options.DynamicAxes.HasFlag(flag) || _examples.Any(example => AxesOf(example.dim()).Any(axis => axis.Flag == flag))) continue;
            string place = flag switch
            {
                OnnxDynamicAxes.Height => "axis 2 of (N, C, H, W)",
                OnnxDynamicAxes.Width => "axis 3 of (N, C, H, W) or axis 2 of (N, C, L)",
                _ => "axis 1 of (N, L, C)",
            };
            string shapes = string.Join(", ", _examples.Select(example => Check.Shape(example)));
            if (_options.RequireDynamicAxes)
            {
                throw new ArgumentException(
                    $"DynamicAxes has {flag}, which is {place}; the example input is {shapes}. Leave it out, or set RequireDynamicAxes to false.", nameof(OnnxExportOptions.DynamicAxes));
            }

            _notes.Add($"{flag} of DynamicAxes finds no axis: it is {place}, and the example input is {shapes}.");
        }
    }

    private void TryWriteGraph()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        _graph = new OnnxGraph(_model.GetName());
        string[] symbols = Symbols(), names = Names(_options.InputNames, "input", _examples.Count, nameof(OnnxExportOptions.InputNames));
        string[] results = Names(_options.OutputNames, "output", _options.OutputNames?.Count ?? _outputCount, nameof(OnnxExportOptions.OutputNames));
        (string Path, nn.Module Module)[] attentions = _options.AttentionMaps ? [.. AttentionRecorder.Attentions(_model)] : [];
        foreach (string name in names) _graph.Reserve(name, nameof(OnnxExportOptions.InputNames));
        foreach (string name in results) _graph.Reserve(name, nameof(OnnxExportOptions.OutputNames));
        foreach ((string path, nn.Module _) in attentions)
        {
            foreach (AttentionMapKind kind in Enum.GetValues<AttentionMapKind>()) _graph.Reserve(NameOf(path, kind), "an attention map");
        }

        _inputs = [.. _examples.Select((example, input) =>
        {
            long[] shape = example.shape;
            return _graph.Input(names[input], [.. shape.Select((size, axis) =>
                _dynamic.Find(entry => entry.Input == input && entry.Axis == axis).Symbol is { } symbol
                    ? OnnxLength.Read(names[input], axis, size, 1UL << Array.IndexOf(symbols, symbol), symbol)
                    : size)]);
        })];
        OnnxContext context = new(
            _graph, _model, _options.Emitters, _options.ConvertToFloat32, attentions.Select(entry => entry.Module));
        IReadOnlyList<OnnxValue> outputs = context.Emit(_model, _inputs);
        if (outputs.Count != results.Length)
        {
            // Names are kept free before anything else takes them, and only now it shows how many.
            if (_options.OutputNames is not null) Names(_options.OutputNames, "output", outputs.Count, nameof(OnnxExportOptions.OutputNames));
            _outputCount = outputs.Count;
            TryWriteGraph();
            return;
        }

        _maps = [.. context.Maps.Select(map => (map.Path, map.Kind, NameOf(map.Path, map.Kind)))];
        _outputs =
        [
            .. outputs.Select((output, i) => _graph.Output(output, results[i])),
            .. context.Maps.Select((map, i) => _graph.Output(map.Value, _maps[i].Output)),
        ];
        _graph.Prune();
        WriteMetadata();
    }

    private static string NameOf(string path, AttentionMapKind kind) => OnnxContext.Below(path, kind.ToString());

    private void WriteMetadata()
    {
        _graph.Metadata("torchsharp_attention.version", OnnxGraph.Version);
        _graph.Metadata("torchsharp_attention.model", _model.GetName());
        if (Plan(_model, "the plan") is { } plan) _graph.Metadata("torchsharp_attention.plan", plan);
        if (_model is UNet && _model.named_children().FirstOrDefault(child => child.name == "encoder").module is { } encoder && Plan(encoder, "the encoder's plan") is { } own)
        {
            _graph.Metadata("torchsharp_attention.encoder_plan", own);
        }

        if (_model is IAttentionModule attention) _graph.Metadata("torchsharp_attention.options", attention.Options.ToJson());
        string[] attentions = [.. AttentionRecorder.Attentions(_model).Select(entry => entry.Name)];
        if (attentions.Length > 0) _graph.Metadata(AttentionsKey, JsonSerializer.Serialize(attentions));
        Dictionary<string, string> kinds = [];
        foreach ((string name, nn.Module module) in AttentionRecorder.Attentions(_model))
        {
            if (module is IAttentionModule attended && Said(() => attended.Options.Kind(), $"the kind of '{name}'") is { } kind) kinds[name] = kind;
        }

        if (kinds.Count > 0) _graph.Metadata(KindsKey, JsonSerializer.Serialize(kinds));
        if (Insertions() is { Count: > 0 } insertions) _graph.Metadata("torchsharp_attention.insertions", insertions.ToJsonString());
        if (_options.ClassNames is { } classes) _graph.Metadata("class_names", JsonSerializer.Serialize(classes.ToArray()));
        if (_options.Normalization is { } normalization)
        {
            _graph.Metadata("normalization.mean", JsonSerializer.Serialize(normalization.Mean.ToArray()));
            _graph.Metadata("normalization.std", JsonSerializer.Serialize(normalization.Std.ToArray()));
        }

        foreach ((string key, string value) in _options.Metadata ?? new Dictionary<string, string>()) _graph.Metadata(key, value);
    }

    /// <summary>What InsertAttention put around submodules, in the order in which it acts there.</summary>
    private JsonArray Insertions()
    {
        JsonArray all = [];
        foreach ((string place, nn.Module module) in _model.named_modules().Prepend(("", _model)))
        {
            (IReadOnlyList<AttentionModule> before, IReadOnlyList<AttentionModule> after) = HookedModule.Around(module);
            foreach (AttentionModule attention in before) Add(place, InsertionSide.Before, attention);
            foreach (AttentionModule attention in after) Add(place, InsertionSide.After, attention);
        }

        return all;

        void Add(string place, InsertionSide side, AttentionModule attention)
        {
            if (Said(() => attention.Options.ToJson(), $"what was inserted around '{place}'") is not { } options) return;
            all.Add(new JsonObject
            {
                ["place"] = place,
                ["side"] = side.ToString(),
                ["channels"] = attention.Channels,
                ["attention"] = JsonNode.Parse(options),
            });
        }
    }

    /// <summary>What options of a user's own say of themselves; a note where they do not.</summary>
    private string? Said(Func<string> say, string what)
    {
        try
        {
            return say();
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException or InvalidOperationException or JsonException)
        {
            _notes.Add($"{what} is not in the metadata: {Check.Text(e)}");
            return null;
        }
    }

    private string? Plan(nn.Module model, string what)
    {
        if (model is not FeatureNetwork { Plan: { } plan }) return null;
        if (plan.Rules.All(rule => rule.Predicate is null)) return plan.ToJson();
        _notes.Add($"{what} is not in the metadata, because a rule has a predicate, which is code.");
        return null;
    }

    private List<OnnxCheck> Verify(string file)
    {
        using OnnxSession session = Open(file);
        using EvaluationMode evaluation = new(_model);
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        List<OnnxCheck> checks = [];
        Random random = new(20260101);
        double tolerance = Tolerance();
        Dictionary<string, double> magnitudes = [];
        Compare(Sizes(size => size, size => size, size => size), required: true);
        if (_dynamic.Count > 0) Compare(Sizes(size => size + 1, size => size + size / 2, size => size));
        if (_dynamic.Exists(axis => !IsBatch(axis.Symbol)))
        {
            Compare(Sizes(size => size == 1 ? 2 : 1, size => size, size => 2 * size));
            Compare(Sizes(size => size, size => size + 1, size => size + 1));
        }

        // A network may refuse sizes; then others are tried, and an axis that nothing was compared along is no dynamic axis.
        if (Unseen().Length > 0) Compare(Sizes(size => size + 1, size => 2 * size, size => 2 * size));
        if (Unseen().Length > 0) Compare(Sizes(size => size + 1, size => size, size => size));
        if (Unseen() is { Length: > 0 } unseen)
        {
            throw new OnnxVerificationException(
                $"{string.Join(" and ", unseen)} could not be checked: {_model.GetName()} refuses other sizes than the example's. No file was written. Leave what cannot " +
                $"change out of DynamicAxes, or give an example of another size. Refused: {string.Join("; ", _skipped)}", checks);
        }

        CompareLarge();
        foreach ((string kind, Func<long, float[]> values) in _patterns) ComparePattern(kind, values);
        if (checks.MaxBy(check => check.RelativeError) is { } worst && !(worst.RelativeError <= tolerance)) throw Different(worst, tolerance, checks);
        return checks;

        void Compare(long[][] shapes, bool required = false)
        {
            using DisposeScope each = NewDisposeScope();
            ValueList<ValueList<long>> said = ValueList.Create<ValueList<long>>([.. shapes.Select(shape => ValueList.Create<long>(shape))]);
            if (checks.Exists(check => check.InputShapes == said) || _skipped.Exists(skipped => skipped.InputShapes == said)) return;
            Tensor[] inputs = [.. shapes.Select((shape, i) => Noise(random, shape, _examples[i], 1))];
            if (Expect(inputs, said, required) is not { } expected) return;
            foreach ((string output, Tensor value) in expected)
            {
                if (!IsFinite(value)) throw NotFinite(said, output, checks);
                magnitudes[output] = Math.Max(magnitudes.GetValueOrDefault(output), Magnitude(value));
            }

            IReadOnlyDictionary<string, Tensor> found = RunFile(inputs, said);
            foreach ((string output, Tensor value) in expected) checks.Add(Difference(said, output, value, found[output]));
        }

        // Other magnitudes reach other parts of activations. Rounding grows with them, and what overflows says nothing: only gross differences count.
        void CompareLarge()
        {
            using DisposeScope each = NewDisposeScope();
            ValueList<ValueList<long>> said = checks[0].InputShapes;
            Tensor[] inputs = [.. _examples.Select(example => Noise(random, example.shape, example, Large))];
            if (Returned(inputs) is not { } expected) return;
            IReadOnlyDictionary<string, Tensor> found = RunFile(inputs, said);
            for (int i = 0; i < expected.Count; i++)
            {
                if (!IsFinite(expected[i])) continue;
                OnnxCheck check = Difference(said, _outputs[i].Name, expected[i], found[_outputs[i].Name]) with { Kind = "large" };
                if (check.RelativeError > Math.Max(tolerance, LargeTolerance)) checks.Add(check);
            }
        }

        // Even areas, single points and slopes show what random numbers hide: roundings that go the same way, borders, positions. An output may be nearly zero for them, so the error is measured against what random
        // inputs make of it; and what the network itself does with a few roundings of its input is no error (a norm of a constant map is rounding alone).
        void ComparePattern(string kind, Func<long, float[]> values)
        {
            using DisposeScope each = NewDisposeScope();
            ValueList<ValueList<long>> said = checks[0].InputShapes;
            Tensor[] inputs = [.. _examples.Select(example => tensor(values(example.numel()), example.shape).to(example.dtype, example.device))];
            if (Returned(inputs) is not { } expected) return;
            IReadOnlyDictionary<string, Tensor> found = RunFile(inputs, said);
            IReadOnlyList<Tensor>? nudged = null;
            for (int i = 0; i < expected.Count; i++)
            {
                if (!IsFinite(expected[i])) continue;
                string name = _outputs[i].Name;
                double scale = Math.Max(magnitudes.GetValueOrDefault(name), Magnitude(expected[i]));
                OnnxCheck check = Difference(said, name, expected[i], found[name]) with { Kind = kind };
                check = check with { RelativeError = check.AbsoluteError == 0 ? 0 : check.AbsoluteError / scale };
                if (check.RelativeError <= tolerance) continue;
                nudged ??= Returned([.. inputs.Select(input => Nudged(random, input))]);
                if (nudged is null || check.AbsoluteError > NudgedSteps * Difference(said, name, expected[i], nudged[i]).AbsoluteError) checks.Add(check);
            }
        }

        // Null where the network refuses the numbers.
        IReadOnlyList<Tensor>? Returned(Tensor[] inputs)
        {
            try
            {
                return ModelCall.Run(_model, inputs);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                return null;
            }
        }

        IReadOnlyDictionary<string, Tensor> RunFile(Tensor[] inputs, ValueList<ValueList<long>> shapes)
        {
            try
            {
                return session.Run([.. inputs.Select((input, i) => (_inputs[i].Name, input.cpu().to_type(ScalarType.Float32)))]);
            }
            catch (OnnxRuntimeException e)
            {
                throw new OnnxVerificationException($"ONNX Runtime cannot run the file on input {string.Join(", ", shapes)}, which {_model.GetName()} takes: {e.Message}", checks);
            }
        }

        string[] Unseen() => [.. Symbols().Where(symbol => _dynamic.Where(axis => axis.Symbol == symbol).All(
            axis => checks.TrueForAll(check => check.InputShapes[axis.Input][axis.Axis] == _examples[axis.Input].size(axis.Axis))))];
    }

    private OnnxVerificationException Different(OnnxCheck worst, double tolerance, IReadOnlyList<OnnxCheck> checks)
    {
        string where = $"The file computes something else than {_model.GetName()}: output '{worst.Output}' at{(worst.Kind.Length > 0 ? $" a {worst.Kind}" : "")} input {string.Join(", ", worst.InputShapes)} ";
        return new OnnxVerificationException(
            worst.Shapes.Length > 0
                ? $"{where}{worst.Shapes}. No file was written. The emitter of a module gives another shape: Mean, Sum and Max of an emitter keep the axes unless keepDims is false, TorchSharp's drop them."
                : string.Create(
                    CultureInfo.InvariantCulture,
                    $"{where}differs by {worst.AbsoluteError:0.##e+0}, relative {worst.RelativeError:0.##e+0} where {tolerance:0.##e+0} is allowed. No file was written. Hooks that change " +
                    $"outputs are not exported; otherwise the emitter of a module is wrong, or the tolerance too strict."),
            checks);
    }

    /// <summary>The network's own numbers are to blame, not the file.</summary>
    private OnnxVerificationException NotFinite(ValueList<ValueList<long>> shapes, string output, IReadOnlyList<OnnxCheck> checks)
    {
        string[] wrong = [.. _model.named_parameters().Select(own => (own.name, (Tensor)own.parameter)).Concat(_model.named_buffers()).Where(own => !IsFinite(own.Item2)).Select(own => $"'{own.Item1}'")];
        string why = wrong.Length == 0
            ? "All its parameters and buffers are finite, so it overflows or divides by zero on normally distributed inputs. Set Verify to false to export it unseen."
            : $"{wrong.Length} of its parameters and buffers hold NaN or infinity, the first of them {string.Join(", ", wrong.Take(3))}. Load or train its weights again; set Verify to false to export it as it is.";
        return new OnnxVerificationException($"{_model.GetName()} itself gives NaN or infinity: its output '{output}' at input {string.Join(", ", shapes)} is not finite, so the file cannot be compared with it. No file was written. {why}", checks);
    }

    /// <summary>What the network returns, by the names of the file's outputs; null where it refuses a size that is not the example's.</summary>
    private List<(string Output, Tensor Value)>? Expect(Tensor[] inputs, ValueList<ValueList<long>> shapes, bool required)
    {
        try
        {
            using AttentionRecorder? recorder = _maps.Count > 0 ? AttentionRecorder.Attach(_model) : null;
            List<(string, Tensor)> expected = [.. ModelCall.Run(_model, inputs).Select((value, i) => (_outputs[i].Name, value))];
            if (recorder is not null) expected.AddRange(_maps.Select(map => (map.Output, Recorded(recorder, map.Path, map.Kind))));
            return expected;
        }
        catch (Exception e) when (!required && e is not (OutOfMemoryException or OnnxVerificationException))
        {
            _skipped.Add(new OnnxSkippedCheck(shapes, Check.Text(e).Split('\n')[0]));
            return null;
        }
    }

    /// <summary>A map that the network's own recorder has.</summary>
    private Tensor Recorded(AttentionRecorder recorder, string path, AttentionMapKind kind)
    {
        if (!recorder.CallOrder.Contains(path))
        {
            throw new OnnxVerificationException($"The map '{NameOf(path, kind)}' could not be checked: no call of {_model.GetName()} reached '{path}'. " + NoMap, []);
        }

        AttentionMaps maps = recorder[path];
        if (maps[kind] is { } map) return map.clone();

        // A map of one position has no more than its channels to tell apart; the file says all three for the sake of other sizes.
        return (kind, maps[AttentionMapKind.Channel]) switch
        {
            (AttentionMapKind.Element, { } channels) => channels.unsqueeze(2).unsqueeze(3),
            (AttentionMapKind.Spatial, { } channels) => channels.mean([1]).unsqueeze(1).unsqueeze(2),
            _ => throw new OnnxVerificationException(
                $"The map '{NameOf(path, kind)}' could not be checked: an {nameof(AttentionRecorder)} records {string.Join(", ", maps.Kinds)} of it. {NoMap}", []),
        };
    }

    /// <summary>The example's shapes with other dynamic axes.</summary>
    private long[][] Sizes(Func<long, long> batch, Func<long, long> height, Func<long, long> width)
    {
        long[][] shapes = [.. _examples.Select(example => example.shape)];
        foreach ((int input, int axis, string symbol) in _dynamic)
        {
            ref long size = ref shapes[input][axis];
            size = (IsBatch(symbol) ? batch : symbol.StartsWith("width", StringComparison.Ordinal) ? width : height)(size);
        }

        return shapes;
    }

    private static bool IsBatch(string symbol) => symbol.StartsWith("batch", StringComparison.Ordinal);

    private string[] Symbols() => [.. _dynamic.Select(entry => entry.Symbol).Distinct()];

    private static IEnumerable<(OnnxDynamicAxes Flag, int Axis, string Name)> AxesOf(long rank)
    {
        yield return (OnnxDynamicAxes.Batch, 0, "batch");
        if (rank == 4) yield return (OnnxDynamicAxes.Height, 2, "height");
        if (rank == 4) yield return (OnnxDynamicAxes.Width, 3, "width");
        if (rank == 3) yield return (OnnxDynamicAxes.Length, 1, "length");
        if (rank == 3) yield return (OnnxDynamicAxes.Width, 2, "width");
    }

    private static string[] Names(ValueList<string>? given, string otherwise, int count, string option)
    {
        if (given is null) return count == 1 ? [otherwise] : [.. Enumerable.Range(1, count).Select(i => $"{otherwise}{i}")];
        return given.Count == count && given.Distinct().Count() == count && !given.Any(string.IsNullOrWhiteSpace)
            ? [.. given]
            : throw new ArgumentException($"{option} is {given}; give {count} different names, none of them empty.", option);
    }

    /// <summary>What the options allow, or what a network that computes in 16 bits can keep to.</summary>
    private double Tolerance()
    {
        ScalarType[] types = [.. _examples.Select(example => example.dtype), .. _model.parameters().Select(parameter => parameter.dtype)];
        ScalarType? coarse = types.Contains(ScalarType.BFloat16) ? ScalarType.BFloat16 : types.Contains(ScalarType.Float16) ? ScalarType.Float16 : null;
        double least = coarse is { } type ? Steps * StepOf(type) : 0;
        if (least <= _options.Tolerance) return _options.Tolerance;
        _notes.Add(string.Create(
            CultureInfo.InvariantCulture, $"compared within {least:0.##e+0} instead of {_options.Tolerance:0.##e+0}, because the network computes in {coarse}; the file computes in Float32."));
        return least;
    }

    /// <summary>From 1 to the next number of a type.</summary>
    internal static double StepOf(ScalarType type) => type switch
    {
        ScalarType.BFloat16 => 1.0 / 128,
        ScalarType.Float16 => 1.0 / 1024,
        _ => 1.0 / (1 << 23),
    };

    private OnnxSession Open(string file)
    {
        try
        {
            return new OnnxSession(file);
        }
        catch (OnnxRuntimeException e)
        {
            throw new OnnxVerificationException(
                $"ONNX Runtime does not take the file of {_model.GetName()}: {e.Message.Replace(file, "the file", StringComparison.Ordinal)} No file was written. " +
                "An emitter writes a node that its operator does not allow.", []);
        }
    }

    private static Tensor Noise(Random random, long[] shape, Tensor like, float magnitude)
    {
        float[] values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = magnitude * (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        return tensor(values, shape).to(like.dtype, like.device);
    }

    /// <summary>The input with the smallest changes that its type knows, a few steps of the largest number.</summary>
    private static Tensor Nudged(Random random, Tensor input)
    {
        double step = Steps * StepOf(input.dtype) * Magnitude(input);
        double[] values = input.cpu().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
        for (int i = 0; i < values.Length; i++) values[i] += step * ((2 * random.NextDouble()) - 1);
        return tensor(values, input.shape).to(input.dtype, input.device);
    }

    private static double Magnitude(Tensor value)
    {
        using DisposeScope scope = NewDisposeScope();
        return value.numel() == 0 ? 0 : value.detach().to_type(ScalarType.Float64).abs().max().item<double>();
    }

    private static bool IsFinite(Tensor value) => !(value.is_floating_point() && !double.IsFinite(Magnitude(value)));

    private static OnnxCheck Difference(ValueList<ValueList<long>> shapes, string output, Tensor expected, Tensor found)
    {
        using DisposeScope scope = NewDisposeScope();
        if (!expected.shape.AsSpan().SequenceEqual(found.shape))
        {
            return new OnnxCheck(shapes, output, double.PositiveInfinity, double.PositiveInfinity)
            {
                Shapes = $"has the shape {Check.Shape(found)} in the file, and {Check.Shape(expected)} in the network",
            };
        }

        if (expected.numel() == 0) return new OnnxCheck(shapes, output, 0, 0);

        // Not by operations of tensors: their sum and difference make a scalar each, which the finaliser may free before it is read.
        double[] exact = expected.cpu().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
        double[] other = found.to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
        double difference = 0, scale = 0;
        for (int i = 0; i < exact.Length; i++)
        {
            difference = Math.Max(difference, Math.Abs(exact[i] - other[i])); // Max of anything and no number is no number.
            scale = Math.Max(scale, Math.Abs(exact[i]));
        }

        if (!double.IsFinite(difference) || !double.IsFinite(scale)) return new OnnxCheck(shapes, output, double.PositiveInfinity, double.PositiveInfinity);
        return new OnnxCheck(shapes, output, difference, difference == 0 ? 0 : difference / scale);
    }

    private static string Line(OnnxValue value) => $"{value.Name} ({string.Join(", ", value.Shape.Select(length => length.IsDynamic ? length.Symbol ?? "?" : length.Size.ToString(CultureInfo.InvariantCulture)))})";
}

/// <summary>Evaluation mode, and back to each module's own.</summary>
internal sealed class EvaluationMode : IDisposable
{
    private readonly List<(nn.Module Module, bool Training)> _modes = [];

    public EvaluationMode(nn.Module model)
    {
        foreach (nn.Module module in model.modules().Prepend(model)) _modes.Add((module, module.training));
        model.eval();
    }

    public void Dispose()
    {
        // Parents first: they set their children's.
        foreach ((nn.Module module, bool training) in _modes)
        {
            if (module.training != training) module.train(training);
        }
    }
}

/// <summary>Calls modules of several shapes.</summary>
internal static class ModelCall
{
    public static IReadOnlyList<Tensor> Run(nn.Module model, IReadOnlyList<Tensor> inputs)
    {
        using ReachableTensors held = new(model);
        return Call(model, inputs);
    }

    private static Tensor[] Call(nn.Module model, IReadOnlyList<Tensor> inputs) => (model, inputs) switch
    {
        (nn.Module<Tensor, Tensor> one, [var x]) => [one.call(x)],
        (nn.Module<Tensor, Tensor, Tensor> two, [var a, var b]) => [two.call(a, b)],
        (nn.Module<Tensor, Tensor, Tensor, Tensor> three, [var a, var b, var c]) => [three.call(a, b, c)],
        (CrossAttention cross, [var map, var context]) => [cross.call(map, context)],
        (MultiHeadAttention heads, [var sequence]) => [heads.call(sequence)],
        (MultiHeadAttention heads, [var query, var key, var value]) => [heads.call(query, key, value)],
        (nn.Module<Tensor, (Tensor, Tensor)> pair, [var x]) => Both(pair.call(x)),
        _ => throw new ArgumentException(
            $"{model.GetName()} cannot be compared with its file: {Signature(model)}, and it was given {inputs.Count} {(inputs.Count == 1 ? "tensor" : "tensors")}. Networks of one to three tensors that return a tensor can, and those of one tensor that return a pair. " +
            "Wrap it in a class whose forward returns the tensors that the file is to have, or set Verify to false to export it unseen.", nameof(inputs)),
    };

    /// <summary>What forward takes and returns, as the module's base class says.</summary>
    private static string Signature(nn.Module model)
    {
        for (Type? type = model.GetType(); type is not null; type = type.BaseType)
        {
            if (type.IsGenericType && type.DeclaringType == typeof(nn)) return $"its forward takes {string.Join(", ", type.GetGenericArguments().SkipLast(1).Select(Name))} and returns {Name(type.GetGenericArguments()[^1])}";
        }

        return "its forward is unknown";
    }

    private static string Name(Type type) => !type.IsGenericType ? type.Name
        : type.Name.StartsWith(nameof(ValueTuple), StringComparison.Ordinal) ? $"({string.Join(", ", type.GetGenericArguments().Select(Name))})"
        : $"{type.Name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>";

    private static Tensor[] Both((Tensor First, Tensor Second) pair) => [pair.First, pair.Second];
}
