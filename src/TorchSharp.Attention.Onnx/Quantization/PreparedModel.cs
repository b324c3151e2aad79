using System.Text.Json;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// A float model that was read, checked, prepared and calibrated: from here any selection of nodes can be quantized.
/// </summary>
internal sealed class PreparedModel
{
    /// <summary>Older files are brought to the set that has scales for each channel.</summary>
    private const long OldestOpset = OpsetUpgrade.Oldest;

    private static readonly string[] _quantizedOperators =
        ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv",
            "QLinearMatMul"];

    private readonly QuantizationOptions _options;
    private readonly IReadOnlyDictionary<string, ObservedValue> _observed;
    private readonly Dictionary<string, string> _excluded;

    private PreparedModel(
        string path, ModelProto source, ModelProto model, int folded, QuantizationOptions options,
        IReadOnlyDictionary<string, ObservedValue> observed)
    {
        (Path, Source, Model, FoldedBatchNorms, _options, _observed) = (path, source, model, folded, options, observed);
        Graph = new NodeGraph(model);
        Attentions = AttentionsOf(model);
        _excluded = Excluded();
    }

    public string Path { get; }

    /// <summary>The model as it was read.</summary>
    public ModelProto Source { get; }

    /// <summary>The prepared model.</summary>
    public ModelProto Model { get; }

    public NodeGraph Graph { get; }

    public int FoldedBatchNorms { get; }

    /// <summary>The first batches of calibration, without labels; empty before it.</summary>
    public IReadOnlyList<OnnxBatch> Sample { get; private init; } = [];

    /// <summary>Paths of the attention modules that the file's metadata names.</summary>
    public IReadOnlyList<string> Attentions { get; }

    /// <summary>Reads and prepares a model, without calibrating.</summary>
    /// <exception cref="InvalidDataException">The file is no ONNX model.</exception>
    /// <exception cref="ArgumentException">The model cannot be quantized, or an option names what it lacks.</exception>
    public static PreparedModel Read(string path, QuantizationOptions options)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        options.Validate();
        if (!File.Exists(path)) throw new FileNotFoundException($"The model '{path}' does not exist.", path);
        ModelProto source = OnnxModelFile.Load(path);
        Check(source, path);
        ModelProto model = source.Clone();
        OpsetUpgrade.Run(model, path);
        int folded = FloatPreparation.Prepare(model);
        return new PreparedModel(path, source, model, folded, options, new Dictionary<string, ObservedValue>());
    }

    /// <summary>Returns this model with the value ranges of the given batches.</summary>
    /// <exception cref="ArgumentException">There is no batch, one does not fit, or a value is no finite number.</exception>
    public PreparedModel Calibrate(IEnumerable<OnnxBatch> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        CalibrationSample sample = new();
        IReadOnlyDictionary<string, ObservedValue> observed = Calibration.Run(
            Model, sample.Watch(batches), _options.Method != CalibrationMethod.MinMax, _options.Threads);
        return new PreparedModel(Path, Source, Model, FoldedBatchNorms, _options, observed) { Sample = sample.Batches };
    }

    /// <summary>Why the options keep a node in float; null where they do not.</summary>
    public string? ExcludedBy(NodeProto node) => _excluded.GetValueOrDefault(node.Name);

    /// <summary>The plan for the nodes that neither the options nor the caller keeps in float.</summary>
    /// <param name="keep">Why a node stays in float; null where it need not.</param>
    /// <param name="alone">See <see cref="QuantizationPlan"/>.</param>
    /// <param name="sigmoid">Another treatment of sigmoids than the options say.</param>
    public (QuantizationPlan Plan, ModelProto Quantized) Quantize(
        Func<NodeProto, string?>? keep = null, bool alone = false, SigmoidQuantization? sigmoid = null)
    {
        QuantizationOptions options = _options with { Sigmoid = sigmoid ?? _options.Sigmoid };
        QuantizationPlan plan = new(Graph, _observed, options, node => ExcludedBy(node) ?? keep?.Invoke(node), alone);
        // With everything in float nothing need change, not even by the rounding of folded norms.
        return (plan, plan.IsEmpty ? Source.Clone() : QdqWriter.Write(Model, plan, options, _observed));
    }

    /// <summary>
    /// Whether a node lies in a module: its name is the module's path, or goes on with a dot or a slash.
    /// The path of the model itself is empty.
    /// </summary>
    public static bool IsInside(string node, string path)
        => path.Length == 0 || node.StartsWith(path, StringComparison.Ordinal)
            && (node.Length == path.Length || node[path.Length] is '.' or '/');

    private static void Check(ModelProto model, string path)
    {
        long? opset = model.OpsetImport.FirstOrDefault(set => set.Domain is "" or "ai.onnx")?.Version;
        if (opset is null or < OldestOpset)
        {
            throw new ArgumentException(
                $"'{path}' uses operator set {opset?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "none"}; " +
                $"quantizing needs {OldestOpset} or later. Export it again, or convert it with ONNX's version converter.",
                nameof(path));
        }

        if (model.Graph.Node.FirstOrDefault(node => _quantizedOperators.Contains(node.OpType)) is { } already)
        {
            throw new ArgumentException(
                $"'{path}' is quantized already: it has the node '{already.Name}' ({already.OpType}). Give the float model.",
                nameof(path));
        }
    }

    private static string[] AttentionsOf(ModelProto model)
        => model.MetadataProps.FirstOrDefault(entry => entry.Key == OnnxMetadata.AttentionsKey) is { } entry
            ? JsonSerializer.Deserialize<string[]>(entry.Value) ?? []
            : [];

    private static Dictionary<string, string> KindsOf(ModelProto model)
        => model.MetadataProps.FirstOrDefault(entry => entry.Key == OnnxMetadata.KindsKey) is { } entry
            ? JsonSerializer.Deserialize<Dictionary<string, string>>(entry.Value) ?? []
            : [];

    private Dictionary<string, string> Excluded()
    {
        Dictionary<string, string> excluded = [];
        foreach (string pattern in _options.ExcludeNames)
        {
            NodePattern own = new(pattern);
            string[] matches = [.. Model.Graph.Node.Select(node => node.Name).Where(own.IsMatch)];
            if (matches.Length == 0)
            {
                throw new ArgumentException(
                    $"ExcludeNames has '{pattern}', which no node matches. There are, for example: " +
                    $"{string.Join(", ", Model.Graph.Node.Select(node => node.Name).Take(10))}.",
                    nameof(QuantizationOptions.ExcludeNames));
            }

            foreach (string match in matches) excluded.TryAdd(match, $"excluded by '{pattern}'");
        }

        foreach (NodeProto node in Model.Graph.Node.Where(node => _options.ExcludeOperators.Contains(node.OpType)))
        {
            excluded.TryAdd(node.Name, $"excluded by operator");
        }

        Dictionary<string, string> kinds = KindsOf(Model);
        foreach (string kind in _options.ExcludeAttentionKinds)
        {
            string[] paths = [.. kinds.Where(entry => entry.Value == kind).Select(entry => entry.Key)];
            if (paths.Length == 0)
            {
                throw new ArgumentException(
                    $"ExcludeAttentionKinds has '{kind}'; the metadata of '{Path}' " +
                    (kinds.Count == 0
                        ? "names no kinds. Exclude nodes by name instead."
                        : $"names {string.Join(", ", kinds.Values.Distinct())}."),
                    nameof(QuantizationOptions.ExcludeAttentionKinds));
            }

            foreach (NodeProto node in Model.Graph.Node.Where(node => paths.Any(path => IsInside(node.Name, path))))
            {
                excluded.TryAdd(node.Name, $"part of '{kind}'");
            }
        }

        if (_options.ExcludeAttentions)
        {
            if (Attentions.Count == 0)
            {
                throw new ArgumentException(
                    $"ExcludeAttentions is set, but the metadata of '{Path}' names no attention. Exclude nodes by name instead.",
                    nameof(QuantizationOptions.ExcludeAttentions));
            }

            foreach (NodeProto node in Model.Graph.Node.Where(node => Attentions.Any(path => IsInside(node.Name, path))))
            {
                excluded.TryAdd(node.Name, "part of an attention");
            }
        }

        return excluded;
    }
}
