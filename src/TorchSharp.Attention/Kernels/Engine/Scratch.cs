using System.Buffers;
using System.Runtime.InteropServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// The memory of a <see cref="ScratchLayout"/>, from the pool of arrays and back to it. In the checked build
/// every guard holds a pattern that <see cref="Check"/> looks for, and every buffer begins with NaN, so that a
/// value that nobody wrote shows in the result.
/// </summary>
internal readonly unsafe ref struct Scratch
{
    /// <summary>Floats that a piece of memory may have: 4 GB.</summary>
    private const long MostFloats = 1L << 30;

    private readonly float[] _array;
    private readonly GCHandle _handle;
    private readonly float* _origin;
    private readonly long _length;
    private readonly IReadOnlyList<Section>? _sections;

    public Scratch(in ScratchLayout layout)
    {
        _length = layout.Length;
        _sections = layout.Sections;
        _array = ArrayPool<float>.Shared.Rent(checked((int)(_length + ScratchLayout.Line)));
        _handle = GCHandle.Alloc(_array, GCHandleType.Pinned);
        const nint bytes = sizeof(float) * ScratchLayout.Line;
        _origin = (float*)((_handle.AddrOfPinnedObject() + bytes - 1) / bytes * bytes);
        if (_sections is not null) KernelCheck.Fill(_origin, _length);
    }

    /// <summary>Whether so much memory can be had. Where it cannot, the composed operations must run.</summary>
    public static bool Fits(in ScratchLayout layout) => layout.Length <= MostFloats;

    /// <summary>The first float; sections count from here.</summary>
    public float* Origin => _origin;

    public float* At(in Section section) => _origin + section.Start;

    public double* Doubles(in Section section) => (double*)At(section);

    /// <summary>In the checked build, throws where a kernel wrote between the buffers.</summary>
    public void Check()
    {
        if (_sections is not null) KernelCheck.CheckGuards(_origin, _length, _sections);
    }

    /// <summary>Gives the memory back.</summary>
    public void Dispose()
    {
        _handle.Free();
        ArrayPool<float>.Shared.Return(_array);
    }
}
