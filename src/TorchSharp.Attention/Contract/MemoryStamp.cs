using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Tells whether the memory of a tensor has been written since, whatever the values. libtorch counts the writes to a memory, and
/// a backward pass checks the count of what it needs: a tiny product that needs one element of the tensor is enough to ask.
/// </summary>
internal sealed class MemoryStamp : IDisposable
{
    private readonly Tensor? _product;

    /// <summary>
    /// A stamp of now. A tensor that is not of floating point, is empty, or was made in inference mode
    /// has no stamp and counts as not written.
    /// </summary>
    public MemoryStamp(Tensor tensor)
    {
        if (!tensor.is_floating_point() || tensor.numel() == 0 || is_inference_mode_enabled()) return;
        try
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable gradients = enable_grad();
            Tensor element = tensor.detach().as_strided([1], [1], tensor.storage_offset());
            Tensor factor = ones(1, dtype: tensor.dtype, device: tensor.device, requires_grad: true);
            _product = element.mul(factor).DetachFromDisposeScope();
        }
        catch (ExternalException)
        {
            // A tensor of inference mode, or one whose memory has no elements in order, such as a sparse one.
        }
    }

    /// <summary>Whether the memory has been written. Asked once.</summary>
    public bool IsWritten()
    {
        if (_product is null) return false;
        try
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable gradients = enable_grad();
            _product.Total().backward();
            return false;
        }
        catch (ExternalException)
        {
            return true;
        }
    }

    public void Dispose() => _product?.Dispose();
}
