using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A network of the library: logits by <c>forward</c>, the pyramid of feature maps by <see cref="Features"/>, a printable tree.
/// </summary>
public abstract class FeatureNetwork : nn.Module<Tensor, Tensor>
{
    private protected FeatureNetwork(string name)
        : base(name)
    {
    }

    /// <summary>Channels of the input image.</summary>
    public abstract int InputChannels { get; }

    /// <summary>Channels of each map that <see cref="Features"/> returns, in the same order.</summary>
    public abstract ValueList<int> FeatureChannels { get; }

    /// <summary>How many times smaller than the image each of these maps is, in the same order.</summary>
    public abstract ValueList<int> FeatureReductions { get; }

    /// <summary>The feature pyramid of an image batch, finest map first.</summary>
    /// <param name="input">Images, (N, channels, H, W).</param>
    /// <returns>One map a level, (N, <see cref="FeatureChannels"/>[i], ⌈H / <see cref="FeatureReductions"/>[i]⌉, …), owned by the caller.</returns>
    /// <exception cref="ArgumentException">The input's rank, channels or type do not fit.</exception>
    public IReadOnlyList<Tensor> Features(Tensor input)
    {
        Check.FeatureMap(input, InputChannels, GetName());
        using DisposeScope scope = NewDisposeScope();
        Tensor[] maps = ComputeFeatures(input, (_, map) => map);
        foreach (Tensor map in maps) map.MoveToOuterDisposeScope();
        return maps;
    }

    /// <summary>The network as a tree of modules with parameter counts; attention is marked with ◆.</summary>
    public override string ToString() => ModuleTree.Format(this);

    /// <summary>Computes the pyramid; each map may be refined before the next level reads it.</summary>
    internal abstract Tensor[] ComputeFeatures(Tensor input, Func<int, Tensor, Tensor> refine);
}
