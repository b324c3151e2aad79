using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>(x, pass) to the pooled channels.</summary>
internal sealed class PoolChannelsFunction : SingleTensorFunction<PoolChannelsFunction>
{
    public override string Name => nameof(PoolChannelsFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        GatePass pass = (GatePass)vars[1];
        Tensor pooled = pass.PoolChannels(input);
        GateAutograd.Save(ctx, pass, vars, input, pooled, pass.NormValues!);
        return pooled;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output) => GateAutograd.Guarded<GatePass>(ctx, pass =>
    {
        ChannelStatistics reads = pass.Parts.Channel!.Statistics;
        List<Tensor> saved = ctx.get_saved_variables();
        if (is_grad_enabled() || pass.Composed || pass.Backward is null)
        {
            pass.NormGradients = null;
            return GateAutograd.Composed(
                [.. saved, grad_output],
                () => [GateDerivatives.PooledChannels(GateAutograd.Map(pass, saved), saved[1], grad_output, reads), null]);
        }

        pass.Derived?.Add(
            KernelCheck.Derive(
                () => [GateDerivatives.PooledChannels(GateAutograd.Map(pass, saved), saved[1], grad_output, reads)]));
        Tensor gradient = pass.Backward.InputGradient(grad_output);
        pass.NormGradients = pass.Backward.NormGradients;
        pass.CheckInputGradient(saved[0], gradient);
        GateAutograd.Finish(pass, [.. saved, grad_output]);
        return GateAutograd.Return(gradient, null);
    });
}
