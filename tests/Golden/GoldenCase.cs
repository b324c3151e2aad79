using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>What a file says: which module with which arguments, its state, the inputs, and the numbers that must come out.</summary>
internal sealed class GoldenCase
{
    private const string StatePrefix = "state.", GradientPrefix = "grad.", AfterPrefix = "after.";
    private static readonly string[] Training = ["y_train", "cotangent", "grad_x"];

    private readonly Dictionary<string, Tensor> _tensors = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Tensor> _state = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Tensor> _gradients = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Tensor> _after = new(StringComparer.Ordinal);

    private GoldenCase(SafetensorsFile file)
    {
        Kind = file.Metadata.GetValueOrDefault("kind") is { Length: > 0 } kind ? kind : throw new InvalidDataException("the metadata has no 'kind'");
        Source = file.Metadata.GetValueOrDefault("source", "");
        Arguments = new ReferenceArguments(file.Metadata.GetValueOrDefault("arguments"));
        foreach (string name in file.Entries.Keys) Slot(name).Add(WithoutPrefix(name), file.Load(name));
    }

    /// <summary>Which implementation; <see cref="Blueprints"/> knows them.</summary>
    public string Kind { get; }

    /// <summary>Whose implementation made the numbers.</summary>
    public string Source { get; }

    /// <summary>The arguments of its constructor.</summary>
    public ReferenceArguments Arguments { get; }

    /// <summary>State before anything ran, gradients, and running statistics afterwards, under the reference's names.</summary>
    public IReadOnlyDictionary<string, Tensor> State => _state;

    /// <inheritdoc cref="State"/>
    public IReadOnlyDictionary<string, Tensor> Gradients => _gradients;

    /// <inheritdoc cref="State"/>
    public IReadOnlyDictionary<string, Tensor> After => _after;

    /// <summary>Whether the case has a training pass with gradients.</summary>
    public bool HasTraining { get; private set; }

    /// <summary>A tensor that the case must have, such as <c>x</c>.</summary>
    public Tensor this[string name] => Find(name) ?? throw new InvalidDataException($"the file has no tensor '{name}'");

    /// <summary>A tensor that the case may have, such as <c>x1</c>.</summary>
    public Tensor? Find(string name) => _tensors.GetValueOrDefault(name);

    /// <summary>Reads a file; the tensors belong to the caller's dispose scope.</summary>
    /// <exception cref="WeightsFormatException">The file is malformed.</exception>
    /// <exception cref="InvalidDataException">What it holds is not a case.</exception>
    public static GoldenCase Read(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        return new GoldenCase(file);
    }

    /// <summary>Checks that the case is complete and of one floating-point type.</summary>
    /// <exception cref="InvalidDataException">A tensor is missing or of another type.</exception>
    public void Validate()
    {
        ScalarType type = this["x"].dtype;
        if (type is not (ScalarType.Float32 or ScalarType.Float64))
        {
            throw new InvalidDataException($"'x' is {type}; float32 and float64 are supported");
        }

        _ = this["y_eval"];
        HasTraining = Training.Any(name => Find(name) is not null) || Gradients.Count > 0 || After.Count > 0 || Find("grad_x1") is not null;
        if (HasTraining)
        {
            foreach (string name in Training) _ = this[name];
            if ((Find("x1") is null) != (Find("grad_x1") is null))
            {
                throw new InvalidDataException("'x1' and 'grad_x1' must come together");
            }
        }

        foreach (Tensor tensor in All())
        {
            if (tensor.is_floating_point() && tensor.dtype != type)
            {
                throw new InvalidDataException($"the file mixes {tensor.dtype} with {type}");
            }
        }
    }

    /// <summary>Channels of the feature maps: the argument, which the input must agree with.</summary>
    public int Channels()
    {
        Tensor x = this["x"];
        int? said = Arguments.Integer("channels");
        if (x.dim() != 4)
        {
            throw new InvalidDataException($"'x' has {x.dim()} dimensions; kind '{Kind}' takes feature maps (N, C, H, W)");
        }

        int channels = (int)x.size(1);
        return said is null || said == channels
            ? channels
            : throw new InvalidDataException($"the argument 'channels' is {said}; 'x' has {channels}");
    }

    /// <summary>A number of layers, checked before they are built: each has a tensor in the state.</summary>
    public int CheckLayers(string argument, int layers) => layers <= State.Count
        ? layers
        : throw new InvalidDataException($"the argument '{argument}' asks for {layers} layers; the state has {State.Count} tensors");

    /// <summary>A size of a tensor of the state.</summary>
    public int StateSize(string name, int dimension)
    {
        Tensor tensor = State.GetValueOrDefault(name)
            ?? throw new InvalidDataException($"the file has no tensor '{StatePrefix}{name}'");
        return dimension < tensor.dim()
            ? (int)tensor.size(dimension)
            : throw new InvalidDataException($"'{StatePrefix}{name}' has {tensor.dim()} dimensions");
    }

    private IEnumerable<Tensor> All() => _tensors.Values.Concat(_state.Values).Concat(_gradients.Values).Concat(_after.Values);

    private Dictionary<string, Tensor> Slot(string name) => Prefix(name) switch
    {
        StatePrefix => _state,
        GradientPrefix => _gradients,
        AfterPrefix => _after,
        _ when name is "x" or "x1" or "y_eval" or "y_train" or "cotangent" or "grad_x" or "grad_x1" => _tensors,
        _ => throw new InvalidDataException($"the tensor '{name}' is not understood"),
    };

    private static string WithoutPrefix(string name) => name[Prefix(name).Length..];

    private static string Prefix(string name) =>
        Array.Find([StatePrefix, GradientPrefix, AfterPrefix], prefix => name.StartsWith(prefix, StringComparison.Ordinal)) ?? "";
}
