using System.Diagnostics.CodeAnalysis;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace TorchSharp.Attention.Kernels;

// The three steps of a gate as autograd functions: PoolChannelsFunction, PoolPositionsFunction, ApplyFunction. When a second
// derivative is requested (create_graph), grad mode is on during the backward pass, and each step computes by libtorch's
// operations. A step does so, too, in the second backward pass, where its GateBackward is missing.

/// <summary>What the three functions share.</summary>
internal static class GateAutograd
{
    private const string Pass = "pass";
    private const string Tensors = "tensors";

    /// <summary>
    /// Gradients handed to libtorch, whose reference counts them from the next step on. Ours are dropped then: nothing tells when
    /// exactly a returned tensor has been taken over.
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
    /// Runs the backward of a step. An exception that left it would end the process; instead libtorch gets
    /// gradients without dimensions, which no tensor of ours can have, and throws where the caller can catch it.
    /// The message is that of the exception.
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
    public static Tensor Map(GatePass pass, List<Tensor> saved)
        => pass.Norm is null ? saved[0] : WriteNormFunction.apply(saved[0], pass);

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
