using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>σ(x) = 1 / (1 + e⁻ˣ) within about 2⁻²² of the exact value.</summary>
internal static class VectorSigmoid
{
    /// <summary>Adding it rounds to a whole number, which then stands in the lowest bits.</summary>
    private const float Rounder = 12582912;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Of<TVector>(TVector x)
        where TVector : unmanaged, ISimd<TVector>
    {
        // Between these e⁻ˣ goes from nothing to infinity; a NaN passes both comparisons by.
        TVector z = TVector.All(0) - x;
        z = TVector.WhereLess(z, TVector.All(-87), TVector.All(-87), z);
        z = TVector.WhereLess(TVector.All(89), z, TVector.All(89), z);

        // z = n ln 2 + r, |r| ≤ ½ ln 2; ln 2 in two parts, of which the first times n is exact.
        TVector shifted = TVector.MultiplyAdd(
            z, TVector.All(1.44269504f), TVector.All(Rounder)), n = shifted - TVector.All(Rounder);
        TVector r = TVector.MultiplyAdd(n, TVector.All(-0.693359375f), z);
        r = TVector.MultiplyAdd(n, TVector.All(2.12194440e-4f), r);
        TVector power = TVector.All(1f / 720);
        power = TVector.MultiplyAdd(power, r, TVector.All(1f / 120));
        power = TVector.MultiplyAdd(power, r, TVector.All(1f / 24));
        power = TVector.MultiplyAdd(power, r, TVector.All(1f / 6));
        power = TVector.MultiplyAdd(power, r, TVector.All(1f / 2));
        power = TVector.MultiplyAdd(power, r, TVector.All(1));
        power = TVector.MultiplyAdd(power, r, TVector.All(1));
        TVector one = TVector.All(1);
        return one / (one + (power * TVector.PowerOfTwo(shifted + TVector.All(127))));
    }

    /// <summary>σ′ = σ (1 − σ).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Slope<TVector>(TVector x)
        where TVector : unmanaged, ISimd<TVector>
    {
        TVector value = Of(x);
        return value * (TVector.All(1) - value);
    }
}
