using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>Nodes that are quantized, or kept in float, together.</summary>
/// <param name="Name">Path of the module.</param>
/// <param name="Kind">"attention", "layer", "concat", or "group" for one that the caller named.</param>
/// <param name="Nodes">Names of the nodes.</param>
internal sealed record SensitivityGroup(string Name, string Kind, IReadOnlySet<string> Nodes)
{
    /// <summary>
    /// The caller's groups, then the attentions of the file's metadata, then each convolution, linear layer and concatenation
    /// outside of them. A node belongs to the first that has it.
    /// </summary>
    /// <exception cref="ArgumentException">
    /// A group's pattern matches no node that can be quantized, or only nodes of earlier groups.
    /// </exception>
    public static IReadOnlyList<SensitivityGroup> Of(
        PreparedModel prepared, QuantizationPlan plan, IReadOnlyDictionary<string, string>? groups)
    {
        // In the order of the graph, so that the table reads as the network runs.
        NodeProto[] nodes = [.. prepared.Model.Graph.Node.Where(node => plan.RuleOf(node) != NodeRule.None)];
        Dictionary<string, (string Kind, HashSet<string> Nodes)> found = [];
        (string Name, NodePattern Pattern)[] own = [
            .. (groups ?? new Dictionary<string, string>()).Select(entry => (entry.Key, new NodePattern(entry.Value)))];
        foreach (NodeProto node in nodes)
        {
            if (own.FirstOrDefault(group => group.Pattern.IsMatch(node.Name)).Name is { } named) Add(named, "group", node);
            else if (prepared.Attentions.Where(path => PreparedModel.IsInside(node.Name, path)).MinBy(
                path => path.Length) is { } attention) Add(attention, "attention", node);
            else if (plan.RuleOf(node) == NodeRule.WeightedLayer) Add(Path(node.Name), "layer", node);
            else if (plan.RuleOf(node) == NodeRule.Concat) Add(node.Name, "concat", node);
        }

        if (own.FirstOrDefault(group => !found.ContainsKey(group.Name)) is { Name: { } missing } empty)
        {
            throw new ArgumentException(
                nodes.Any(node => empty.Pattern.IsMatch(node.Name))
                    ? $"The group '{missing}' has the pattern '{groups![missing]}', but earlier groups hold all nodes that " +
                        "match it. Name it before them, or make their patterns narrower."
                    : $"The group '{missing}' has the pattern '{groups![missing]}', which no node matches that could be " +
                        "quantized.",
                nameof(groups));
        }

        return [.. found.Select(group => new SensitivityGroup(group.Key, group.Value.Kind, group.Value.Nodes))];

        void Add(string name, string kind, NodeProto node)
        {
            if (!found.TryGetValue(name, out (string Kind, HashSet<string> Nodes) group)) found.Add(name, group = (kind, []));
            group.Nodes.Add(node.Name);
        }
    }

    /// <summary>The module's path in a node's name, which ends with a slash and the operator.</summary>
    private static string Path(string name) => name.LastIndexOf('/') is > 0 and int slash ? name[..slash] : name;
}
