using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A network that classifies images, and whose feature pyramid can serve as the encoder of a <see cref="UNet"/>.
/// </summary>
public abstract class Backbone : FeatureNetwork
{
    private protected Backbone(string name, bool fused)
        : base(name, fused)
    {
    }

    /// <inheritdoc/>
    public override int InputChannels => BaseOptions.InputChannels;

    /// <inheritdoc/>
    public abstract override Backbone FuseForInference();

    internal override AttentionPlan Plan => BaseOptions.Attention;

    /// <summary>
    /// The options of the subclass. An override of <c>Options</c> with a narrower type is not possible: TorchSharp's <c>to(…)</c>
    /// throws for a module type that has two properties of one name.
    /// </summary>
    internal abstract BackboneOptions BaseOptions { get; }

    /// <summary>Computes the pyramid. Each map may be refined before the next level reads it.</summary>
    internal abstract Tensor[] Encode(Tensor input, Func<int, Tensor, Tensor> refine);

    /// <summary>Counts the functions before the last map of the pyramid that no child module counts.</summary>
    internal virtual void CountEncoder(FunctionCount count)
    {
    }

    /// <summary>
    /// Which channels can be removed together; null where <see cref="BackboneOptions.PruningObstacle"/> says why none can.
    /// </summary>
    internal virtual ChannelMap? ToChannelMap() => null;

    private protected override Tensor[] ComputeFeatures(Tensor input) => Encode(input, (_, map) => map);
}
