using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>(pooled channels, W₁, b₁ or null, W₂, b₂ or null, pass) to the gate.</summary>
internal sealed class BottleneckFunction : SingleTensorFunction<BottleneckFunction>
{
    public override string Name => nameof(BottleneckFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor pooled = (Tensor)vars[0], first = (Tensor)vars[1], second = (Tensor)vars[3];
        Tensor? firstBias = (Tensor?)vars[2], secondBias = (Tensor?)vars[4];
        (Tensor gate, Tensor hidden) = BottleneckGate.Forward(pooled, first, firstBias, second, secondBias);

        // Biases take no part in the first derivative; as with libtorch's layers they may change before it.
        GateAutograd.Save(ctx, vars[5], vars, pooled, first, second, hidden, gate);
        return gate;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
        => GateAutograd.Guarded<BottleneckPass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        Tensor?[] given = [.. saved, grad_output];
        if (is_grad_enabled())
        {
            return GateAutograd.Composed(given, () => [.. BottleneckGate.Derive(pass, saved, grad_output), null]);
        }

        Tensor?[]? derived = KernelCheck.Derive(() => BottleneckGate.DeriveWhereBiasesStand(pass, saved, grad_output));
        Tensor?[] gradients = BottleneckGate.Backward(pass, saved, grad_output);
        for (int i = 0; derived is not null && i < gradients.Length; i++)
        {
            KernelCheck.Same($"A gradient of the two layers of a channel gate, number {i}", saved[0], derived[i], gradients[i]);
            derived[i]?.Dispose();
        }

        GateAutograd.Dispose(given);
        return GateAutograd.Return([.. gradients, null]);
    });
}
