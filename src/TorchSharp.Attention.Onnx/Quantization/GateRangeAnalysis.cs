using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// How far a value can reach that is computed of gates and constants alone: a sigmoid lies in [0, 1], 1 + α (σ − 1) with α = 0.3
/// in [0.7, 1], a product of two sigmoids in [0, 1]. By interval arithmetic, so that the bound holds whatever calibration saw,
/// and may be wider than what can happen.
/// </summary>
/// <param name="graph">The prepared model.</param>
/// <param name="sigmoids">Whether sigmoids are such gates; hard sigmoids, softmaxes and tanh always are.</param>
internal sealed class GateRangeAnalysis(NodeGraph graph, bool sigmoids)
{
    private static readonly ValueRange Unknown = new(double.NegativeInfinity, double.PositiveInfinity);

    private readonly Dictionary<string, Reach?> _known = [];

    /// <summary>The bounds of a value; null where it depends on anything but gates.</summary>
    public ValueRange? Of(string value)
        => Find(value) is { IsGate: true } reach && double.IsFinite(reach.Range.Low) && double.IsFinite(reach.Range.High)
            ? reach.Range
            : null;

    /// <summary>Whether a value is computed of gates and constants alone, sigmoids among them.</summary>
    public bool IsOfSigmoids(string value) => Find(value) is { HasSigmoid: true };

    private Reach? Find(string value)
    {
        if (_known.TryGetValue(value, out Reach? known)) return known;
        Reach? reach = graph.Floats(value) is { Length: > 0 } constants
            ? new Reach(new ValueRange(constants.Min(), constants.Max()), IsGate: false, HasSigmoid: false)
            : graph.Producer(value) is { Domain.Length: 0 } node ? Through(node)
            : null;
        _known[value] = reach;
        return reach;
    }

    private Reach? Through(NodeProto node)
    {
        switch (node.OpType)
        {
            case "Sigmoid":
                return sigmoids ? new Reach(ValueRange.Gate, IsGate: true, HasSigmoid: true) : null;
            case "HardSigmoid" or "Softmax":
                return new Reach(ValueRange.Gate, IsGate: true, HasSigmoid: false);
            case "Tanh":
                return new Reach(ValueRange.Tanh, IsGate: true, HasSigmoid: false);
            case "Resize" when NodeGraph.Text(node, "mode", "nearest") is not ("nearest" or "linear"):
                return null;
            case "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze" or "Transpose" or "Expand" or "Identity" or "Slice" or "Split"
                or "Gather" or "Resize"
                or "ReduceMean" or "ReduceMax" or "ReduceMin" or "GlobalAveragePool" or "GlobalMaxPool" or "MaxPool":
                return Find(node.Input[0]);
            case "Relu":
                return Find(node.Input[0]) is { } sum
                    ? sum with { Range = new ValueRange(Math.Max(0, sum.Range.Low), Math.Max(0, sum.Range.High)) }
                    : null;
            case "Clip":
                return Clipped(node);
            case "ReduceSum":
                // How many it adds need not be known, but whose sum it is.
                return Find(node.Input[0]) is { } added ? added with { Range = Unknown } : null;
            case "Neg":
                return Find(node.Input[0]) is { } turned
                    ? turned with { Range = new ValueRange(-turned.Range.High, -turned.Range.Low) }
                    : null;
            case "Add":
                return Join(node.Input, (a, b) => new ValueRange(a.Low + b.Low, a.High + b.High));
            case "Sub":
                return Join(node.Input, (a, b) => new ValueRange(a.Low - b.High, a.High - b.Low));
            case "Mul":
                return Join(node.Input, Product);
            case "Div":
                return Join(
                    node.Input, (a, b) => b.Low > 0 || b.High < 0 ? Product(a, new ValueRange(1 / b.High, 1 / b.Low)) : Unknown);
            case "Max":
                return Join(node.Input, (a, b) => new ValueRange(Math.Max(a.Low, b.Low), Math.Max(a.High, b.High)));
            case "Min":
                return Join(node.Input, (a, b) => new ValueRange(Math.Min(a.Low, b.Low), Math.Min(a.High, b.High)));
            case "Where":
                return Join([node.Input[1], node.Input[2]], Union);
            case "Concat":
                return Join(node.Input, Union);
            default:
                return null;
        }
    }

    private Reach? Join(IEnumerable<string> inputs, Func<ValueRange, ValueRange, ValueRange> combine)
    {
        Reach? all = null;
        foreach (string input in inputs)
        {
            if (Find(input) is not { } next) return null;
            all = all is { } before
                ? new Reach(combine(before.Range, next.Range), before.IsGate || next.IsGate, before.HasSigmoid || next.HasSigmoid)
                : next;
        }

        return all;
    }

    private Reach? Clipped(NodeProto node)
    {
        if (Find(node.Input[0]) is not { } inside) return null;
        double[] bounds = [double.NegativeInfinity, double.PositiveInfinity];
        for (int i = 1; i < node.Input.Count; i++)
        {
            if (node.Input[i].Length == 0) continue;
            if (graph.Floats(node.Input[i]) is not [float bound]) return null;
            bounds[i - 1] = bound;
        }

        return inside with { Range = new ValueRange(Clamp(inside.Range.Low), Clamp(inside.Range.High)) };

        double Clamp(double value) => Math.Min(Math.Max(value, bounds[0]), bounds[1]);
    }

    private static ValueRange Union(ValueRange a, ValueRange b) => new(Math.Min(a.Low, b.Low), Math.Max(a.High, b.High));

    private static ValueRange Product(ValueRange a, ValueRange b)
    {
        double[] corners = [a.Low * b.Low, a.Low * b.High, a.High * b.Low, a.High * b.High];
        return new ValueRange(corners.Min(), corners.Max());
    }

    private readonly record struct Reach(ValueRange Range, bool IsGate, bool HasSigmoid);
}
