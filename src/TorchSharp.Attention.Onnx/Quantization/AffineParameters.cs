namespace TorchSharp.Attention.Onnx;

/// <summary>
/// x ≈ scale · (q − zero point), q a whole number from 0 to 255. Zero is always exact, because padding and closed gates are
/// zeros.
/// </summary>
/// <param name="Scale">Size of a step.</param>
/// <param name="ZeroPoint">The q that stands for zero.</param>
internal readonly record struct AffineParameters(float Scale, int ZeroPoint)
{
    /// <summary>The largest q; the smallest is 0.</summary>
    public const int Most = ValueRange.Steps;

    /// <summary>Steps below this are made of noise, and their reciprocals overflow.</summary>
    public const double SmallestScale = 1e-30;

    /// <summary>256 levels from one end of a range to the other, the range widened to hold zero.</summary>
    public static AffineParameters Asymmetric(ValueRange range)
    {
        double low = Math.Min(0, range.Low), high = Math.Max(0, range.High);
        double scale = (high - low) / Most;
        // A value that is always zero needs no steps, but a scale must not be zero.
        if (scale < SmallestScale) return new AffineParameters(1, 0);
        return new AffineParameters((float)scale, Math.Clamp((int)Math.Round(-low / scale), 0, Most));
    }

    /// <summary>The nearest level, ties to even as the runtime rounds, cut to the range.</summary>
    public int Quantize(float value) => Math.Clamp(Nearest(value, Scale) + ZeroPoint, 0, Most);

    /// <summary>The number that a level stands for.</summary>
    public float Dequantize(int level) => Scale * (level - ZeroPoint);

    /// <summary>The nearest multiple of a step, as the number of steps.</summary>
    public static int Nearest(float value, float scale)
        => (int)Math.Clamp(MathF.Round(value / scale, MidpointRounding.ToEven), int.MinValue / 2, int.MaxValue / 2);
}
