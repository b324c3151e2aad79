namespace TorchSharp.Attention.Kernels;

/// <summary>Rows of one sample of a group.</summary>
internal readonly record struct RowBlock(int Sample, int From, int To)
{
    public bool IsEmpty => From == To;
}
