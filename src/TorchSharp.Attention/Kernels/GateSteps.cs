using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention;

// The three steps of a gate as autograd functions. Where a second derivative is asked for, grad mode stays on during the backward pass, and
// the derivatives are made of libtorch's operations; so they are where that second pass arrives at a step without its last one.

/// <summary>(x, pass) to the pooled channels.</summary>
internal sealed class PoolChannelsFunction : SingleTensorFunction<PoolChannelsFunction>
{
    public override string Name => nameof(PoolChannelsFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        GatePass pass = (GatePass)vars[1];
        Tensor pooled = pass.PoolChannels(input);
        GateSteps.Save(ctx, pass, input, pooled);
        return pooled;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        GatePass pass = GateSteps.PassOf(ctx);
        ChannelReads reads = pass.Parts.Channel!.Reads;
        List<Tensor> saved = ctx.get_saved_variables();
        if (is_grad_enabled() || pass.Composed || pass.Backward is null)
        {
            return GateSteps.Composed([.. saved, grad_output], () => [GateDerivatives.PooledChannels(saved[0], saved[1], grad_output, reads), null]);
        }

        Tensor gradient = pass.Backward!.InputGradient(grad_output);
        GateSteps.Finish(pass, [.. saved, grad_output]);
        return GateSteps.Return(gradient, null);
    }
}

/// <summary>(x, c or nothing, pass) to the pooled positions of x · c.</summary>
internal sealed class PoolPositionsFunction : SingleTensorFunction<PoolPositionsFunction>
{
    public override string Name => nameof(PoolPositionsFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        GatePass pass = (GatePass)vars[^1];
        Tensor? channel = vars.Length == 3 ? (Tensor)vars[1] : null;
        Tensor pooled = pass.PoolPositions(input, channel, input.size(2), input.size(3));
        GateSteps.Save(ctx, pass, input, channel!, pooled);
        return pooled;
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        GatePass pass = GateSteps.PassOf(ctx);
        List<Tensor> saved = ctx.get_saved_variables();
        bool gated = pass.Parts.Channel is not null;
        if (is_grad_enabled() || pass.Composed || pass.Backward is not { } backward)
        {
            return GateSteps.Composed([.. saved, grad_output], () =>
            {
                (Tensor dx, Tensor? dc) = GateDerivatives.PooledPositions(saved[0], gated ? saved[1] : null, saved[2], grad_output);
                return gated ? [dx, dc, null] : [dx, null];
            });
        }

        backward.TakePositions(grad_output);
        Tensor? channel = gated ? backward.ChannelGradient() : null;
        Tensor? input = !gated && pass.InputNeedsGradient ? backward.InputGradient(null) : null;
        Tensor[] done = [.. saved, grad_output];
        if (gated && pass.InputNeedsGradient) GateSteps.Dispose(done);
        else GateSteps.Finish(pass, done);
        return gated ? GateSteps.Return(null, channel, null) : GateSteps.Return(input, null);
    }
}

/// <summary>(x, the gates, pass) to y = x · c · s.</summary>
internal sealed class ApplyFunction : SingleTensorFunction<ApplyFunction>
{
    public override string Name => nameof(ApplyFunction);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        Tensor input = (Tensor)vars[0];
        GatePass pass = (GatePass)vars[^1];
        (Tensor? channel, Tensor? spatial) = GatesOf(pass, (Tensor)vars[1], vars.Length == 4 ? (Tensor)vars[2] : null);
        GateSteps.Save(ctx, pass, input, channel!, spatial!, pass.PooledChannels!, pass.PooledPositions!);
        return pass.Apply(input, channel, spatial);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        GatePass pass = GateSteps.PassOf(ctx);
        List<Tensor> saved = ctx.get_saved_variables();
        (Tensor input, Tensor? channel, Tensor? spatial) = (saved[0], saved[1], saved[2]);
        GateSteps.Finish(pass);
        pass.Composed |= is_grad_enabled();
        if (pass.Composed)
        {
            return GateSteps.Composed([.. saved, grad_output], () =>
            {
                (Tensor dx, Tensor? dc, Tensor? ds) = GateDerivatives.Applied(input, channel, spatial, grad_output);
                return channel is not null && spatial is not null ? [dx, dc, ds, null] : [dx, dc ?? ds, null];
            });
        }

        long height = input.size(2), width = input.size(3);
        GateBackward backward = pass.Backward = new GateBackward(pass.View, pass.Parts.Channel?.Reads ?? ChannelReads.Nothing, saved, grad_output);
        if (pass.Parts.Spatial is null)
        {
            Tensor dc = backward.ChannelGradient();
            if (!pass.InputNeedsGradient) GateSteps.Finish(pass);
            return GateSteps.Return(null, dc, null);
        }

        Tensor gradient = backward.SpatialGradient(height, width);
        if (!pass.PooledNeedsGradient) GateSteps.Finish(pass);
        return pass.Parts.Channel is null ? GateSteps.Return(null, gradient, null) : GateSteps.Return(null, null, gradient, null);
    }

    private static (Tensor? Channel, Tensor? Spatial) GatesOf(GatePass pass, Tensor first, Tensor? second)
        => pass.Parts.Channel is null ? (null, first) : (first, second);
}

/// <summary>What the three functions share.</summary>
internal static class GateSteps
{
    private const string Pass = "pass";

    /// <summary>
    /// Gradients handed to libtorch, whose reference counts them from the next step on. Ours are dropped then: nothing tells when exactly
    /// a returned tensor has been taken over.
    /// </summary>
    [ThreadStatic]
    private static List<Tensor>? _handedOver;

    public static void Save(AutogradContext ctx, object pass, params Tensor[] tensors)
    {
        Drop();
        ctx.set_materialize_grads(false);
        ctx.save_for_backward([.. tensors]);
        ctx.save_data(Pass, pass);
    }

    public static GatePass PassOf(AutogradContext ctx) => PassOf<GatePass>(ctx);

    public static TPass PassOf<TPass>(AutogradContext ctx) => (TPass)ctx.get_data(Pass);

    public static List<Tensor> Return(params Tensor?[] gradients)
    {
        Drop();
        _handedOver = [.. gradients.OfType<Tensor>()];
        return gradients.ToList()!;
    }

    /// <summary>Derivatives by libtorch's operations, without their intermediates.</summary>
    public static List<Tensor> Composed(Tensor?[] given, Func<Tensor?[]> derive)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor?[] gradients = derive();
        foreach (Tensor? gradient in gradients) gradient?.MoveToOuterDisposeScope();
        Dispose(given);
        return Return(gradients);
    }

    /// <summary>The last step of a backward pass: nothing of it is needed any more.</summary>
    public static void Finish(GatePass pass, params Tensor[] tensors)
    {
        pass.Backward?.Dispose();
        pass.Backward = null;
        Dispose(tensors);
    }

    public static void Dispose(params Tensor?[] tensors)
    {
        foreach (Tensor? tensor in tensors) tensor?.Dispose();
    }

    private static void Drop()
    {
        if (_handedOver is null) return;
        foreach (Tensor tensor in _handedOver) tensor.Dispose();
        _handedOver = null;
    }
}
