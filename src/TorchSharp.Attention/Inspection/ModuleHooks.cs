using System.Collections;
using System.Linq.Expressions;
using System.Reflection;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Watches modules of any signature. TorchSharp types a hook by the inputs and the output of its module; here the typed delegate
/// is made from the module's own type, so that modules of two inputs, of tuples and of users' types are watched alike.
/// </summary>
internal sealed class ModuleHooks : IDisposable
{
    private readonly List<Action> _removals = [];

    /// <summary>Whether the module has a call that can be watched; containers that are lists have none.</summary>
    public static bool CanWatch(nn.Module module) => Hookable(module.GetType()) is not null;

    /// <summary>Calls back right before a module's forward, and right after it.</summary>
    public void Around(nn.Module module, Action<nn.Module> before, Action<nn.Module> after)
    {
        Type hookable = Hookable(module.GetType())!;
        Register(module, hookable, "register_forward_pre_hook", typeof(Action<nn.Module>), before);
        Register(module, hookable, "register_forward_hook", typeof(Action<nn.Module>), after);
    }

    /// <summary>Calls back right before a module's forward, and right after it with what went in and came out.</summary>
    public void Around(nn.Module module, Action<nn.Module> before, Action<nn.Module, object?[], object?> after)
    {
        Type hookable = Hookable(module.GetType())!, type = hookable.GetGenericArguments()[1];
        Register(module, hookable, "register_forward_pre_hook", typeof(Action<nn.Module>), before);
        Register(module, hookable, "register_forward_hook", type, Typed(type, after));
    }

    /// <summary>
    /// All tensors in what a module takes or returns: alone, in tuples, in lists, as values of dictionaries. A tensor without a
    /// handle is none: TorchSharp's <c>nn.MultiheadAttention</c> returns one in place of the weights that nobody asked for.
    /// </summary>
    public static IEnumerable<Tensor> Tensors(object? value) => value switch
    {
        Tensor { IsInvalid: true } => [],
        Tensor tensor => [tensor],
        ITuple tuple => Enumerable.Range(0, tuple.Length).SelectMany(i => Tensors(tuple[i])),
        string => [],
        IDictionary map => map.Values.Cast<object?>().SelectMany(Tensors),
        IEnumerable list => list.Cast<object?>().SelectMany(Tensors),
        _ => [],
    };

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Action removal in _removals) removal();
        _removals.Clear();
    }

    /// <summary>The class of a module that keeps its hooks; null where it has no call.</summary>
    public static Type? Hookable(Type module)
    {
        Type? type = module;
        while (type is not null && !(type.IsGenericType && type.GetGenericTypeDefinition() == typeof(nn.HookableModule<,>)))
        {
            type = type.BaseType;
        }

        return type;
    }

    /// <summary>(module, input…, output) => { after(module, [input…], output); return output; }</summary>
    private static Delegate Typed(Type type, Action<nn.Module, object?[], object?> after)
    {
        ParameterExpression[] parameters = [
            .. type.GetMethod("Invoke")!.GetParameters().Select(p => Expression.Parameter(p.ParameterType))];
        ParameterExpression output = parameters[^1];
        Expression inputs = Expression.NewArrayInit(
            typeof(object), parameters[1..^1].Select(parameter => Expression.Convert(parameter, typeof(object))));
        Expression call = Expression.Invoke(
            Expression.Constant(after), Expression.Convert(parameters[0], typeof(nn.Module)), inputs,
            Expression.Convert(output, typeof(object)));
        return Expression.Lambda(type, Expression.Block(call, output), parameters).Compile(preferInterpretation: true);
    }

    private void Register(nn.Module module, Type hookable, string method, Type type, Delegate hook)
    {
        MethodInfo register = hookable.GetMethod(method, [type])!;
        object remover = register.Invoke(module, [hook])!;
        MethodInfo remove = remover.GetType().GetMethod("remove", Type.EmptyTypes)!;
        _removals.Add(() => remove.Invoke(remover, null));
    }
}
