namespace TorchSharp.Attention.Kernels;

/// <summary>A buffer within a <see cref="ScratchLayout"/>: where it starts and how long it is, in floats.</summary>
internal readonly record struct Section(long Start, long Length)
{
    /// <summary>The first float after the buffer.</summary>
    public long End => Start + Length;
}
