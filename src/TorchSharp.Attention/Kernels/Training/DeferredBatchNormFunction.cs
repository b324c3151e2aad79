using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// (z, weight, bias, pass) to a map with the values of z that stands for the norm's output: the gate's steps know
/// from their pass what the values mean. Its gradient is that of the norm's output, or already that of z where the
/// gate's last step has done the norm's part.
/// </summary>
internal sealed class DeferredBatchNormFunction : SingleTensorFunction<DeferredBatchNormFunction>
{
    public override string Name => nameof(DeferredBatchNormFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        GatePass pass = (GatePass)vars[3];
        DeferredBatchNorm.Begin(pass.Norm!, pass.View, pass.Parts.Channel!.Statistics.HasFlag(ChannelStatistics.Maximum));
        GateAutograd.Save(ctx, pass, vars, input, (Tensor)vars[1], pass.NormValues!);
        return input.detach();
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output) => GateAutograd.Guarded<GatePass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        NormGradients? done = pass.NormGradients;
        pass.NormGradients = null;
        if (done is null || is_grad_enabled())
        {
            return GateAutograd.Composed(
                [.. saved, grad_output],
                () => [.. DeferredBatchNorm.Derive(saved[0], saved[1], pass.Norm!.eps, grad_output), null]);
        }

        Tensor gradient = grad_output.alias();
        GateAutograd.Dispose([.. saved, grad_output]);
        return GateAutograd.Return(gradient, DeferredBatchNorm.New(done.Weight), DeferredBatchNorm.New(done.Bias), null);
    });
}
