using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// (the map that stands for a norm's output, pass) to that output, written: for derivatives by libtorch's operations.
/// </summary>
internal sealed class WriteNormFunction : SingleTensorFunction<WriteNormFunction>
{
    public override string Name => nameof(WriteNormFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        GatePass pass = (GatePass)vars[1];
        GateAutograd.Save(ctx, pass, vars);
        return DeferredBatchNorm.Write(pass.View, (Tensor)vars[0]);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output) => GateAutograd.Guarded<GatePass>(ctx, _ =>
    {
        Tensor gradient = grad_output.alias();
        GateAutograd.Dispose(grad_output);
        return GateAutograd.Return(gradient, null);
    });
}
