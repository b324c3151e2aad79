using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The memory of a tensor, in pieces that a span can hold.</summary>
internal static class TensorBytes
{
    public delegate void Visitor(Span<byte> bytes);

    public static void Visit(Tensor tensor, int chunkBytes, Visitor visit)
    {
        long count = tensor.numel(), step = chunkBytes / tensor.element_size();
        using Tensor flat = tensor.view(-1);
        for (long start = 0; start < count; start += step)
        {
            using Tensor piece = flat.narrow(0, start, Math.Min(step, count - start));
            visit(piece.bytes);
        }
    }
}
