using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Hooks on modules of one to three tensors that return a tensor, in one shape. Each returns what takes the hook away.
/// </summary>
internal static class ForwardHooks
{
    /// <summary>Number of input tensors; 0 where the module is of another shape and cannot be hooked here.</summary>
    public static int Inputs(nn.Module module) => module switch
    {
        nn.Module<Tensor, Tensor> => 1,
        nn.Module<Tensor, Tensor, Tensor> => 2,
        nn.Module<Tensor, Tensor, Tensor, Tensor> => 3,
        _ => 0,
    };

    /// <summary>Sees inputs and output of each call; what it returns replaces the output.</summary>
    public static Action After(nn.Module module, Func<Tensor[], Tensor, Tensor> hook) => module switch
    {
        nn.Module<Tensor, Tensor> one => one.register_forward_hook((_, x, y) => hook([x], y)).remove,
        nn.Module<Tensor, Tensor, Tensor> two => two.register_forward_hook((_, a, b, y) => hook([a, b], y)).remove,
        nn.Module<Tensor, Tensor, Tensor, Tensor> three =>
            three.register_forward_hook((_, a, b, c, y) => hook([a, b, c], y)).remove,
        _ => throw new NotSupportedException($"{module.GetType().Name} cannot be hooked."),
    };

    /// <summary>
    /// Sees the input of each call; what it returns replaces the input. <paramref name="end"/> runs after all hooks on the
    /// output.
    /// </summary>
    public static Action Before(nn.Module<Tensor, Tensor> module, Func<Tensor, Tensor> hook, Action end)
    {
        var first = module.register_forward_pre_hook((_, x) => hook(x));
        var last = module.register_forward_hook(_ => end());
        return () =>
        {
            first.remove();
            last.remove();
        };
    }

    /// <summary>Runs after each call of a module of any shape; null where the module has no calls.</summary>
    public static Action? AfterCall(nn.Module module, Action hook)
    {
        // The hook's type is the same for every number of inputs, the classes that offer it are not.
        object? remover = module.GetType().GetMethod(
            nameof(nn.Module<Tensor, Tensor>.register_forward_hook), [typeof(Action<nn.Module>)])?
            .Invoke(module, [(Action<nn.Module>)(_ => hook())]);
        return remover?.GetType().GetMethod("remove", Type.EmptyTypes)?.CreateDelegate<Action>(remover);
    }
}
