using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// (x, the factors, alpha of an identity start, pass) to y = x · g; of the factors and alpha, those that there are.
/// </summary>
internal sealed class CombineFunction : SingleTensorFunction<CombineFunction>
{
    public override string Name => nameof(CombineFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0], first = (Tensor)vars[1];
        CombinationPass pass = (CombinationPass)vars[^1];
        bool hasSecond = !pass.Mix.HasStrips || pass.HasThird;
        Tensor? second = hasSecond ? (Tensor)vars[2] : null;
        Tensor? alpha = vars.Length == (hasSecond ? 5 : 4) ? (Tensor)vars[^2] : null;
        GateAutograd.Save(ctx, pass, vars, input, first, second!, alpha!, pass.Pooled!);
        return pass.Apply(input, first, second, alpha?.ToSingle());
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
        => GateAutograd.Guarded<CombinationPass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        Tensor? second = saved[2];
        pass.Forget();
        pass.Composed |= is_grad_enabled();
        if (pass.Composed)
        {
            return GateAutograd.Composed([.. saved, grad_output], () => [.. Derive(pass, saved, grad_output), null]);
        }

        bool hasSecond = second is not null;
        Tensor?[]? derived = KernelCheck.Derive(() => Derive(pass, saved, grad_output));
        using Tensor? map = derived is null ? null : saved[0].alias().DetachFromDisposeScope();
        CombinationBackward backward = pass.Backward = new CombinationBackward(pass, saved, grad_output);
        (Tensor dFirst, Tensor? dSecond) = backward.FactorGradients();
        Tensor? dAlpha = backward.AlphaGradient();
        bool last = !pass.Mix.ReadsAnything || !pass.InputNeedsGradient;
        Tensor? dx = last && pass.InputNeedsGradient ? backward.InputGradient(null) : null;
        if (derived is not null)
        {
            KernelCheck.Same($"The gradient of the first factor of {pass.Name}", map!, derived[1], dFirst);
            if (hasSecond) KernelCheck.Same($"The gradient of the second factor of {pass.Name}", map!, derived[2], dSecond);
            if (dAlpha is not null) KernelCheck.Same($"The gradient of alpha of {pass.Name}", map!, derived[^1], dAlpha);
            KernelCheck.Same($"The gradient of the feature map of {pass.Name}", map!, derived[0], dx);
            pass.Derived = new DerivedGradients();
            pass.Derived.Add([derived[0]]);
            GateAutograd.Dispose(derived[1..]);
        }

        if (last) pass.Forget();
        List<Tensor?> gradients = [dx, dFirst];
        if (hasSecond) gradients.Add(dSecond);
        if (dAlpha is not null) gradients.Add(dAlpha);
        return GateAutograd.Return([.. gradients, null]);
    });

    private static Tensor[] Derive(CombinationPass pass, List<Tensor> saved, Tensor gradient)
    {
        bool hasSecond = saved[2] is not null, hasAlpha = saved[3] is not null;
        return CombinationAutograd.Differentiate([.. saved.Take(4).OfType<Tensor>()], gradient, all =>
        {
            CombinationFactors factors = pass.Disarrange(all[1], hasSecond ? all[2] : null);
            Tensor gate = IdentityStart.Blend(pass.Mix.Compose(all[0], factors), hasAlpha ? all[^1] : null);
            return all[0].mul(gate).to_type(all[0].dtype);
        });
    }
}
