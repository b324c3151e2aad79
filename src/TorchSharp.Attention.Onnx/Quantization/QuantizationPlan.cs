using System.Globalization;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Which nodes become integer ones, with which parameters of the values between them, and why the others do not.
/// </summary>
internal sealed class QuantizationPlan
{
    private readonly NodeGraph _graph;
    private readonly IReadOnlyDictionary<string, ObservedValue> _observed;
    private readonly QuantizationOptions _options;
    /// <summary>A channel of an output with fewer steps is worth a warning.</summary>
    private const int FewestOfAChannel = 4;

    // By identity: protobuf compares messages by their content.
    private readonly Dictionary<NodeProto, NodeRule> _rules = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<NodeProto, NodeProto> _bounds = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<NodeProto> _absorbed = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<string> _integer = [];
    private readonly Dictionary<string, AffineParameters> _parameters = [];
    private readonly GateRangeAnalysis _fixed, _all;
    private readonly MixedScales _mixed;
    private readonly List<string> _warnings = [];

    /// <summary>Decides node by node, in the order in which they run.</summary>
    /// <param name="graph">The prepared model.</param>
    /// <param name="observed">What calibration saw.</param>
    /// <param name="options">Settings.</param>
    /// <param name="excluded">Why a node is to stay in float; null for one that need not.</param>
    /// <param name="alone">
    /// Whether a node is quantized even where its input is float: to see what a part of the network costs by itself.
    /// </param>
    public QuantizationPlan(
        NodeGraph graph, IReadOnlyDictionary<string, ObservedValue> observed, QuantizationOptions options,
        Func<NodeProto, string?> excluded, bool alone = false)
    {
        (_graph, _observed, _options) = (graph, observed, options);
        _all = new GateRangeAnalysis(graph, sigmoids: true);
        _fixed = options.Sigmoid == SigmoidQuantization.Calibrated ? new GateRangeAnalysis(graph, sigmoids: false) : _all;
        _mixed = new MixedScales(graph, observed, RangeOf);
        List<FloatNode> kept = [];
        foreach (NodeProto node in graph.Graph.Node)
        {
            // Arithmetic on sizes and indices is no business of quantization.
            if (!node.Output.Any(observed.ContainsKey) || _absorbed.Contains(node)) continue;
            (NodeRule rule, string reason) = QuantizationRules.Of(node, graph, observed);
            string? why = rule == NodeRule.None ? reason : excluded(node) ?? Obstacle(node, rule, alone);
            if (why is not null)
            {
                kept.Add(new FloatNode(node.Name, node.OpType, why));
                continue;
            }

            _rules.Add(node, rule);
            if (rule == NodeRule.Average && QuantizationRules.SecondStage(node, graph, observed) is { } second)
            {
                _bounds.Add(node, second);
                _absorbed.Add(second);
            }

            // A bound is kept by the steps of an integer output; floats would pass it.
            if (node.Output.Count == 1 && !_bounds.ContainsKey(node) && graph.OnlyConsumer(node.Output[0]) is { } next
                && QuantizationRules.Bounds(next, graph) is not null && excluded(next) is null
                && (rule != NodeRule.WeightedLayer || NeedsIntegerOutput(node, next.Output[0])))
            {
                _bounds.Add(node, next);
                _absorbed.Add(next);
            }

            if (rule != NodeRule.WeightedLayer || NeedsIntegerOutput(node, OutputOf(node)))
            {
                _integer.UnionWith(node.Output.Select(_ => OutputOf(node)));
            }

            if (node.Output.Count > 1) _integer.UnionWith(node.Output);
        }

        Kept = kept;
        WarnOfOutputs();
    }

    /// <summary>The nodes that stay in float, in the order of the graph.</summary>
    public IReadOnlyList<FloatNode> Kept { get; }

    /// <summary>Whether nothing is quantized.</summary>
    public bool IsEmpty => _rules.Count == 0;

    /// <summary>Where quantities of different size meet, with numbers.</summary>
    public IReadOnlyList<string> Warnings => [.. _mixed.Warnings, .. _warnings];

    /// <summary>A node's rule; <see cref="NodeRule.None"/> for one that stays in float.</summary>
    public NodeRule RuleOf(NodeProto node) => _rules.GetValueOrDefault(node);

    /// <summary>Whether a ReLU or clip has become the range of the node before it.</summary>
    public bool IsAbsorbed(NodeProto node) => _absorbed.Contains(node);

    /// <summary>The value that an integer node makes: its own output, or that of the ReLU or clip that it absorbs.</summary>
    public string OutputOf(NodeProto node) => _bounds.TryGetValue(node, out NodeProto? bound) ? bound.Output[0] : node.Output[0];

    /// <summary>Whether a value comes out of its producer as integers.</summary>
    public bool IsInteger(string value) => _integer.Contains(value);

    /// <summary>Whether a value exists as integers: it comes so, or an integer node reads it.</summary>
    public bool IsQuantized(string value)
        => IsInteger(value)
            || (_observed.ContainsKey(value) && _graph.Consumers(value).Any(node => ReadsAsIntegers(node, value)));

    /// <summary>Scale and zero point of a value.</summary>
    public AffineParameters ParametersOf(string value)
    {
        if (_parameters.TryGetValue(value, out AffineParameters known)) return known;
        AffineParameters parameters =
            _graph.Producer(value) is { } producer && RuleOf(producer) == NodeRule.PassThrough && IsInteger(value)
            ? ParametersOf(producer.Input[0])
            : AffineParameters.Asymmetric(RangeOf(value));
        _parameters.Add(value, parameters);
        return parameters;
    }

    /// <summary>The range that a value is quantized to.</summary>
    internal ValueRange RangeOf(string value)
    {
        // What gates, and what is made of them, such as the factor of an identity start, can reach. For a softmax over many
        // entries few of the 256 levels are left; the documentation says so.
        if (_fixed.Of(value) is { } reach) return reach;

        // How far gates opened while calibrating says nothing of how far they open in use.
        ValueRange range = _options.Sigmoid == SigmoidQuantization.FixedRange && OnlyOpensGates(value)
            ? ValueRange.GateInput
            : ValueRange.Of(_observed[value].Histogram, _options.Method, _options.Percentile);
        return QuantizationRules.Bounds(_graph.Producer(value), _graph) is { } bounds ? range.Cut(bounds) : range;
    }

    private bool ReadsAsIntegers(NodeProto node, string value)
        => _rules.TryGetValue(node, out NodeRule rule)
            && Enumerable.Range(0, node.Input.Count).Any(i => node.Input[i] == value && QuantizationRules.IsInteger(rule, i));

    private string? Obstacle(NodeProto node, NodeRule rule, bool alone)
    {
        if (!_observed.ContainsKey(node.Input[0])) return "its input is no float value";
        if (node.Input.Where((_, i) => QuantizationRules.IsInteger(rule, i)).Concat(node.Output).FirstOrDefault(
            value => _observed.TryGetValue(value, out ObservedValue? seen) && seen.Histogram.Infinities > 0) is { } infinite)
        {
            return $"'{infinite}' is infinite by the model's own constants";
        }

        if (ObstacleOfScale(node, rule) is { } scale) return scale;
        if (rule == NodeRule.ChannelMean && _observed[node.Input[0]].Shape[1] < 1) return "its channels are unknown";
        if (_options.Sigmoid == SigmoidQuantization.None)
        {
            if (NodeGraph.Is(node, "Sigmoid")) return "sigmoids stay in float";
            if (_all.IsOfSigmoids(node.Output[0])) return "part of a gate of sigmoids";
            if (NodeGraph.Is(node, "Mul") && node.Input.Any(_all.IsOfSigmoids)) return "multiplies by a gate of sigmoids";
        }

        if (rule == NodeRule.WeightedLayer || alone) return null;
        return node.Input.Where((_, i) => QuantizationRules.IsInteger(rule, i)).Any(IsInteger)
            ? null
            : "nothing before it is integer";
    }

    /// <summary>One scale for quantities of very different size leaves nothing of the small ones.</summary>
    private string? ObstacleOfScale(NodeProto node, NodeRule rule)
    {
        string output = node.Output[0];
        bool read = !_graph.Outputs.Contains(output)
            && _graph.Consumers(output).Any(consumer => QuantizationRules.Of(consumer, _graph, _observed).Rule != NodeRule.None);
        if (rule == NodeRule.Concat)
        {
            if (_mixed.Reason(output) is { } joined) return joined;
            return read ? null : "nothing reads it as integers";
        }

        if (node.Input.Where((_, i) => QuantizationRules.IsInteger(rule, i)).FirstOrDefault(
            value => _mixed.Reason(value) is not null) is { } mixed)
        {
            return $"reads '{mixed}', in which {_mixed.Reason(mixed)}";
        }

        if (!NodeGraph.Is(node, "Add")
            || node.Input.Where(_observed.ContainsKey).MinBy(input => _mixed.Steps(input, output)) is not { } small)
        {
            return null;
        }

        double steps = _mixed.Steps(small, output);
        if (steps is 0 or >= MixedScales.FewestSteps) return null;
        if (!read)
        {
            return string.Create(
                CultureInfo.InvariantCulture,
                $"one scale for the sum would leave '{small}' {steps:0.##} of {ValueRange.Steps} steps");
        }

        if (steps < 1)
        {
            _warnings.Add(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"'{node.Name}' (Add) hardly sees '{small}', which spans {steps:0.##} of the {ValueRange.Steps} steps of " +
                    $"the sum."));
        }

        return null;
    }

    /// <summary>An output that comes as integers has one scale for all its channels.</summary>
    private void WarnOfOutputs()
    {
        foreach (string output in _graph.Outputs.Where(
            output => IsInteger(output) && _observed.GetValueOrDefault(output)?.Channels is not null))
        {
            double step = ParametersOf(output).Scale;
            (float Low, float High)[] channels = _observed[output].Channels!;
            int[] coarse = [
                .. Enumerable.Range(
                    0,
                    channels.Length)
                    .Where(
                        i => channels[i].High > channels[i].Low
                            && (channels[i].High - channels[i].Low) / step < FewestOfAChannel)];
            if (coarse.Length == 0) continue;
            _warnings.Add(string.Create(
                CultureInfo.InvariantCulture,
                $"The output '{output}' has one scale, whose step is {step:g3}: " +
                $"{coarse.Length} of its {channels.Length} channels span fewer than {FewestOfAChannel} steps (channel " +
                $"{coarse[0]}: {(channels[coarse[0]].High - channels[coarse[0]].Low) / step:0.##}). " +
                $"If they matter, keep '{_graph.Producer(output)?.Name}' in float with " +
                $"{nameof(QuantizationOptions.ExcludeNames)}, or use a budget."));
        }
    }

    /// <summary>
    /// A convolution's output must be integer for its kernel. A linear layer's need not: where the next thing is no integer node
    /// (softmax, the model's output), the kernel hands over floats, and nothing is rounded.
    /// </summary>
    private bool NeedsIntegerOutput(NodeProto node, string output)
        => node.OpType == "Conv"
            || (!_graph.Outputs.Contains(output)
                && _graph.Consumers(
                    output).Any(consumer => QuantizationRules.Of(consumer, _graph, _observed).Rule != NodeRule.None));

    /// <summary>Whether a value goes into sigmoids and nowhere else, nodes on the way moving numbers at most.</summary>
    private bool OnlyOpensGates(string value)
        => !_graph.Outputs.Contains(value) && _graph.Consumers(value) is { Count: > 0 } consumers
        && consumers.All(
            consumer => NodeGraph.Is(consumer, "Sigmoid")
                || (Moves(consumer) && consumer.Input[0] == value && OnlyOpensGates(consumer.Output[0])));

    private static bool Moves(NodeProto node)
        => node.Domain.Length == 0
            && (node.OpType is "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze" or "Transpose" or "Expand" or "Identity");
}
