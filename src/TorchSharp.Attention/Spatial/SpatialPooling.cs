using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Mean and maximum over channels, (N, 2, H, W): what spatial gates read of a map.</summary>
internal static class SpatialPooling
{
    public static Tensor Of(Tensor map) => cat([map.mean([1], keepdim: true), map.amax([1], keepdim: true)], 1);

    /// <summary>
    /// The gate of a map, (N, 1, H, W), by libtorch's operations, before the blend of the identity initialization.
    /// </summary>
    public static Tensor Excite(ISpatialGate gate, Tensor map) => gate.ExcitePositions(Of(map));

    /// <summary>Its functions; returns the number of positions.</summary>
    public static long Count(FunctionCount count, Tensor map)
    {
        long positions = map.size(0) * map.size(2) * map.size(3);
        count.Reduce(map.numel(), positions);
        count.Reduce(map.numel(), positions);
        count.Copy(2 * positions);
        return positions;
    }
}
