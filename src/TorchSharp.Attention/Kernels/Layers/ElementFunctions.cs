using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>Gate functions and activations on float32 values, in place.</summary>
internal static unsafe class ElementFunctions<TVector>
    where TVector : unmanaged, ISimd<TVector>
{
    /// <summary>f(x), then the identity start's blend, 1 + alpha · (f(x) − 1), where there is one.</summary>
    public static void Apply(ElementFunction function, float* alpha, float* values, nint count)
    {
        switch (function)
        {
            case ElementFunction.Sigmoid:
                Each<Sigmoid>(values, count);
                break;
            case ElementFunction.HardSigmoid:
                Each<HardSigmoid>(values, count);
                break;
            case ElementFunction.ReLU:
                Each<Rectified>(values, count);
                break;
            case ElementFunction.ReLU6:
                Each<RectifiedToSix>(values, count);
                break;
            case ElementFunction.SiLU:
                Each<Times<Sigmoid>>(values, count);
                break;
            case ElementFunction.HardSwish:
                Each<Times<HardSigmoid>>(values, count);
                break;
        }

        if (alpha is null) return;
        for (nint i = 0; i < count; i++) values[i] = ((values[i] - 1) * *alpha) + 1;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Each<TFunction>(float* values, nint count)
        where TFunction : struct, IElementFunction
    {
        nint i = 0;
        for (; i <= count - TVector.Lanes; i += TVector.Lanes) TFunction.Of(TVector.Load(values + i)).Store(values + i);
        for (; i < count; i++) TFunction.Of(Simd1.Load(values + i)).Store(values + i);
    }

    private interface IElementFunction
    {
        static abstract TLanes Of<TLanes>(TLanes x)
            where TLanes : unmanaged, ISimd<TLanes>;
    }

    private readonly struct Sigmoid : IElementFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static TLanes Of<TLanes>(TLanes x)
            where TLanes : unmanaged, ISimd<TLanes>
            => VectorSigmoid.Of(x);
    }

    private readonly struct HardSigmoid : IElementFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static TLanes Of<TLanes>(TLanes x)
            where TLanes : unmanaged, ISimd<TLanes>
            => RectifiedToSix.Of(x + TLanes.All(3)) * TLanes.All(1f / 6);
    }

    private readonly struct Rectified : IElementFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static TLanes Of<TLanes>(TLanes x)
            where TLanes : unmanaged, ISimd<TLanes>
            => TLanes.Rectify(x);
    }

    private readonly struct RectifiedToSix : IElementFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static TLanes Of<TLanes>(TLanes x)
            where TLanes : unmanaged, ISimd<TLanes>
            => TLanes.AtMost(TLanes.Rectify(x), TLanes.All(6));
    }

    /// <summary>x · f(x).</summary>
    private readonly struct Times<TFunction> : IElementFunction
        where TFunction : struct, IElementFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static TLanes Of<TLanes>(TLanes x)
            where TLanes : unmanaged, ISimd<TLanes>
            => x * TFunction.Of(x);
    }
}
