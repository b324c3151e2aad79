using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace TorchSharp.Attention.Kernels;

/// <summary>A vector of float32 lanes. The kernels are written once against it; the machine decides which width runs.</summary>
internal interface ISimd<TSelf>
    where TSelf : unmanaged, ISimd<TSelf>
{
    static abstract int Lanes { get; }

    static abstract TSelf All(float value);

    static abstract unsafe TSelf Load(float* from);

    /// <summary>Loads bfloat16 values: the upper halves of float32 values.</summary>
    static abstract unsafe TSelf LoadBFloat16(ushort* from);

    unsafe void Store(float* to);

    /// <summary>Stores as bfloat16, rounded to nearest, ties to even; NaN stays NaN.</summary>
    unsafe void StoreBFloat16(ushort* to);

    static abstract TSelf operator +(TSelf a, TSelf b);

    static abstract TSelf operator -(TSelf a, TSelf b);

    static abstract TSelf operator *(TSelf a, TSelf b);

    static abstract TSelf operator /(TSelf a, TSelf b);

    /// <summary>a · b + c, rounded once where the machine and the runtime can.</summary>
    static abstract TSelf MultiplyAdd(TSelf a, TSelf b, TSelf c);

    /// <summary>a where a &gt; b, else b: a NaN in <paramref name="a"/> is passed over.</summary>
    static abstract TSelf Larger(TSelf a, TSelf b);

    /// <summary>a where a ≤ b or a is NaN, else b.</summary>
    static abstract TSelf AtMost(TSelf a, TSelf b);

    /// <summary>a where a &gt; 0 or a is NaN, else 0, as ReLU.</summary>
    static abstract TSelf Rectify(TSelf a);

    /// <summary>What ReLU sends back: the gradient where its result is &gt; 0 or NaN, else 0.</summary>
    static abstract TSelf ReluBackward(TSelf rectified, TSelf gradient);

    /// <summary><paramref name="then"/> where a = b, else 0.</summary>
    static abstract TSelf WhereEqual(TSelf a, TSelf b, TSelf then);

    /// <summary><paramref name="then"/> where a &lt; b, else <paramref name="otherwise"/>, also where either is NaN.</summary>
    static abstract TSelf WhereLess(TSelf a, TSelf b, TSelf then, TSelf otherwise);

    /// <summary>2ⁿ from n + 127 + 1.5 · 2²³, n a whole number from −127 (which gives zero) to 128 (infinity).</summary>
    static abstract TSelf PowerOfTwo(TSelf shifted);

    float Sum();

    /// <summary>The largest lane; lanes hold no NaN.</summary>
    float Largest();
}

internal static class Simd
{
    public static int Bits => Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128;
}

internal readonly struct Simd512(Vector512<float> value) : ISimd<Simd512>
{
    private readonly Vector512<float> _value = value;

    public static int Lanes => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 All(float value) => new(Vector512.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe Simd512 Load(float* from) => new(Vector512.Load(from));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe Simd512 LoadBFloat16(ushort* from)
        => new((Vector512.WidenLower(Vector256.Load(from).ToVector512Unsafe()) << 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void Store(float* to) => _value.Store(to);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void StoreBFloat16(ushort* to)
    {
        Vector512<uint> bits = _value.AsUInt32();
        Vector512<uint> rounded = (bits + Vector512.Create(0x7FFFu) + ((bits >>> 16) & Vector512.Create(1u))) >>> 16;
        Vector512<uint> kept = Vector512.ConditionalSelect(
            Vector512.Equals(_value, _value).AsUInt32(), rounded, Vector512.Create(0x7FC0u));
        Vector512.Narrow(kept, kept).GetLower().Store(to);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 operator +(Simd512 a, Simd512 b) => new(a._value + b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 operator -(Simd512 a, Simd512 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 operator *(Simd512 a, Simd512 b) => new(a._value * b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 operator /(Simd512 a, Simd512 b) => new(a._value / b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 AtMost(Simd512 a, Simd512 b)
        => new(Vector512.ConditionalSelect(Vector512.GreaterThan(a._value, b._value), b._value, a._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 MultiplyAdd(Simd512 a, Simd512 b, Simd512 c)
#if NET9_0_OR_GREATER
        => new(Vector512.MultiplyAddEstimate(a._value, b._value, c._value));
#else
        => new((a._value * b._value) + c._value);
#endif

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 Larger(Simd512 a, Simd512 b)
        => new(Vector512.ConditionalSelect(Vector512.GreaterThan(a._value, b._value), a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 Rectify(Simd512 a)
        => new(
            Vector512.ConditionalSelect(
                Vector512.LessThanOrEqual(a._value, Vector512<float>.Zero), Vector512<float>.Zero, a._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 ReluBackward(Simd512 rectified, Simd512 gradient)
        => new(
            Vector512.ConditionalSelect(
                Vector512.LessThanOrEqual(rectified._value, Vector512<float>.Zero), Vector512<float>.Zero, gradient._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 WhereEqual(Simd512 a, Simd512 b, Simd512 then)
        => new(Vector512.ConditionalSelect(Vector512.Equals(a._value, b._value), then._value, Vector512<float>.Zero));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 WhereLess(Simd512 a, Simd512 b, Simd512 then, Simd512 otherwise)
        => new(Vector512.ConditionalSelect(Vector512.LessThan(a._value, b._value), then._value, otherwise._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd512 PowerOfTwo(Simd512 shifted) => new((shifted._value.AsUInt32() << 23).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => Vector512.Sum(_value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Largest() => new Simd256(_value.GetLower()).LargestWith(_value.GetUpper());
}

internal readonly struct Simd256(Vector256<float> value) : ISimd<Simd256>
{
    private readonly Vector256<float> _value = value;

    public static int Lanes => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 All(float value) => new(Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe Simd256 Load(float* from) => new(Vector256.Load(from));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe Simd256 LoadBFloat16(ushort* from)
        => new((Vector256.WidenLower(Vector128.Load(from).ToVector256Unsafe()) << 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void Store(float* to) => _value.Store(to);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void StoreBFloat16(ushort* to)
    {
        Vector256<uint> bits = _value.AsUInt32();
        Vector256<uint> rounded = (bits + Vector256.Create(0x7FFFu) + ((bits >>> 16) & Vector256.Create(1u))) >>> 16;
        Vector256<uint> kept = Vector256.ConditionalSelect(
            Vector256.Equals(_value, _value).AsUInt32(), rounded, Vector256.Create(0x7FC0u));
        Vector256.Narrow(kept, kept).GetLower().Store(to);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 operator +(Simd256 a, Simd256 b) => new(a._value + b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 operator -(Simd256 a, Simd256 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 operator *(Simd256 a, Simd256 b) => new(a._value * b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 operator /(Simd256 a, Simd256 b) => new(a._value / b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 AtMost(Simd256 a, Simd256 b)
        => new(Vector256.ConditionalSelect(Vector256.GreaterThan(a._value, b._value), b._value, a._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 MultiplyAdd(Simd256 a, Simd256 b, Simd256 c)
#if NET9_0_OR_GREATER
        => new(Vector256.MultiplyAddEstimate(a._value, b._value, c._value));
#else
        => new((a._value * b._value) + c._value);
#endif

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 Larger(Simd256 a, Simd256 b)
        => new(Vector256.ConditionalSelect(Vector256.GreaterThan(a._value, b._value), a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 Rectify(Simd256 a)
        => new(
            Vector256.ConditionalSelect(
                Vector256.LessThanOrEqual(a._value, Vector256<float>.Zero), Vector256<float>.Zero, a._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 ReluBackward(Simd256 rectified, Simd256 gradient)
        => new(
            Vector256.ConditionalSelect(
                Vector256.LessThanOrEqual(rectified._value, Vector256<float>.Zero), Vector256<float>.Zero, gradient._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 WhereEqual(Simd256 a, Simd256 b, Simd256 then)
        => new(Vector256.ConditionalSelect(Vector256.Equals(a._value, b._value), then._value, Vector256<float>.Zero));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 WhereLess(Simd256 a, Simd256 b, Simd256 then, Simd256 otherwise)
        => new(Vector256.ConditionalSelect(Vector256.LessThan(a._value, b._value), then._value, otherwise._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd256 PowerOfTwo(Simd256 shifted) => new((shifted._value.AsUInt32() << 23).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => Vector256.Sum(_value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Largest() => new Simd128(_value.GetLower()).LargestWith(_value.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float LargestWith(Vector256<float> other) => Larger(this, new Simd256(other)).Largest();
}

internal readonly struct Simd128(Vector128<float> value) : ISimd<Simd128>
{
    private readonly Vector128<float> _value = value;

    public static int Lanes => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 All(float value) => new(Vector128.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe Simd128 Load(float* from) => new(Vector128.Load(from));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe Simd128 LoadBFloat16(ushort* from)
        => new((Vector128.WidenLower(Vector64.Load(from).ToVector128Unsafe()) << 16).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void Store(float* to) => _value.Store(to);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void StoreBFloat16(ushort* to)
    {
        Vector128<uint> bits = _value.AsUInt32();
        Vector128<uint> rounded = (bits + Vector128.Create(0x7FFFu) + ((bits >>> 16) & Vector128.Create(1u))) >>> 16;
        Vector128<uint> kept = Vector128.ConditionalSelect(
            Vector128.Equals(_value, _value).AsUInt32(), rounded, Vector128.Create(0x7FC0u));
        Vector128.Narrow(kept, kept).GetLower().Store(to);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 operator +(Simd128 a, Simd128 b) => new(a._value + b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 operator -(Simd128 a, Simd128 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 operator *(Simd128 a, Simd128 b) => new(a._value * b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 operator /(Simd128 a, Simd128 b) => new(a._value / b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 AtMost(Simd128 a, Simd128 b)
        => new(Vector128.ConditionalSelect(Vector128.GreaterThan(a._value, b._value), b._value, a._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 MultiplyAdd(Simd128 a, Simd128 b, Simd128 c)
#if NET9_0_OR_GREATER
        => new(Vector128.MultiplyAddEstimate(a._value, b._value, c._value));
#else
        => new((a._value * b._value) + c._value);
#endif

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 Larger(Simd128 a, Simd128 b)
        => new(Vector128.ConditionalSelect(Vector128.GreaterThan(a._value, b._value), a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 Rectify(Simd128 a)
        => new(
            Vector128.ConditionalSelect(
                Vector128.LessThanOrEqual(a._value, Vector128<float>.Zero), Vector128<float>.Zero, a._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 ReluBackward(Simd128 rectified, Simd128 gradient)
        => new(
            Vector128.ConditionalSelect(
                Vector128.LessThanOrEqual(rectified._value, Vector128<float>.Zero), Vector128<float>.Zero, gradient._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 WhereEqual(Simd128 a, Simd128 b, Simd128 then)
        => new(Vector128.ConditionalSelect(Vector128.Equals(a._value, b._value), then._value, Vector128<float>.Zero));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 WhereLess(Simd128 a, Simd128 b, Simd128 then, Simd128 otherwise)
        => new(Vector128.ConditionalSelect(Vector128.LessThan(a._value, b._value), then._value, otherwise._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Simd128 PowerOfTwo(Simd128 shifted) => new((shifted._value.AsUInt32() << 23).AsSingle());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => Vector128.Sum(_value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Largest()
    {
        Simd128 pairs = Larger(this, new Simd128(Vector128.Shuffle(_value, Vector128.Create(2, 3, 0, 1))));
        return Larger(pairs, new Simd128(Vector128.Shuffle(pairs._value, Vector128.Create(1, 0, 3, 2))))._value.ToScalar();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float LargestWith(Vector128<float> other) => Larger(this, new Simd128(other)).Largest();
}

/// <summary>One lane: what is left of a row after its last whole vector.</summary>
internal readonly struct Simd1(float value) : ISimd<Simd1>
{
    private readonly float _value = value;

    public static int Lanes => 1;

    public static Simd1 All(float value) => new(value);

    public static unsafe Simd1 Load(float* from) => new(*from);

    public static unsafe Simd1 LoadBFloat16(ushort* from) => new(BitConverter.UInt32BitsToSingle((uint)*from << 16));

    public unsafe void Store(float* to) => *to = _value;

    public unsafe void StoreBFloat16(ushort* to)
    {
        uint bits = BitConverter.SingleToUInt32Bits(_value);
        *to = float.IsNaN(_value) ? (ushort)0x7FC0 : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    public static Simd1 operator +(Simd1 a, Simd1 b) => new(a._value + b._value);

    public static Simd1 operator -(Simd1 a, Simd1 b) => new(a._value - b._value);

    public static Simd1 operator *(Simd1 a, Simd1 b) => new(a._value * b._value);

    public static Simd1 operator /(Simd1 a, Simd1 b) => new(a._value / b._value);

    public static Simd1 AtMost(Simd1 a, Simd1 b) => a._value > b._value ? b : a;

    public static Simd1 MultiplyAdd(Simd1 a, Simd1 b, Simd1 c) => new((a._value * b._value) + c._value);

    public static Simd1 Larger(Simd1 a, Simd1 b) => a._value > b._value ? a : b;

    public static Simd1 Rectify(Simd1 a) => a._value <= 0 ? new(0) : a;

    public static Simd1 ReluBackward(Simd1 rectified, Simd1 gradient) => rectified._value <= 0 ? new(0) : gradient;

    public static Simd1 WhereEqual(Simd1 a, Simd1 b, Simd1 then) => a._value == b._value ? then : new(0);

    public static Simd1 WhereLess(Simd1 a, Simd1 b, Simd1 then, Simd1 otherwise) => a._value < b._value ? then : otherwise;

    public static Simd1 PowerOfTwo(Simd1 shifted)
        => new(BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(shifted._value) << 23));

    public float Sum() => _value;

    public float Largest() => _value;
}
