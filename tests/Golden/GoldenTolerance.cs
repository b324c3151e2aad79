using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>How far a number may be from the reference: the one place where that is said.</summary>
/// <param name="Output">Tolerance of outputs.</param>
/// <param name="Gradient">Tolerance of gradients.</param>
/// <param name="Statistic">Tolerance of running statistics.</param>
public sealed record GoldenTolerance(double Output, double Gradient, double Statistic)
{
    /// <summary>A gradient below this share of the case's largest, in float64, is zero but for rounding.</summary>
    public const double Vanishing = 1e-9;

    /// <summary>Where rounding in float32 reaches further than this, a float32 reference says nothing.</summary>
    public const double LargestRounding = 5e-3;

    /// <summary>One module in float32.</summary>
    public static GoldenTolerance Module { get; } = new(1e-5, 1e-4, 1e-4);

    /// <summary>A whole network in float32.</summary>
    public static GoldenTolerance Network { get; } = new(1e-4, 1e-4, 1e-4);

    /// <summary>Anything in float64.</summary>
    public static GoldenTolerance DoublePrecision { get; } = new(1e-9, 1e-9, 1e-9);

    /// <summary>
    /// Float64 files whose numbers are written with nine significant digits: a value and the input it comes from are each rounded by
    /// up to 5e-9 of themselves, which is more than the tolerance of float64.
    /// </summary>
    public static GoldenTolerance NineDigits { get; } = new(1e-8, 1e-8, 1e-8);

    /// <summary>The tolerance of a case.</summary>
    /// <param name="isNetwork">Whether it is a whole network.</param>
    /// <param name="output">The reference's output.</param>
    public static GoldenTolerance For(bool isNetwork, Tensor output)
    {
        if (output.dtype != ScalarType.Float64) return isNetwork ? Network : Module;
        return HasNineDigits(output) ? NineDigits : DoublePrecision;
    }

    /// <summary>
    /// max |a − b| / max |b|, b the reference; max |a − b| where the reference is zero everywhere. NaN, which no tolerance admits,
    /// where either holds a NaN or an infinity.
    /// </summary>
    /// <param name="actual">What the library computed.</param>
    /// <param name="reference">What the reference computed, of the same shape.</param>
    /// <param name="scale">Divisor instead of max |b|; null for max |b|.</param>
    public static double RelativeError(Tensor actual, Tensor reference, double? scale = null)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor a = actual.detach().to_type(ScalarType.Float64), b = reference.detach().to_type(ScalarType.Float64);
        if (b.numel() == 0) return 0;
        if (!a.isfinite().all().item<bool>() || !b.isfinite().all().item<bool>()) return double.NaN;
        double divisor = scale ?? Largest(b), difference = Largest(a.sub(b));
        return divisor == 0 ? difference : difference / divisor;
    }

    /// <summary>The largest absolute value; 0 of an empty tensor.</summary>
    /// <param name="tensor">The tensor.</param>
    public static double Largest(Tensor tensor)
    {
        using DisposeScope scope = NewDisposeScope();
        return tensor.numel() == 0 ? 0 : tensor.detach().to_type(ScalarType.Float64).abs().max().item<double>();
    }

    private static bool HasNineDigits(Tensor tensor)
    {
        foreach (double value in tensor.data<double>())
        {
            if (double.Parse(value.ToString("E8", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture) != value) return false;
        }

        return true;
    }
}
