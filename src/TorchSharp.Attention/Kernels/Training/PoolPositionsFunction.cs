using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>(x, c or null, pass) to the pooled positions of x · c.</summary>
internal sealed class PoolPositionsFunction : SingleTensorFunction<PoolPositionsFunction>
{
    public override string Name => nameof(PoolPositionsFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        Tensor? channel = (Tensor?)vars[1];
        GatePass pass = (GatePass)vars[2];
        Tensor pooled = pass.PoolPositions(input, channel, input.size(2), input.size(3));
        GateAutograd.Save(ctx, pass, vars, input, channel!, pooled, pass.NormValues!);
        return pooled;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output) => GateAutograd.Guarded<GatePass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        bool gated = pass.Parts.Channel is not null;
        if (is_grad_enabled() || pass.Composed || pass.Backward is not { } backward)
        {
            return GateAutograd.Composed([.. saved, grad_output], () =>
            {
                (Tensor dx, Tensor? dc) = GateDerivatives.PooledPositions(
                    GateAutograd.Map(pass, saved), gated ? saved[1] : null, saved[2], grad_output);
                return [dx, dc, null];
            });
        }

        pass.Derived?.Add(KernelCheck.Derive(() =>
        {
            (Tensor dx, Tensor? dc) = GateDerivatives.PooledPositions(
                GateAutograd.Map(pass, saved), gated ? saved[1] : null, saved[2], grad_output);
            return [dx, dc];
        }));
        backward.TakePositions(grad_output);
        Tensor? channel = gated ? backward.ChannelGradient() : null;
        Tensor? input = !gated && pass.InputNeedsGradient ? backward.InputGradient(null) : null;
        if (pass.Derived is { } derived)
        {
            KernelCheck.Same($"The gradient of the channel gate of {pass.Name}", saved[0], derived.Channel, channel);
        }

        pass.CheckInputGradient(saved[0], input);
        Tensor[] done = [.. saved, grad_output];
        if (gated && pass.InputNeedsGradient) GateAutograd.Dispose(done);
        else GateAutograd.Finish(pass, done);
        return GateAutograd.Return(input, channel, null);
    });
}
