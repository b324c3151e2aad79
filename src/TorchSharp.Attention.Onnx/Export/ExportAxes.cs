using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>The input axes that stay dynamic in one export, and the symbols that stand for their sizes.</summary>
internal sealed class ExportAxes
{
    private readonly IReadOnlyList<Tensor> _examples;
    private readonly OnnxExportOptions _options;
    private readonly List<(int Input, int Axis, string Symbol)> _dynamic = [];

    /// <summary>Finds the axes of the example inputs that the options ask for.</summary>
    public ExportAxes(IReadOnlyList<Tensor> examples, OnnxExportOptions options)
    {
        (_examples, _options) = (examples, options);
        for (int input = 0; input < examples.Count; input++)
        {
            foreach ((OnnxDynamicAxes flag, int axis, string name) in AxesOf(examples[input].dim()))
            {
                // Inputs whose first axes are as long share them; every other axis is its own.
                int owner = flag == OnnxDynamicAxes.Batch
                    ? examples.ToList().FindIndex(example => example.size(0) == examples[input].size(0)) : input;
                if (options.DynamicAxes.HasFlag(flag)) _dynamic.Add((input, axis, owner == 0 ? name : $"{name}{owner + 1}"));
            }
        }
    }

    /// <summary>Whether any axis is dynamic.</summary>
    public bool Any => _dynamic.Count > 0;

    /// <summary>Whether an axis other than the batch is dynamic.</summary>
    public bool AnyBesideBatch => _dynamic.Exists(axis => !IsBatch(axis.Symbol));

    /// <summary>Gets the symbols of all dynamic axes, each once.</summary>
    public string[] Symbols() => [.. _dynamic.Select(entry => entry.Symbol).Distinct()];

    /// <summary>Gets the symbol of one input's axis; null where its size is fixed.</summary>
    public string? SymbolOf(int input, int axis) => _dynamic.Find(entry => entry.Input == input && entry.Axis == axis).Symbol;

    /// <summary>Fixes the axes of these symbols at the sizes of the example inputs.</summary>
    public void Fix(IReadOnlyCollection<string> symbols) => _dynamic.RemoveAll(axis => symbols.Contains(axis.Symbol));

    /// <summary>Gets the symbols whose sizes are those of the example inputs in every check.</summary>
    public string[] Unseen(List<OnnxCheck> checks)
        => [.. Symbols().Where(symbol => _dynamic.Where(axis => axis.Symbol == symbol).All(
        axis => checks.TrueForAll(check => check.InputShapes[axis.Input][axis.Axis] == _examples[axis.Input].size(axis.Axis))))];

    /// <summary>Gets the shapes of the example inputs with other sizes of the dynamic axes.</summary>
    public long[][] Sizes(Func<long, long> batch, Func<long, long> height, Func<long, long> width)
    {
        long[][] shapes = [.. _examples.Select(example => example.shape)];
        foreach ((int input, int axis, string symbol) in _dynamic)
        {
            ref long size = ref shapes[input][axis];
            size = (IsBatch(symbol) ? batch : symbol.StartsWith("width", StringComparison.Ordinal) ? width : height)(size);
        }

        return shapes;
    }

    /// <summary>Notes which axes of the options no example input has.</summary>
    /// <exception cref="ArgumentException">There is such an axis, and the options require every one.</exception>
    public void NoteUnfound(List<string> notes)
    {
        foreach (OnnxDynamicAxes flag in new[] { OnnxDynamicAxes.Height, OnnxDynamicAxes.Width, OnnxDynamicAxes.Length })
        {
            if (!_options.DynamicAxes.HasFlag(flag)
                || _examples.Any(example => AxesOf(example.dim()).Any(axis => axis.Flag == flag)))
            {
                continue;
            }

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
                    $"DynamicAxes has {flag}, which is {place}; the example input is {shapes}. " +
                    "Leave it out, or set RequireDynamicAxes to false.",
                    nameof(OnnxExportOptions.DynamicAxes));
            }

            notes.Add($"{flag} of DynamicAxes finds no axis: it is {place}, and the example input is {shapes}.");
        }
    }

    private static bool IsBatch(string symbol) => symbol.StartsWith("batch", StringComparison.Ordinal);

    private static IEnumerable<(OnnxDynamicAxes Flag, int Axis, string Name)> AxesOf(long rank)
    {
        yield return (OnnxDynamicAxes.Batch, 0, "batch");
        if (rank == 4) yield return (OnnxDynamicAxes.Height, 2, "height");
        if (rank == 4) yield return (OnnxDynamicAxes.Width, 3, "width");
        if (rank == 3) yield return (OnnxDynamicAxes.Length, 1, "length");
        if (rank == 3) yield return (OnnxDynamicAxes.Width, 2, "width");
    }
}
