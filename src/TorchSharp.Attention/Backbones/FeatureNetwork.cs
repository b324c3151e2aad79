using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A network of the library: logits by <c>forward</c>, the pyramid of feature maps by <see cref="Features"/>, a printable tree.
/// </summary>
public abstract class FeatureNetwork : nn.Module<Tensor, Tensor>, ICountsFunctions, IPlaced
{
    private readonly ParameterPlace _place;

    private protected FeatureNetwork(string name, bool fused)
        : base(name)
    {
        IsFused = fused;
        _place = new ParameterPlace(this);
    }

    /// <summary>Whether this is a copy for inference, without batch norms, as <c>FuseForInference</c> of each network makes it.</summary>
    public bool IsFused { get; }

    /// <summary>Channels of the input image.</summary>
    public abstract int InputChannels { get; }

    /// <summary>Channels of each map that <see cref="Features"/> returns, in the same order.</summary>
    public abstract ValueList<int> FeatureChannels { get; }

    /// <summary>How many times smaller than the image each of these maps is, in the same order.</summary>
    public abstract ValueList<int> FeatureReductions { get; }

    /// <summary>The feature pyramid of an image batch, finest map first.</summary>
    /// <param name="input">Images, (N, channels, H, W).</param>
    /// <returns>
    /// One map per level, (N, <see cref="FeatureChannels"/>[i], ⌈H / <see cref="FeatureReductions"/>[i]⌉, …), owned by the
    /// caller.
    /// </returns>
    /// <exception cref="ArgumentException">
    /// The input's rank, channels, type or device do not fit, or a batch norm in training mode would see a single value per
    /// channel. Nothing has changed then.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The input or the network was disposed.</exception>
    public IReadOnlyList<Tensor> Features(Tensor input)
    {
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        Tensor[] maps = ComputeFeatures(input);
        foreach (Tensor map in maps) map.MoveToOuterDisposeScope();
        return maps;
    }

    /// <summary>Sets training or evaluation mode.</summary>
    /// <param name="train">True for training mode.</param>
    /// <exception cref="InvalidOperationException">Training mode is asked for, but <see cref="IsFused"/>: there are no norms left to train with.</exception>
    public override void train(bool train = true)
    {
        if (train && IsFused)
        {
            throw new InvalidOperationException(
                $"This {GetName()} was fused for inference and has no batch norms to train with. Train the network that it was made from, and fuse that again.");
        }

        base.train(train);
    }

    /// <summary>The network as a tree of modules with parameter counts; attention is marked with ◆.</summary>
    public override string ToString() => ModuleTree.Format(this);

    ParameterPlace IPlaced.Place => _place;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _place.End();
        base.Dispose(disposing);
    }

    void ICountsFunctions.Count(FunctionCount count, Tensor[] inputs) => CountFunctions(count, inputs[0]);

    /// <summary>Counts the functions on the way to the last map.</summary>
    internal virtual void CountEncoder(FunctionCount count)
    {
    }

    /// <summary>Counts the functions of a forward.</summary>
    private protected abstract void CountFunctions(FunctionCount count, Tensor input);

    /// <summary>Which channels can be removed together; null for a network that pruning does not know.</summary>
    internal virtual ChannelMap? ToChannelMap() => null;

    /// <summary>
    /// The batch norms of the network itself that refuse a single value per channel, and how many times smaller than the image
    /// the map before each of them is, rounded up.
    /// </summary>
    internal virtual IEnumerable<(Modules.BatchNorm2d? Norm, int Reduction)> Norms() => [];

    private protected abstract Tensor[] ComputeFeatures(Tensor input);

    /// <summary>Refuses an input that does not fit, before anything changes.</summary>
    private protected void CheckInput(Tensor input)
    {
        Check.FeatureMap(input, InputChannels, _place);
        CheckNorms(input);
    }

    /// <summary>
    /// Refuses a batch that leaves a norm in training a single value per channel, before the first norm has counted it.
    /// </summary>
    internal void CheckNorms(Tensor input)
    {
        if (input.size(0) != 1 || Math.Max(input.size(2), input.size(3)) > FeatureReductions[^1]) return;
        foreach ((Modules.BatchNorm2d? norm, int reduction) in Norms())
        {
            if (norm is not { training: true } || Math.Max(input.size(2), input.size(3)) > reduction) continue;
            string name = named_modules().First(entry => ReferenceEquals(entry.module, norm)).name;
            throw NormCalls.SingleValue($"the norm '{name}' of {GetName()}", $"input has shape {Check.Shape(input)}", nameof(input));
        }
    }
}

/// <summary>A network whose feature pyramid can serve as the encoder of a <see cref="UNet"/>.</summary>
internal interface IEncoder
{
    /// <summary>Computes the pyramid; each map may be refined before the next level reads it.</summary>
    Tensor[] Encode(Tensor input, Func<int, Tensor, Tensor> refine);
}

/// <summary>The shape of a network that classifies and that can serve as the encoder of a <see cref="UNet"/>.</summary>
public abstract record BackboneOptions
{
    private protected BackboneOptions()
    {
    }

    /// <summary>Channels of the image. Default 3.</summary>
    public int InputChannels { get; init; } = 3;

    /// <summary>Number of classes. Default 1000.</summary>
    public int Classes { get; init; } = 1000;

    /// <summary>Which attention goes where. Default none.</summary>
    public AttentionPlan Attention { get; init; } = AttentionPlan.None;

    /// <summary>Checks the shape without building anything.</summary>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public virtual void Validate()
    {
        Check.Positive(InputChannels);
        Check.Positive(Classes);
        ArgumentNullException.ThrowIfNull(Attention);
    }

    /// <summary>Builds the network.</summary>
    /// <exception cref="ArgumentException">A setting is out of range, or the plan does not fit.</exception>
    public abstract FeatureNetwork Create();

    /// <summary>These options as JSON, every property written: what it takes, beside saved weights, to build the network again.</summary>
    /// <param name="indented">True for one property a line.</param>
    /// <exception cref="InvalidOperationException">A rule of the plan has a predicate.</exception>
    public string ToJson(bool indented = false) => BackboneJson.Write(this, indented);

    /// <summary>Reads what <see cref="ToJson"/> wrote. Properties that are left out keep their defaults.</summary>
    /// <param name="json">A JSON object with the property <c>network</c>.</param>
    /// <exception cref="ArgumentException">The network or a property is unknown, or a value has the wrong type.</exception>
    /// <exception cref="System.Text.Json.JsonException">The text is not JSON.</exception>
    public static BackboneOptions FromJson(string json) => BackboneJson.Read(json);

    /// <summary>Builds the network without what follows its feature pyramid.</summary>
    /// <param name="fused">Whether convolutions have biases in place of batch norms.</param>
    internal abstract FeatureNetwork CreateEncoder(bool fused);

    /// <summary>What the pyramid's maps will be, without building anything.</summary>
    internal abstract (ValueList<int> Channels, ValueList<int> Reductions) Pyramid();
}
