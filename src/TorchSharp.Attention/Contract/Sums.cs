using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Sums without the factor that TorchSharp's own <c>add</c> makes for each of them, an implicit scalar: the finaliser
/// was seen to free it during the call.
/// </summary>
internal static class Sums
{
    public static Tensor Plus(this Tensor left, Tensor right) => left.add(right, Scalars.Once);

    public static Tensor Plus(this Tensor left, Scalar right) => left.add(right, Scalars.Once);

    /// <summary>In place.</summary>
    public static Tensor Plus_(this Tensor left, Tensor right) => left.add_(right, Scalars.Once);

    /// <summary>In place.</summary>
    public static Tensor Plus_(this Tensor left, Scalar right) => left.add_(right, Scalars.Once);
}
