using System.Diagnostics.CodeAnalysis;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

// The three steps of a gate as autograd functions. When a second derivative is requested (create_graph), grad mode is on
// during the backward pass, and each step computes by libtorch's operations. A step does so, too, in the second backward pass,
// where its GateBackward is missing.

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
            return GateAutograd.Composed([.. saved, grad_output], () => [GateDerivatives.PooledChannels(GateAutograd.Map(pass, saved), saved[1], grad_output, reads), null]);
        }

        pass.Derived?.Add(KernelCheck.Derive(() => [GateDerivatives.PooledChannels(GateAutograd.Map(pass, saved), saved[1], grad_output, reads)]));
        Tensor gradient = pass.Backward.InputGradient(grad_output);
        pass.NormGradients = pass.Backward.NormGradients;
        pass.CheckInputGradient(saved[0], gradient);
        GateAutograd.Finish(pass, [.. saved, grad_output]);
        return GateAutograd.Return(gradient, null);
    });
}

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
                (Tensor dx, Tensor? dc) = GateDerivatives.PooledPositions(GateAutograd.Map(pass, saved), gated ? saved[1] : null, saved[2], grad_output);
                return [dx, dc, null];
            });
        }

        pass.Derived?.Add(KernelCheck.Derive(() =>
        {
            (Tensor dx, Tensor? dc) = GateDerivatives.PooledPositions(GateAutograd.Map(pass, saved), gated ? saved[1] : null, saved[2], grad_output);
            return [dx, dc];
        }));
        backward.TakePositions(grad_output);
        Tensor? channel = gated ? backward.ChannelGradient() : null;
        Tensor? input = !gated && pass.InputNeedsGradient ? backward.InputGradient(null) : null;
        if (pass.Derived is { } derived) KernelCheck.Same($"The gradient of the channel gate of {pass.Name}", saved[0], derived.Channel, channel);
        pass.CheckInputGradient(saved[0], input);
        Tensor[] done = [.. saved, grad_output];
        if (gated && pass.InputNeedsGradient) GateAutograd.Dispose(done);
        else GateAutograd.Finish(pass, done);
        return GateAutograd.Return(input, channel, null);
    });
}

/// <summary>
/// (x, c or null, s or null, residual or null, pass) to y = x · c · s, or to the end of a residual block, y = max(x · c · s + residual, 0).
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
        GateAutograd.Save(ctx, pass, vars, input, channel!, spatial!, pass.PooledChannels!, pass.PooledPositions!, end!, pass.NormValues!);
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
        GateBackward backward = pass.Backward = new GateBackward(pass.View, pass.Parts.Channel?.Statistics ?? ChannelStatistics.Nothing, saved, grad_output);
        bool spatial = pass.Parts.Spatial is not null;
        Tensor gradient = spatial ? backward.SpatialGradient(height, width) : backward.ChannelGradient();
        Tensor? residual = pass.ResidualNeedsGradient ? backward.ResidualGradient() : null;
        if (derived is not null)
        {
            KernelCheck.Same($"The gradient of the {(spatial ? "spatial" : "channel")} gate of {pass.Name}", map!, spatial ? derived[2] : derived[1], gradient);
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

/// <summary>A pass whose backward hands something from step to step.</summary>
internal interface IBackwardPass
{
    /// <summary>Disposes it.</summary>
    void Forget();
}

/// <summary>What the three functions share.</summary>
internal static class GateAutograd
{
    private const string Pass = "pass";
    private const string Tensors = "tensors";

    /// <summary>
    /// Gradients handed to libtorch, whose reference counts them from the next step on. Ours are dropped then: nothing tells when exactly
    /// a returned tensor has been taken over.
    /// </summary>
    [ThreadStatic]
    private static List<Tensor>? _handedOver;

    /// <summary>What the backward of a step needs; <paramref name="arguments"/> are those of the step, the pass last.</summary>
    public static void Save(AutogradContext ctx, object pass, object[] arguments, params Tensor[] tensors)
    {
        Drop();
        BackwardFailure.Forget();
        ctx.set_materialize_grads(false);
        ctx.save_for_backward([.. tensors]);
        ctx.save_data(Pass, pass);
        ctx.save_data(Tensors, Array.ConvertAll(arguments, argument => argument is Tensor));
    }

    /// <summary>
    /// Runs the backward of a step. An exception that left it would end the process; instead libtorch gets gradients without dimensions, which no tensor
    /// of ours can have, and throws where the caller can catch it. The message is that of the exception.
    /// </summary>
    [SuppressMessage("Design", "CA1031", Justification = "Any exception would end the process.")]
    public static List<Tensor> Guarded<TPass>(AutogradContext ctx, Func<TPass, List<Tensor>> backward)
        where TPass : class, IBackwardPass
    {
        TPass pass = (TPass)ctx.get_data(Pass);
        try
        {
            List<Tensor> gradients = backward(pass);
            KernelCheck.Verify();
            return gradients;
        }
        catch (Exception exception)
        {
            BackwardFailure.Report(exception);
            pass.Forget();
            return Return(Array.ConvertAll((bool[])ctx.get_data(Tensors), isTensor => isTensor ? MapView.New([]) : null));
        }
    }

    /// <summary>The map that a step saved, for libtorch's operations: behind a deferred norm it is written for them.</summary>
    public static Tensor Map(GatePass pass, List<Tensor> saved) => pass.Norm is null ? saved[0] : WriteNormFunction.apply(saved[0], pass);

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
    public static void Finish(IBackwardPass pass, params Tensor[] tensors)
    {
        pass.Forget();
        Dispose(tensors);
    }

    public static void Dispose(params Tensor?[] tensors)
    {
        foreach (Tensor? tensor in tensors) tensor?.Dispose();
    }

    /// <summary>Lets the gradients go that the last step of this thread handed to libtorch, which has them by now.</summary>
    public static void Drop()
    {
        if (_handedOver is null) return;
        foreach (Tensor tensor in _handedOver) tensor.Dispose();
        _handedOver = null;
    }
}
