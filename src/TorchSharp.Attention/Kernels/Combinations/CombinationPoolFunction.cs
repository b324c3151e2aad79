using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>(x, pass) to everything that the gate reads of the map.</summary>
internal sealed class CombinationPoolFunction : SingleTensorFunction<CombinationPoolFunction>
{
    public override string Name => nameof(CombinationPoolFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        CombinationPass pass = (CombinationPass)vars[1];
        Tensor pooled = pass.Pool(input);
        GateAutograd.Save(ctx, pass, vars, input);
        return pooled;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
        => GateAutograd.Guarded<CombinationPass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        if (is_grad_enabled() || pass.Composed || pass.Backward is not { } backward)
        {
            return GateAutograd.Composed(
                [.. saved, grad_output],
                () => [.. CombinationAutograd.Differentiate(saved, grad_output, all => pass.PoolComposed(all[0])), null]);
        }

        pass.Derived?.Add(
            KernelCheck.Derive(() => CombinationAutograd.Differentiate(saved, grad_output, all => pass.PoolComposed(all[0]))));
        Tensor gradient = backward.InputGradient(grad_output);
        if (pass.Derived is { } derived)
        {
            KernelCheck.Same($"The gradient of the feature map of {pass.Name}", saved[0], derived.Input, gradient);
        }

        pass.Forget();
        GateAutograd.Dispose([.. saved, grad_output]);
        return GateAutograd.Return(gradient, null);
    });
}
