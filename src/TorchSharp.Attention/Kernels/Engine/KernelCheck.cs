using System.Globalization;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// The checked build of the kernels: unused memory around every buffer that must stay as it was, and every result compared with
/// that of libtorch's operations. What it finds is thrown on the thread that called, after the parallel call.
/// </summary>
internal static unsafe class KernelCheck
{
    /// <summary>Four bytes whose halves are NaN in bfloat16 and which are NaN in float32. No arithmetic makes them.</summary>
    private const uint Pattern = 0x7FED7FED;

    /// <summary>Values that stay unused before and after a buffer.</summary>
    private const long GuardValues = 64;

    private static readonly Scalar _shake = 1e-6.ToScalar();

    [ThreadStatic]
    private static int _composing;

    [ThreadStatic]
    private static List<GuardedTensor>? _guarded;

    /// <summary>Floats of a guard; none in the build that is not checked.</summary>
    public static long Guard => AttentionKernels.Checked ? GuardValues : 0;

    /// <summary>Whether this thread runs libtorch's operations to compare with.</summary>
    public static bool IsComposing => _composing > 0;

    /// <summary>Memory that nobody has written yet.</summary>
    public static void Fill(float* from, long count)
    {
        for (long i = 0; i < count; i++) ((uint*)from)[i] = Pattern;
    }

    /// <summary>Throws where something was written between the buffers of a piece of memory.</summary>
    public static void CheckGuards(float* origin, long length, IReadOnlyList<Section> sections)
    {
        long next = 0;
        foreach (Section section in sections)
        {
            CheckGuard((uint*)origin, next, section.Start, "a scratch buffer");
            next = section.End;
        }

        CheckGuard((uint*)origin, next, length, "a scratch buffer");
    }

    /// <summary>A tensor like another one, or of a size, between guards.</summary>
    public static Tensor New(long[] size, long[] strides, ScalarType type)
    {
        Verify(atMost: 64);
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        long count = size.Aggregate(1L, (product, length) => product * length);
        Tensor padded = empty([count + (2 * GuardValues)], type, CPU);
        ushort* values = (ushort*)MapView.Pointer(padded);
        for (long i = 0; i < padded.numel() * padded.ElementSize / sizeof(ushort); i++) values[i] = unchecked((ushort)Pattern);
        (_guarded ??= []).Add(new GuardedTensor(padded.DetachFromDisposeScope(), count));
        return padded.as_strided(size, strides, GuardValues).detach().MoveToOuterDisposeScope();
    }

    /// <summary>Throws where something was written beside a new tensor of this thread.</summary>
    public static void Verify(int atMost = 0)
    {
        if (_guarded is not { } guarded || guarded.Count <= atMost) return;
        _guarded = null;
        string? fault = null;
        foreach (GuardedTensor one in guarded) fault ??= one.Fault();
        foreach (GuardedTensor one in guarded) one.Padded.Dispose();
        if (fault is not null) throw new InvalidOperationException(fault);
    }

    /// <summary>The refined map of the kernels, compared with that of libtorch's operations.</summary>
    /// <param name="module">The gate.</param>
    /// <param name="norm">A norm in front of it that the kernels stand in for, or null.</param>
    /// <param name="input">The map.</param>
    /// <param name="residual">What is added at the end of a block, or null.</param>
    /// <param name="fused">Runs the kernels; null where they do not fit.</param>
    public static Tensor? Refined(
        GateModule module, Modules.BatchNorm2d? norm, Tensor input, Tensor? residual, Func<Tensor?> fused)
    {
        using Tensor before = input.detach().clone(), added = residual is null ? zeros(0) : residual.detach().clone();
        using State unwritten = new(norm, module);
        Tensor? refined = fused();
        Verify();

        // Layers that somebody listens to cannot run once more.
        if (refined is null || Hooks.AnyWithin(module)) return refined;
        using DisposeScope scope = NewDisposeScope();
        using State written = new(norm, module);
        Tensor expected = Expected(before);
        double difference = Difference(expected, refined.detach()), scale = Scale(expected),
            allowed = Tolerance(refined.dtype, 2e-4, 0.1) * scale;
        if (difference > allowed)
        {
            allowed += 10 * Difference(expected, Expected(before.mul(rand_like(before).mul(_shake).Plus(Scalars.One))));
        }

        written.Restore();
        if (difference <= allowed) return refined;
        throw new InvalidOperationException(Message($"{module.GetName()}({module.Channels})", before, difference, scale)
            + (norm is null ? "" : " It stood behind a batch norm.") + (residual is null ? "" : " It ended a residual block."));

        Tensor Expected(Tensor map)
        {
            using IDisposable quiet = no_grad();
            unwritten.Restore();
            _composing++;
            try
            {
                Tensor composed = module.Composed(norm is null ? map : norm.call(map));
                return residual is null ? composed : composed.Plus(added).relu();
            }
            finally
            {
                _composing--;
            }
        }
    }

    /// <summary>
    /// Derivatives by libtorch's operations to compare with, outside of any dispose scope; null in the build that is not checked.
    /// </summary>
    public static Tensor?[]? Derive(Func<Tensor?[]> derive)
    {
        if (!AttentionKernels.Checked) return null;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        _composing++;
        try
        {
            return Array.ConvertAll(
                derive(), one => one is null || one.IsInvalid ? null : one.detach().clone().DetachFromDisposeScope());
        }
        finally
        {
            _composing--;
        }
    }

    /// <summary>Throws where a gradient is not what libtorch's operations make of it.</summary>
    public static void Same(string what, Tensor map, Tensor? expected, Tensor? actual)
    {
        if (expected is null || actual is null) return;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor given = actual.detach();
        double difference = Difference(expected.reshape(given.shape), given), scale = Scale(expected);
        if (difference > Tolerance(map.dtype, 5e-3, 0.15) * scale)
        {
            throw new InvalidOperationException(Message(what, map, difference, scale));
        }
    }

    private static double Tolerance(ScalarType type, double single, double half) => type == ScalarType.BFloat16 ? half : single;

    /// <summary>The largest difference; NaN and infinities must be the same.</summary>
    private static double Difference(Tensor expected, Tensor actual)
    {
        if (!expected.shape.AsSpan().SequenceEqual(actual.shape) || expected.dtype != actual.dtype)
        {
            return double.PositiveInfinity;
        }

        if (expected.numel() == 0) return 0;
        Tensor wide = expected.to_type(ScalarType.Float64), other = actual.to_type(ScalarType.Float64);
        Tensor same = wide.eq(other).logical_or(wide.isnan().logical_and(other.isnan()));
        double largest = wide.sub(other).abs().masked_fill(same, Scalars.Zero).max().ToDouble();
        return double.IsNaN(largest) ? double.PositiveInfinity : largest;
    }

    private static double Scale(Tensor expected)
    {
        if (expected.numel() == 0) return 1;
        Tensor wide = expected.to_type(ScalarType.Float64).abs();
        return Math.Max(1e-3, wide.masked_fill(wide.isfinite().logical_not(), Scalars.Zero).max().ToDouble());
    }

    private static string Message(string what, Tensor map, double difference, double scale)
    {
        string layout = MapView.TryOf(map, out MapView view) && view.IsChannelsLast ? "channels last" : "contiguous";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"The kernels and libtorch's operations disagree. {what}: feature map {Check.Shape(map)}, {map.dtype}, {layout}; " +
            $"{get_num_threads()} threads, {AttentionKernels.Description}; "
            + $"the largest difference is {difference:g3} where values reach {scale:g3}. " +
            $"Set {AttentionKernels.EnvironmentVariable}=0 to use libtorch's operations, and report these numbers.");
    }

    private static void CheckGuard(uint* values, long from, long to, string where)
    {
        for (long i = from; i < to; i++)
        {
            if (values[i] != Pattern) throw new InvalidOperationException(Written(where));
        }
    }

    private static string Written(string where)
        => $"A kernel wrote beside {where}. Set {AttentionKernels.EnvironmentVariable}=0 to use libtorch's operations, and " +
            "report the module and the shape of its map.";

    /// <summary>A new tensor's memory with its guards.</summary>
    private sealed record GuardedTensor(Tensor Padded, long Count)
    {
        public string? Fault()
        {
            long bytes = Padded.ElementSize, guard = GuardValues * bytes, whole = Padded.numel() * bytes;
            byte* first = (byte*)MapView.Pointer(Padded);
            return IsUntouched(first, 0, guard) && IsUntouched(first, guard + (Count * bytes), whole)
                ? null
                : Written($"a new tensor of {Count} values");
        }

        private static bool IsUntouched(byte* values, long from, long to)
        {
            ReadOnlySpan<byte> pattern = [0xED, 0x7F];
            for (long i = from; i < to; i++)
            {
                if (values[i] != pattern[(int)(i % 2)]) return false;
            }

            return true;
        }
    }

    /// <summary>
    /// The buffers of a norm and of a gate. They are put back byte by byte: an operation of libtorch's would count as a change in
    /// place and end a backward pass that is still to come.
    /// </summary>
    private sealed class State : IDisposable
    {
        private readonly List<(Tensor Buffer, Tensor Copy)> _buffers = [];

        public State(params nn.Module?[] modules)
        {
            using IDisposable quiet = no_grad();
            foreach (nn.Module module in modules.OfType<nn.Module>())
            {
                foreach ((string _, Tensor buffer) in module.named_buffers())
                {
                    if (buffer is { IsInvalid: false } && buffer.is_contiguous())
                    {
                        _buffers.Add((buffer, buffer.clone().DetachFromDisposeScope()));
                    }
                }
            }
        }

        public void Restore()
        {
            foreach ((Tensor buffer, Tensor copy) in _buffers)
            {
                long bytes = buffer.numel() * buffer.ElementSize;
                NativeMemory.Copy(MapView.Pointer(copy), MapView.Pointer(buffer), (nuint)bytes);
            }
        }

        public void Dispose()
        {
            foreach ((Tensor _, Tensor copy) in _buffers) copy.Dispose();
        }
    }
}
