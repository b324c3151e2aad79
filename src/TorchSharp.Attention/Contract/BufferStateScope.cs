using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Gives a network's buffers back as they were: a forward may write them in evaluation, too, such as a counter of steps.
/// </summary>
internal sealed class BufferStateScope : IDisposable
{
    private readonly List<(Tensor Buffer, Tensor Copy)> _buffers = [];

    public BufferStateScope(nn.Module model)
    {
        using IDisposable quiet = no_grad();
        foreach ((string _, Tensor buffer) in model.named_buffers())
        {
            if (buffer is { IsInvalid: false }) _buffers.Add((buffer, buffer.clone().DetachFromDisposeScope()));
        }
    }

    public void Dispose()
    {
        using IDisposable quiet = no_grad();
        foreach ((Tensor buffer, Tensor copy) in _buffers)
        {
            // Only where something changed: writing would end a backward pass that is still to come.
            if (!buffer.IsInvalid && !Same(buffer, copy)) buffer.copy_(copy);
            copy.Dispose();
        }
    }

    private static bool Same(Tensor one, Tensor other)
    {
        using DisposeScope scope = NewDisposeScope();
        return one.eq(other).all().item<bool>();
    }
}
