using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention;

/// <summary>(x, pass) to everything that the gate reads of the map.</summary>
internal sealed class MixPoolFunction : SingleTensorFunction<MixPoolFunction>
{
    public override string Name => nameof(MixPoolFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        MixPass pass = (MixPass)vars[1];
        Tensor pooled = pass.Pool(input);
        GateSteps.Save(ctx, pass, vars, input);
        return pooled;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output) => GateSteps.Guarded<MixPass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        if (is_grad_enabled() || pass.Composed || pass.Backward is not { } backward)
        {
            return GateSteps.Composed([.. saved, grad_output], () => [.. MixSteps.Differentiate(saved, grad_output, all => pass.PoolComposed(all[0])), null]);
        }

        Tensor gradient = backward.InputGradient(grad_output);
        pass.Forget();
        GateSteps.Dispose([.. saved, grad_output]);
        return GateSteps.Return(gradient, null);
    });
}

/// <summary>(x, the factors, alpha of an identity start, pass) to y = x · g; of the factors and alpha, those that there are.</summary>
internal sealed class MixFunction : SingleTensorFunction<MixFunction>
{
    public override string Name => nameof(MixFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0], first = (Tensor)vars[1];
        MixPass pass = (MixPass)vars[^1];
        bool hasSecond = !pass.Mix.HasStrips || pass.HasThird;
        Tensor? second = hasSecond ? (Tensor)vars[2] : null;
        Tensor? alpha = vars.Length == (hasSecond ? 5 : 4) ? (Tensor)vars[^2] : null;
        GateSteps.Save(ctx, pass, vars, input, first, second!, alpha!, pass.Pooled!);
        return pass.Apply(input, first, second, alpha?.ToSingle());
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output) => GateSteps.Guarded<MixPass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        (Tensor? second, Tensor? alpha) = (saved[2], saved[3]);
        pass.Forget();
        pass.Composed |= is_grad_enabled();
        if (pass.Composed)
        {
            List<Tensor> given = [.. saved.Take(4).OfType<Tensor>()];
            return GateSteps.Composed([.. saved, grad_output], () => [.. MixSteps.Differentiate(given, grad_output, all =>
            {
                MixFactors factors = pass.Disarrange(all[1], second is null ? null : all[2]);
                Tensor gate = AttentionStart.Blend(pass.Mix.Compose(all[0], factors), alpha is null ? null : all[^1]);
                return all[0].mul(gate).to_type(all[0].dtype);
            }), null]);
        }

        bool hasSecond = second is not null;
        MixBackward backward = pass.Backward = new MixBackward(pass, saved, grad_output);
        (Tensor dFirst, Tensor? dSecond) = backward.FactorGradients();
        Tensor? dAlpha = backward.AlphaGradient();
        bool last = !pass.Mix.ReadsAnything || !pass.InputNeedsGradient;
        Tensor? dx = last && pass.InputNeedsGradient ? backward.InputGradient(null) : null;
        if (last) pass.Forget();
        List<Tensor?> gradients = [dx, dFirst];
        if (hasSecond) gradients.Add(dSecond);
        if (dAlpha is not null) gradients.Add(dAlpha);
        return GateSteps.Return([.. gradients, null]);
    });
}

/// <summary>What the two functions share.</summary>
internal static class MixSteps
{
    /// <summary>
    /// The gradients of composed operations, which can be differentiated again where grad mode is on: the operations run once more.
    /// </summary>
    public static Tensor[] Differentiate(IReadOnlyList<Tensor> given, Tensor gradient, Func<Tensor[], Tensor> run)
    {
        bool again = is_grad_enabled();
        using IDisposable recording = enable_grad();

        // Views: the factors were made of the input, but each derivative holds the others fixed.
        Tensor[] inputs = [.. given.Select(tensor => again && tensor.requires_grad ? tensor.view(tensor.shape) : tensor.detach().requires_grad_())];
        Tensor output = run(inputs);
        return [.. grad([output], inputs, [gradient], retain_graph: again, create_graph: again, allow_unused: true)];
    }
}
