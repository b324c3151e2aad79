using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>What the two functions share.</summary>
internal static class CombinationAutograd
{
    /// <summary>
    /// The gradients of composed operations, which can be differentiated again where grad mode is on: the operations run once
    /// more.
    /// </summary>
    public static Tensor[] Differentiate(IReadOnlyList<Tensor> given, Tensor gradient, Func<Tensor[], Tensor> run)
    {
        bool again = is_grad_enabled();
        using IDisposable recording = enable_grad();

        // Views: the factors were made of the input, but each derivative holds the others fixed.
        Tensor[] inputs = [
            .. given.Select(
                tensor => again && tensor.requires_grad ? tensor.view(tensor.shape) : tensor.detach().requires_grad_())];
        Tensor output = run(inputs);
        return [.. grad([output], inputs, [gradient], retain_graph: again, create_graph: again, allow_unused: true)];
    }
}
