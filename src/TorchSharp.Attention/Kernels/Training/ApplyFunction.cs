using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// (x, c or null, s or null, residual or null, pass) to y = x · c · s, or to the end of a residual
/// block, y = max(x · c · s + residual, 0).
/// </summary>
internal sealed class ApplyFunction : SingleTensorFunction<ApplyFunction>
{
    public override string Name => nameof(ApplyFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        Tensor? channel = (Tensor?)vars[1], spatial = (Tensor?)vars[2], residual = (Tensor?)vars[3];
        GatePass pass = (GatePass)vars[4];
        Tensor output = pass.Apply(input, channel, spatial, residual: residual);
        Tensor? end = residual is null ? null : output;
        GateAutograd.Save(
            ctx, pass, vars, input, channel!, spatial!, pass.PooledChannels!, pass.PooledPositions!, end!, pass.NormValues!);
        return output;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output) => GateAutograd.Guarded<GatePass>(ctx, pass =>
    {
        List<Tensor> saved = ctx.get_saved_variables();
        GateAutograd.Finish(pass);
        pass.Composed |= is_grad_enabled();
        if (pass.Composed) return GateAutograd.Composed([.. saved, grad_output], () => Derive(pass, saved, grad_output));

        long height = saved[0].size(2), width = saved[0].size(3);
        Tensor?[]? derived = KernelCheck.Derive(() => Derive(pass, saved, grad_output));
        using Tensor? map = derived is null ? null : saved[0].alias().DetachFromDisposeScope();
        GateBackward backward = pass.Backward = new GateBackward(
            pass.View, pass.Parts.Channel?.Statistics ?? ChannelStatistics.Nothing, saved, grad_output);
        bool spatial = pass.Parts.Spatial is not null;
        Tensor gradient = spatial ? backward.SpatialGradient(height, width) : backward.ChannelGradient();
        Tensor? residual = pass.ResidualNeedsGradient ? backward.ResidualGradient() : null;
        if (derived is not null)
        {
            KernelCheck.Same(
                $"The gradient of the {(spatial ? "spatial" : "channel")} gate of {pass.Name}", map!,
                spatial ? derived[2] : derived[1], gradient);
            KernelCheck.Same($"The gradient of the residual behind {pass.Name}", map!, derived[3], residual);
            pass.Derived = new DerivedGradients();
            pass.Derived.Add([derived[0], derived[1]]);
            GateAutograd.Dispose(derived[2], derived[3]);
        }

        if (!(spatial ? pass.PooledNeedsGradient : pass.InputNeedsGradient)) GateAutograd.Finish(pass);
        return spatial
            ? GateAutograd.Return(null, null, gradient, residual, null)
            : GateAutograd.Return(null, gradient, null, residual, null);
    });

    private static Tensor?[] Derive(GatePass pass, List<Tensor> saved, Tensor gradient)
    {
        Tensor before = saved[5] is null ? gradient : GateDerivatives.BehindEnd(saved[5], gradient);
        (Tensor dx, Tensor? dc, Tensor? ds) = GateDerivatives.Applied(GateAutograd.Map(pass, saved), saved[1], saved[2], before);
        return [dx, dc, ds, pass.ResidualNeedsGradient ? before.alias() : null, null];
    }
}
