using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

// One export, in this order:
//   ExportAxes    finds the axes of the inputs that stay dynamic;
// OnnxExporter writes the graph (OnnxContext calls the emitter of each module), again with a fixed axis where a module needs its
// size;
//   OnnxMetadata  adds what the file says of its network;
// OnnxVerifier runs the saved file beside the network and compares both, by the numbers that OnnxComparison makes and measures.

/// <summary>One export: writes the graph, saves it, and has it verified.</summary>
internal sealed class OnnxExporter(nn.Module model, IReadOnlyList<Tensor> examples, OnnxExportOptions options)
{
    private readonly ExportAxes _axes = new(examples, options);
    private readonly List<string> _notes = [];
    private OnnxGraph _graph = null!;
    private int _outputCount = 1;
    private ExportedValues _values = null!;

    public OnnxExportReport Run(string path)
    {
        options.Normalization?.Validate(examples[0].shape);
        _axes.NoteUnfound(_notes);
        WriteGraph();
        OnnxVerifier? verifier = options.Verify ? new(model, examples, options, _axes, _values, _notes) : null;
        string? data = OnnxModelFile.Save(
            _graph.Model, path, options.ExternalDataThreshold, verifier is null ? null : verifier.Run);
        return new OnnxExportReport
        {
            Path = path,
            DataPath = data,
            Opset = OnnxGraph.Opset,
            IrVersion = OnnxGraph.IrVersion,
            Inputs = [.. _values.Inputs.Select(Line)],
            Outputs = [.. _values.Outputs.Select(Line)],
            Nodes = _graph.Model.Graph.Node.Count,
            Bytes = new FileInfo(path).Length + (data is null ? 0 : new FileInfo(data).Length),
            Checks = verifier?.Checks ?? [],
            Skipped = verifier?.Skipped ?? [],
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
                string[] symbols = [.. _axes.Symbols().Where((_, i) => (e.Axes >> i & 1) != 0)];
                if (options.RequireDynamicAxes)
                {
                    throw new NotSupportedException(
                        $"{string.Join(" and ", symbols)} cannot stay dynamic: {e.Message}. " +
                        "Leave it out of DynamicAxes, or set RequireDynamicAxes to false.", e);
                }

                _notes.Add($"{string.Join(" and ", symbols)} fixed at the example's size: {e.Message}.");
                _axes.Fix(symbols);
            }
        }
    }

    private void TryWriteGraph()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        _graph = new OnnxGraph(model.GetName());
        string[] names = Names(options.InputNames, "input", examples.Count, nameof(OnnxExportOptions.InputNames));
        string[] results = Names(
            options.OutputNames, "output", options.OutputNames?.Count ?? _outputCount, nameof(OnnxExportOptions.OutputNames));
        (string Path, nn.Module Module)[] attentions = options.AttentionMaps ? [.. AttentionRecorder.Attentions(model)] : [];
        Reserve(names, results, attentions.Select(entry => entry.Path));
        IReadOnlyList<OnnxValue> inputs = Inputs(names);
        OnnxContext context = new(
            _graph, model, options.Emitters, options.ConvertToFloat32, attentions.Select(entry => entry.Module));
        IReadOnlyList<OnnxValue> outputs = context.Emit(model, inputs);
        if (outputs.Count != results.Length)
        {
            // Names are kept free before anything else takes them, and only now it shows how many.
            if (options.OutputNames is not null)
            {
                Names(options.OutputNames, "output", outputs.Count, nameof(OnnxExportOptions.OutputNames));
            }

            _outputCount = outputs.Count;
            TryWriteGraph();
            return;
        }

        ExportedMap[] maps = [.. context.Maps.Select(map => new ExportedMap(map.Path, map.Kind))];
        _values = new(
            inputs,
            [
                .. outputs.Select((output, i) => _graph.Output(output, results[i])),
                .. context.Maps.Select((map, i) => _graph.Output(map.Value, maps[i].Output)),
            ],
            maps);
        _graph.Prune();
        new OnnxMetadata(model, _graph, options, _notes).WriteMetadata();
    }

    /// <summary>Keeps the names of inputs, outputs and attention maps free, so that no node takes them.</summary>
    private void Reserve(string[] inputs, string[] outputs, IEnumerable<string> attentions)
    {
        foreach (string name in inputs) _graph.Reserve(name, nameof(OnnxExportOptions.InputNames));
        foreach (string name in outputs) _graph.Reserve(name, nameof(OnnxExportOptions.OutputNames));
        foreach (string path in attentions)
        {
            foreach (AttentionMapKind kind in Enum.GetValues<AttentionMapKind>())
            {
                _graph.Reserve(new ExportedMap(path, kind).Output, "an attention map");
            }
        }
    }

    private OnnxValue[] Inputs(string[] names)
    {
        string[] symbols = _axes.Symbols();
        return [.. examples.Select((example, input) => _graph.Input(names[input], [.. example.shape.Select((size, axis) =>
            _axes.SymbolOf(input, axis) is { } symbol
                ? OnnxLength.Read(names[input], axis, size, 1UL << Array.IndexOf(symbols, symbol), symbol)
                : size)]))];
    }

    private static string[] Names(ValueList<string>? given, string otherwise, int count, string option)
    {
        if (given is null) return count == 1 ? [otherwise] : [.. Enumerable.Range(1, count).Select(i => $"{otherwise}{i}")];
        return given.Count == count && given.Distinct().Count() == count && !given.Any(string.IsNullOrWhiteSpace)
            ? [.. given]
            : throw new ArgumentException($"{option} is {given}; give {count} different names, none of them empty.", option);
    }

    private static string Line(OnnxValue value)
    {
        IEnumerable<string> lengths = value.Shape.Select(
            length => length.IsDynamic ? length.Symbol ?? "?" : length.Size.ToString(CultureInfo.InvariantCulture));
        return $"{value.Name} ({string.Join(", ", lengths)})";
    }
}
