using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Runs an exported file in ONNX Runtime beside its network, in evaluation mode, on random inputs of several shapes and on fixed
/// patterns, and refuses the file where the outputs differ by more than rounding explains.
/// </summary>
internal sealed class OnnxVerifier(
    nn.Module model, IReadOnlyList<Tensor> examples, OnnxExportOptions options, ExportAxes axes, ExportedValues values,
    List<string> notes)
{
    private const string NoMap =
        "In the emitter, pass every map that AttentionRecorder would record to context.Map(...), or set AttentionMaps or " +
        "Verify to false.";

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

    private readonly List<OnnxCheck> _checks = [];
    private readonly List<OnnxSkippedCheck> _skipped = [];
    private readonly Random _random = new(20260101);
    private readonly Dictionary<string, double> _magnitudes = [];
    private OnnxSession _session = null!;
    private double _tolerance;

    /// <summary>Gets the comparisons that were made.</summary>
    public IReadOnlyList<OnnxCheck> Checks => _checks;

    /// <summary>Gets the shapes that the network refused.</summary>
    public IReadOnlyList<OnnxSkippedCheck> Skipped => _skipped;

    /// <summary>Compares the file with the network.</summary>
    /// <exception cref="OnnxVerificationException">The file computes something else, or could not be compared.</exception>
    public void Run(string file)
    {
        using OnnxSession session = Open(file);
        using DryRunScope dry = new(model);
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        _session = session;
        _tolerance = Tolerance();
        CompareShapes();
        CompareLarge();
        foreach ((string kind, Func<long, float[]> pattern) in _patterns) ComparePattern(kind, pattern);
        if (_checks.MaxBy(check => check.RelativeError) is { } worst && !(worst.RelativeError <= _tolerance))
        {
            throw Different(worst);
        }
    }

    private void CompareShapes()
    {
        Compare(axes.Sizes(size => size, size => size, size => size), required: true);
        if (axes.Any) Compare(axes.Sizes(size => size + 1, size => size + size / 2, size => size));
        if (axes.AnyBesideBatch)
        {
            Compare(axes.Sizes(size => size == 1 ? 2 : 1, size => size, size => 2 * size));
            Compare(axes.Sizes(size => size, size => size + 1, size => size + 1));
        }

        // A network may refuse sizes; then others are tried, and an axis that nothing was compared along is no dynamic axis.
        if (axes.Unseen(_checks).Length > 0) Compare(axes.Sizes(size => size + 1, size => 2 * size, size => 2 * size));
        if (axes.Unseen(_checks).Length > 0) Compare(axes.Sizes(size => size + 1, size => size, size => size));
        if (axes.Unseen(_checks) is not { Length: > 0 } unseen) return;
        throw new OnnxVerificationException(
            $"{string.Join(" and ", unseen)} could not be checked: {model.GetName()} refuses other sizes than the example's. " +
            "No file was written. Leave what cannot " +
            $"change out of DynamicAxes, or give an example of another size. Refused: {string.Join("; ", _skipped)}", _checks);
    }

    private void Compare(long[][] shapes, bool required = false)
    {
        using DisposeScope each = NewDisposeScope();
        ValueList<ValueList<long>> said = ValueList.Create<ValueList<long>>(
            [.. shapes.Select(shape => ValueList.Create<long>(shape))]);
        if (_checks.Exists(check => check.InputShapes == said) || _skipped.Exists(skipped => skipped.InputShapes == said)) return;
        Tensor[] inputs = [.. shapes.Select((shape, i) => OnnxComparison.Noise(_random, shape, examples[i], 1))];
        if (Expect(inputs, said, required) is not { } expected) return;
        foreach ((string output, Tensor value) in expected)
        {
            if (!OnnxComparison.IsFinite(value)) throw NotFinite(said, output);
            _magnitudes[output] = Math.Max(_magnitudes.GetValueOrDefault(output), OnnxComparison.Magnitude(value));
        }

        IReadOnlyDictionary<string, Tensor> found = RunFile(inputs, said);
        foreach ((string output, Tensor value) in expected)
        {
            _checks.Add(OnnxComparison.Difference(said, output, value, found[output]));
        }
    }

    // Other magnitudes reach other parts of activations. Rounding grows with them, and what overflows says
    // nothing: only gross differences count.
    private void CompareLarge()
    {
        using DisposeScope each = NewDisposeScope();
        ValueList<ValueList<long>> said = _checks[0].InputShapes;
        Tensor[] inputs = [.. examples.Select(example => OnnxComparison.Noise(_random, example.shape, example, Large))];
        if (Returned(inputs) is not { } expected) return;
        IReadOnlyDictionary<string, Tensor> found = RunFile(inputs, said);
        for (int i = 0; i < expected.Count; i++)
        {
            if (!OnnxComparison.IsFinite(expected[i])) continue;
            string name = values.Outputs[i].Name;
            OnnxCheck check = OnnxComparison.Difference(said, name, expected[i], found[name]) with { Kind = "large" };
            if (check.RelativeError > Math.Max(_tolerance, LargeTolerance)) _checks.Add(check);
        }
    }

    // Even areas, single points and slopes show what random numbers hide: roundings that go the same way, borders, positions. An
    // output may be nearly zero for them, so the error is measured against what random inputs make of it; and what the network
    // itself does with a few roundings of its input is no error (a norm of a constant map is rounding alone).
    private void ComparePattern(string kind, Func<long, float[]> pattern)
    {
        using DisposeScope each = NewDisposeScope();
        ValueList<ValueList<long>> said = _checks[0].InputShapes;
        Tensor[] inputs = [
            .. examples.Select(example => tensor(pattern(example.numel()), example.shape).to(example.dtype, example.device))];
        if (Returned(inputs) is not { } expected) return;
        IReadOnlyDictionary<string, Tensor> found = RunFile(inputs, said);
        IReadOnlyList<Tensor>? nudged = null;
        for (int i = 0; i < expected.Count; i++)
        {
            if (!OnnxComparison.IsFinite(expected[i])) continue;
            string name = values.Outputs[i].Name;
            double scale = Math.Max(_magnitudes.GetValueOrDefault(name), OnnxComparison.Magnitude(expected[i]));
            OnnxCheck check = OnnxComparison.Difference(said, name, expected[i], found[name]) with { Kind = kind };
            check = check with { RelativeError = check.AbsoluteError == 0 ? 0 : check.AbsoluteError / scale };
            if (check.RelativeError <= _tolerance) continue;
            nudged ??= Returned([.. inputs.Select(input => OnnxComparison.Nudged(_random, input))]);
            if (nudged is null || check.AbsoluteError > NudgedSteps
                * OnnxComparison.Difference(said, name, expected[i], nudged[i]).AbsoluteError)
            {
                _checks.Add(check);
            }
        }
    }

    /// <summary>Gets what the network returns; null where it refuses the numbers.</summary>
    private IReadOnlyList<Tensor>? Returned(Tensor[] inputs)
    {
        try
        {
            return ModelCall.Run(model, inputs);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            return null;
        }
    }

    private IReadOnlyDictionary<string, Tensor> RunFile(Tensor[] inputs, ValueList<ValueList<long>> shapes)
    {
        try
        {
            return _session.Run(
                [.. inputs.Select((input, i) => (values.Inputs[i].Name, input.cpu().to_type(ScalarType.Float32)))]);
        }
        catch (OnnxRuntimeException e)
        {
            throw new OnnxVerificationException(
                $"ONNX Runtime cannot run the file on input {string.Join(", ", shapes)}, which {model.GetName()} takes: " +
                $"{e.Message}", _checks);
        }
    }

    /// <summary>
    /// What the network returns, by the names of the file's outputs; null where it refuses a size that is not the example's.
    /// </summary>
    private List<(string Output, Tensor Value)>? Expect(Tensor[] inputs, ValueList<ValueList<long>> shapes, bool required)
    {
        try
        {
            using AttentionRecorder? recorder = values.Maps.Count > 0 ? AttentionRecorder.Attach(model) : null;
            List<(string, Tensor)> expected = [
                .. ModelCall.Run(model, inputs).Select((value, i) => (values.Outputs[i].Name, value))];
            if (recorder is not null) expected.AddRange(values.Maps.Select(map => (map.Output, Recorded(recorder, map))));
            return expected;
        }
        catch (Exception e) when (!required && e is not (OutOfMemoryException or OnnxVerificationException))
        {
            _skipped.Add(new OnnxSkippedCheck(shapes, Check.Text(e).Split('\n')[0]));
            return null;
        }
    }

    /// <summary>A map that the network's own recorder has.</summary>
    private Tensor Recorded(AttentionRecorder recorder, ExportedMap exported)
    {
        if (!recorder.CallOrder.Contains(exported.Path))
        {
            throw new OnnxVerificationException(
                $"The map '{exported.Output}' could not be checked: no call of {model.GetName()} reached '{exported.Path}'. " +
                NoMap, []);
        }

        AttentionMaps maps = recorder[exported.Path];
        if (maps[exported.Kind] is { } map) return map.clone();

        // A map of one position has no more than its channels to tell apart; the file says all three for the sake of other sizes.
        return (exported.Kind, maps[AttentionMapKind.Channel]) switch
        {
            (AttentionMapKind.Element, { } channels) => channels.unsqueeze(2).unsqueeze(3),
            (AttentionMapKind.Spatial, { } channels) => channels.mean([1]).unsqueeze(1).unsqueeze(2),
            _ => throw new OnnxVerificationException(
                $"The map '{exported.Output}' could not be checked: an {nameof(AttentionRecorder)} records " +
                $"{string.Join(", ", maps.Kinds)} of it. {NoMap}", []),
        };
    }

    /// <summary>What the options allow, or what a network that computes in 16 bits can keep to.</summary>
    private double Tolerance()
    {
        ScalarType[] types = [
            .. examples.Select(example => example.dtype), .. model.parameters().Select(parameter => parameter.dtype)];
        ScalarType? coarse = types.Contains(ScalarType.BFloat16) ? ScalarType.BFloat16
            : types.Contains(ScalarType.Float16) ? ScalarType.Float16 : null;
        double least = coarse is { } type ? OnnxComparison.Steps * OnnxComparison.StepOf(type) : 0;
        if (least <= options.Tolerance) return options.Tolerance;
        notes.Add(string.Create(
            CultureInfo.InvariantCulture,
            $"compared within {least:0.##e+0} instead of {options.Tolerance:0.##e+0}, " +
            $"because the network computes in {coarse}; the file computes in Float32."));
        return least;
    }

    private OnnxSession Open(string file)
    {
        try
        {
            return new OnnxSession(file);
        }
        catch (OnnxRuntimeException e)
        {
            throw new OnnxVerificationException(
                $"ONNX Runtime does not take the file of {model.GetName()}: " +
                $"{e.Message.Replace(file, "the file", StringComparison.Ordinal)} " +
                "No file was written. An emitter writes a node that its operator does not allow.", []);
        }
    }

    private OnnxVerificationException Different(OnnxCheck worst)
    {
        string where = $"The file computes something else than {model.GetName()}: output '{worst.Output}' " +
            $"at{(worst.Kind.Length > 0 ? $" a {worst.Kind}" : "")} input {string.Join(", ", worst.InputShapes)} ";
        return new OnnxVerificationException(
            worst.Shapes.Length > 0
                ? $"{where}{worst.Shapes}. No file was written. The emitter of a module gives another shape: " +
                    "Mean, Sum and Max of an emitter keep the axes unless keepDims is false, TorchSharp's drop them."
                : string.Create(
                    CultureInfo.InvariantCulture,
                    $"{where}differs by {worst.AbsoluteError:0.##e+0}, relative {worst.RelativeError:0.##e+0} where " +
                    $"{_tolerance:0.##e+0} is " +
                    $"allowed. No file was written. Hooks that change " +
                    $"outputs are not exported; otherwise the emitter of a module is wrong, or the tolerance too strict."),
            _checks);
    }

    /// <summary>The network's own numbers are to blame, not the file.</summary>
    private OnnxVerificationException NotFinite(ValueList<ValueList<long>> shapes, string output)
    {
        IEnumerable<(string Name, Tensor Value)> state =
            model.named_parameters().Select(own => (own.name, (Tensor)own.parameter)).Concat(model.named_buffers());
        string[] wrong = [.. state.Where(own => !OnnxComparison.IsFinite(own.Value)).Select(own => $"'{own.Name}'")];
        string why = wrong.Length == 0
            ? "All its parameters and buffers are finite, so it overflows or divides by zero on normally distributed inputs. " +
                "Set Verify to false to export it unseen."
            : $"{wrong.Length} of its parameters and buffers hold NaN or infinity, the first of them " +
                $"{string.Join(", ", wrong.Take(3))}. " +
                "Load or train its weights again; set Verify to false to export it as it is.";
        return new OnnxVerificationException(
            $"{model.GetName()} itself gives NaN or infinity: its output '{output}' at input {string.Join(", ", shapes)} is " +
            "not finite, " +
            $"so the file cannot be compared with it. No file was written. {why}", _checks);
    }
}
