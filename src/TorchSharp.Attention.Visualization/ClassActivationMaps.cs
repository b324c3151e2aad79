using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>Class activation maps of a batch.</summary>
/// <param name="Maps">(N, h, w) in the layer's resolution, not negative, not scaled; owned by this object.</param>
/// <param name="Classes">The class that each sample's map explains; empty where a target function chose the score.</param>
/// <param name="Scores">
/// The score that each sample's map explains: the network's logit of the class, or the target function's value.
/// </param>
public sealed record ClassActivationMaps(Tensor Maps, IReadOnlyList<long> Classes, IReadOnlyList<double> Scores) : IDisposable
{
    /// <summary>Disposes the maps.</summary>
    public void Dispose() => Maps.Dispose();
}
