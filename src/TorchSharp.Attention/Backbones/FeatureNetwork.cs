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

    /// <summary>Whether this is a copy for inference, as <c>FuseForInference</c> makes it, with its batch norms folded.</summary>
    public bool IsFused { get; }

    /// <summary>Channels of the input image.</summary>
    public abstract int InputChannels { get; }

    /// <summary>Channels of each map that <see cref="Features"/> returns, in the same order.</summary>
    public abstract ValueList<int> FeatureChannels { get; }

    /// <summary>How many times smaller than the image each map of <see cref="Features"/> is, in the same order.</summary>
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

    /// <summary>Makes a copy for inference, with the batch norms folded into convolutions.</summary>
    /// <returns>A network of the same type and device with tensors of its own, owned by the caller.</returns>
    /// <exception cref="InvalidOperationException">
    /// This network is fused already, its values are of several types or on several devices, or it has a module that neither
    /// its options nor an insertion put there.
    /// </exception>
    /// <exception cref="ObjectDisposedException">This network was disposed.</exception>
    public abstract FeatureNetwork FuseForInference();

    /// <summary>Sets training or evaluation mode.</summary>
    /// <param name="train">True for training mode.</param>
    /// <exception cref="InvalidOperationException">
    /// Training mode is asked for, but <see cref="IsFused"/>: there are no norms left to train with.
    /// </exception>
    public override void train(bool train = true)
    {
        if (train && IsFused)
        {
            throw new InvalidOperationException(
                $"This {GetName()} was fused for inference and has no batch norms to train with. " +
                "Train the network that it was made from, and fuse that again.");
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

    /// <summary>Counts the functions of a forward.</summary>
    private protected abstract void CountFunctions(FunctionCount count, Tensor input);

    /// <summary>Which attention stands where, as the network's options say; attention that was inserted is not in it.</summary>
    internal abstract AttentionPlan Plan { get; }

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
        CheckImages(input);
    }

    /// <summary>
    /// Refuses images of a size that the network cannot take, and a batch that leaves a norm in training a single value per
    /// channel, before the first norm has counted it.
    /// </summary>
    internal virtual void CheckImages(Tensor input)
    {
        if (input.size(0) != 1 || Math.Max(input.size(2), input.size(3)) > FeatureReductions[^1]) return;
        foreach ((Modules.BatchNorm2d? norm, int reduction) in Norms())
        {
            if (norm is not { training: true } || Math.Max(input.size(2), input.size(3)) > reduction) continue;
            string name = named_modules().First(entry => ReferenceEquals(entry.module, norm)).name;
            throw NormCalls.SingleValue(
                $"the norm '{name}' of {GetName()}", $"input has shape {Check.Shape(input)}", nameof(input));
        }
    }
}
