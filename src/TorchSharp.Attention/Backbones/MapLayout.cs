using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// How the maps of a fused network lie in memory. Convolutions, activations, additions and the
/// attention kernels keep what they get.
/// </summary>
internal static class MapLayout
{
    /// <summary>
    /// The map with the channels of a position side by side ("channels last") where convolutions are faster so: on the CPU, in
    /// the types that oneDNN computes. The map itself elsewhere.
    /// </summary>
    public static Tensor Fastest(Tensor map)
        => IsOneDnn(map) ? map.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) : map;

    /// <summary>
    /// The map for a stage of so many planes. Channels last wins while a map has many positions. Where weights outweigh it, plane
    /// after plane wins: oneDNN's channels-last convolutions then spend their time on rearranging the weights. Measured on
    /// ResNet-50 at 1 to 8 images of 224 × 224.
    /// </summary>
    public static Tensor Fastest(Tensor map, int planes)
    {
        if (!IsOneDnn(map)) return map;
        return map.size(0) * map.size(2) * map.size(3) <= 4L * planes ? map.contiguous() : Fastest(map);
    }

    private static bool IsOneDnn(Tensor map)
        => map.device_type == DeviceType.CPU && map.dtype is (ScalarType.Float32 or ScalarType.BFloat16);
}
