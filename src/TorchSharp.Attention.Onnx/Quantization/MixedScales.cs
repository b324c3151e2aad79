using System.Globalization;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Values that hold quantities of very different size side by side: pixels of some hundred beside probabilities. Eight bits with
/// one scale would leave the small ones a few of the 256 levels, or one. They begin at a Concat or a Where and go on through
/// whatever moves, selects or bounds numbers.
/// </summary>
internal sealed class MixedScales
{
    /// <summary>Fewer steps than these, four bits, are too few for a part.</summary>
    public const int FewestSteps = 16;

    private static readonly HashSet<string> _movers =
    [
        "Cast", "Clip", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "LeakyRelu", "MaxPool",
        "AveragePool", "Pad", "ReduceMax", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Transpose", "Unsqueeze",
    ];

    private readonly Dictionary<string, string> _reasons = [];
    private readonly List<string> _warnings = [];
    private readonly NodeGraph _graph;
    private readonly IReadOnlyDictionary<string, ObservedValue> _observed;
    private readonly Func<string, ValueRange> _rangeOf;

    /// <summary>Finds them.</summary>
    /// <param name="graph">The prepared model.</param>
    /// <param name="observed">What calibration saw.</param>
    /// <param name="rangeOf">The range that a value would be quantized to.</param>
    public MixedScales(NodeGraph graph, IReadOnlyDictionary<string, ObservedValue> observed, Func<string, ValueRange> rangeOf)
    {
        (_graph, _observed, _rangeOf) = (graph, observed, rangeOf);
        foreach (NodeProto node in graph.Graph.Node.Where(node => node.Domain.Length == 0))
        {
            if (node.OpType is "Concat" or "Where") Join(node);
            else if (_movers.Contains(node.OpType)) Pass(node);
        }
    }

    /// <summary>What a reader of reports should know: which parts are small beside which.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>Why a value must not have one scale; null where it may.</summary>
    public string? Reason(string value) => _reasons.GetValueOrDefault(value);

    /// <summary>How many steps of one value's scale another value spans.</summary>
    public double Steps(string part, string whole) => Width(RangeOf(part)) / AffineParameters.Asymmetric(RangeOf(whole)).Scale;

    private void Join(NodeProto node)
    {
        string output = node.Output[0];
        if (!_observed.ContainsKey(output)) return;
        string[] parts = [.. node.Input.Skip(node.OpType == "Where" ? 1 : 0).Where(IsKnown).Distinct()];
        if (parts.Where(part => Width(RangeOf(part)) > 0).MinBy(part => Steps(part, output)) is { } least
            && Steps(least, output) < FewestSteps)
        {
            string largest = parts.MaxBy(part => Steps(part, output))!;
            string numbers = string.Create(
                CultureInfo.InvariantCulture,
                $"'{least}' spans {Width(RangeOf(least)):g3} beside '{largest}' with {Width(RangeOf(largest)):g3}: " +
                $"one scale would leave it {Steps(least, output):0.##} of {ValueRange.Steps} steps");
            _reasons[output] = numbers;
            _warnings.Add(
                $"'{node.Name}' ({node.OpType}) joins quantities of different size, {numbers}. " +
                "What would read them as integers with one scale stays in float.");
        }
        else if (parts.FirstOrDefault(_reasons.ContainsKey) is { } mixed)
        {
            _reasons[output] = _reasons[mixed];
        }
    }

    private void Pass(NodeProto node)
    {
        if (Reason(node.Input[0]) is not { } reason) return;
        foreach (string output in node.Output.Where(_observed.ContainsKey))
        {
            // A piece that does not reach half as far holds the small quantities alone.
            bool selects = node.OpType is "Slice" or "Split" or "Gather";
            if (!selects || Width(RangeOf(output)) >= Width(RangeOf(node.Input[0])) / 2) _reasons[output] = reason;
        }
    }

    private bool IsKnown(string value) => _observed.ContainsKey(value) || _graph.Floats(value) is { Length: > 0 };

    private ValueRange RangeOf(string value)
        => _observed.ContainsKey(value)
            ? _rangeOf(value)
            : _graph.Floats(value)!.Where(float.IsFinite).DefaultIfEmpty().ToArray() is { } numbers
                ? new ValueRange(numbers.Min(), numbers.Max()) : default;

    /// <summary>From end to end, zero included.</summary>
    private static double Width(ValueRange range) => Math.Max(0, range.High) - Math.Min(0, range.Low);
}
