using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A gate of one factor per position, (N, 1, H, W), computed from pooled positions.</summary>
internal interface ISpatialGate : IFusableGate
{
    /// <summary>Computes the gate, (N, 1, H, W), before the blend of the identity initialization.</summary>
    /// <param name="pooled">Mean and maximum over channels, (N, 2, H, W).</param>
    Tensor ExcitePositions(Tensor pooled);
}
