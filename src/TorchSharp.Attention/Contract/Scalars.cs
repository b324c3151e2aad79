namespace TorchSharp.Attention;

/// <summary>Scalars that live as long as the process: implicit conversions race with the finaliser.</summary>
internal static class Scalars
{
    public static readonly Scalar Zero = 0.0.ToScalar(), One = 1.0.ToScalar();

    /// <summary>Fits whole numbers too.</summary>
    public static readonly Scalar Once = 1L.ToScalar();
}
