using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

internal readonly struct ProductCombination : ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => first * second;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => second;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => first;
}

internal readonly struct SumCombination : ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => first + second;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(1);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(1);
}

internal readonly struct SumOfThreeCombination : ICombination
{
    public static bool HasThird => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => first + second;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(1);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(1);
}

internal readonly struct SigmoidOfSumCombination : ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => VectorSigmoid.Of(first + second);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => VectorSigmoid.Slope(first + second);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => VectorSigmoid.Slope(first + second);
}

internal readonly struct SigmoidOfProductCombination : ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => VectorSigmoid.Of(first * second);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => VectorSigmoid.Slope(first * second) * second;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => VectorSigmoid.Slope(first * second) * first;
}

/// <summary>The larger factor where x ≥ 0, the smaller where x is negative; equal ones share the gradient.</summary>
internal readonly struct LargerCombination : ICombination
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
    {
        TVector zero = TVector.All(0), larger = TVector.WhereLess(first, second, second, first),
            smaller = TVector.WhereLess(first, second, first, second);

        // Nothing, but NaN where a factor is NaN, which the comparisons may pass over.
        return TVector.WhereLess(x, zero, smaller, larger) + ((first + second) * zero);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => Chosen(x, first, second);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => Chosen(x, second, first);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Chosen<TVector>(TVector x, TVector one, TVector other)
        where TVector : unmanaged, ISimd<TVector>
    {
        TVector zero = TVector.All(0), whole = TVector.All(1);
        TVector above = TVector.WhereLess(other, one, whole, zero), below = TVector.WhereLess(one, other, whole, zero);
        return TVector.WhereLess(x, zero, below, above) + TVector.WhereEqual(one, other, TVector.All(0.5f));
    }
}

internal readonly struct EnergyCombination : ICombination
{
    public static bool OfChannels => true;

    public static bool DependsOnInput => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => VectorSigmoid.Of(Logit(x - first, second));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(0) - ByInput(x, first, second);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
    {
        TVector deviation = x - first;
        return VectorSigmoid.Slope(Logit(deviation, second)) * deviation * deviation;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector ByInput<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
    {
        TVector deviation = x - first;
        return VectorSigmoid.Slope(Logit(deviation, second)) * (deviation + deviation) * second;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Logit<TVector>(TVector deviation, TVector precision)
        where TVector : unmanaged, ISimd<TVector>
        => (deviation * deviation * precision) + TVector.All(0.5f);
}
