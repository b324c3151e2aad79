using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>Calls networks of one to three tensors that return one tensor or a pair.</summary>
internal static class ModelCall
{
    public static IReadOnlyList<Tensor> Run(nn.Module model, IReadOnlyList<Tensor> inputs)
    {
        using ReachableTensors held = new(model);
        return Call(model, inputs);
    }

    private static Tensor[] Call(nn.Module model, IReadOnlyList<Tensor> inputs) => (model, inputs) switch
    {
        (nn.Module<Tensor, Tensor> one, [var x]) => [one.call(x)],
        (nn.Module<Tensor, Tensor, Tensor> two, [var a, var b]) => [two.call(a, b)],
        (nn.Module<Tensor, Tensor, Tensor, Tensor> three, [var a, var b, var c]) => [three.call(a, b, c)],
        (CrossAttention cross, [var map, var context]) => [cross.call(map, context)],
        (MultiHeadAttention heads, [var sequence]) => [heads.call(sequence)],
        (MultiHeadAttention heads, [var query, var key, var value]) => [heads.call(query, key, value)],
        (nn.Module<Tensor, (Tensor, Tensor)> pair, [var x]) => Both(pair.call(x)),
        _ => throw new ArgumentException(
            $"{model.GetName()} cannot be compared with its file: {Signature(model)}, and it was given {inputs.Count} " +
            $"{(inputs.Count == 1 ? "tensor" : "tensors")}. Networks of one to three tensors that return a tensor can, and " +
            "those of one tensor " +
            "that return a pair. " +
            "Wrap it in a class whose forward returns the tensors that the file is to have, or set Verify to false to export " +
            "it unseen.", nameof(inputs)),
    };

    /// <summary>What forward takes and returns, as the module's base class says.</summary>
    private static string Signature(nn.Module model)
    {
        for (Type? type = model.GetType(); type is not null; type = type.BaseType)
        {
            if (!type.IsGenericType || type.DeclaringType != typeof(nn)) continue;
            Type[] arguments = type.GetGenericArguments();
            return $"its forward takes {string.Join(", ", arguments.SkipLast(1).Select(Name))} and returns {Name(arguments[^1])}";
        }

        return "its forward is unknown";
    }

    private static string Name(Type type) => !type.IsGenericType ? type.Name
        : type.Name.StartsWith(nameof(ValueTuple), StringComparison.Ordinal)
            ? $"({string.Join(", ", type.GetGenericArguments().Select(Name))})"
        : $"{type.Name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>";

    private static Tensor[] Both((Tensor First, Tensor Second) pair) => [pair.First, pair.Second];
}
