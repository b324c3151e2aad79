using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>(pooled positions, weight, pass) to the logits of the small convolution.</summary>
internal sealed class ConvolvePositionsFunction : SingleTensorFunction<ConvolvePositionsFunction>
{
    public override string Name => nameof(ConvolvePositionsFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor pooled = (Tensor)vars[0], weight = (Tensor)vars[1];
        ConvolutionPass pass = (ConvolutionPass)vars[2];
        GateAutograd.Save(ctx, pass, vars, pooled, weight);
        return PositionConvolutionGradients.Forward(pass.Arguments, pooled, weight);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
        => GateAutograd.Guarded<ConvolutionPass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        Tensor?[] given = [.. saved, grad_output];
        if (is_grad_enabled())
        {
            return GateAutograd.Composed(given, () =>
            {
                (Tensor pooled, Tensor weight) = PositionConvolutionGradients.Composed(
                    pass.Order, saved[0], saved[1], grad_output);
                return [pooled, weight, null];
            });
        }

        using Tensor gradient = grad_output.contiguous();
        Tensor? toPooled = pass.PooledNeedsGradient
            ? PositionConvolutionGradients.OfPooled(pass.Arguments, saved[1], gradient)
            : null;
        Tensor? toWeight = pass.WeightNeedsGradient
            ? PositionConvolutionGradients.OfWeight(pass.Arguments, saved[0], saved[1], gradient)
            : null;
        Tensor?[]? derived = KernelCheck.Derive(() =>
        {
            (Tensor pooled, Tensor weight) = PositionConvolutionGradients.Composed(pass.Order, saved[0], saved[1], gradient);
            return [pooled, weight];
        });
        if (derived is not null)
        {
            KernelCheck.Same("The gradient of pooled positions before a convolution", saved[0], derived[0], toPooled);
            KernelCheck.Same("The gradient of the weight of a convolution of pooled positions", saved[0], derived[1], toWeight);
            GateAutograd.Dispose(derived);
        }

        GateAutograd.Dispose(given);
        return GateAutograd.Return(toPooled, toWeight, null);
    });
}
