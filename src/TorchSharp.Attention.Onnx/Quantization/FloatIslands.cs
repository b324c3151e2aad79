using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Which nodes that stay in float a runtime would turn into integer ones all the same. ONNX Runtime takes any node between
/// DequantizeLinear and QuantizeLinear for a quantized one: it rounds a layer's float weights to int8 with one scale for all of
/// them (its step WeightBiasQuantization, from the basic level on) and puts integer kernels in place of sums, products, pools,
/// sigmoids and softmaxes. A node in front of one input that no pattern knows keeps it in float.
/// </summary>
internal sealed class FloatIslands(NodeGraph graph, QuantizationPlan plan, IReadOnlyDictionary<string, ObservedValue> observed)
{
    private readonly Dictionary<string, bool> _meets = [];

    /// <summary>
    /// The input in front of which a node that stays in float needs a barrier; null where it needs none: moves,
    /// selections and bounds give the same numbers as integers. Of several inputs it is the one with the fewest
    /// numbers, since the barrier copies it.
    /// </summary>
    public string? Enclosed(NodeProto node)
    {
        string[] values = [.. node.Input.Where(observed.ContainsKey).Distinct()];
        return !IsOpen(node) && values.Length > 0 && values.All(IsDequantized) && node.Output.Any(MeetsIntegers)
            ? values.MinBy(value => observed[value].Shape.Aggregate(1L, (size, length) => size * length))
            : null;
    }

    /// <summary>
    /// Whether a value comes from integers by nothing but nodes through which a runtime moves its QuantizeLinear and
    /// DequantizeLinear, or which it merges into the next.
    /// </summary>
    private bool IsDequantized(string value) => plan.IsInteger(value)
        || (graph.Producer(value) is { } producer && StaysInFloat(producer) && IsOpen(producer)
            && observed.ContainsKey(producer.Input[0]) && IsDequantized(producer.Input[0]));

    /// <summary>Whether a value becomes integers behind nothing but such nodes.</summary>
    private bool MeetsIntegers(string value)
    {
        if (_meets.TryGetValue(value, out bool known)) return known;
        bool meets = plan.IsQuantized(value)
            || graph.Consumers(
                value).Any(consumer => StaysInFloat(consumer) && IsOpen(consumer) && consumer.Output.Any(MeetsIntegers));
        return _meets[value] = meets;
    }

    private bool StaysInFloat(NodeProto node) => plan.RuleOf(node) == NodeRule.None && !plan.IsAbsorbed(node);

    /// <summary>Bounds, moves, selections, and arithmetic with constants, which runtimes merge into layers.</summary>
    private bool IsOpen(NodeProto node) => node.Domain.Length == 0 && node.OpType switch
    {
        "Relu" or "Clip" or "Pad" or "MaxPool" or "BatchNormalization" or "Dropout" or "Cast" => true,
        "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze" or "Transpose" or "Slice" or "Gather" or "Expand" or "Identity"
            or "Split" or "DepthToSpace" or "SpaceToDepth" => true,
        "Add" or "Sub" or "Mul" or "Div" => node.Input.Count(observed.ContainsKey) == 1,
        _ => false,
    };
}
