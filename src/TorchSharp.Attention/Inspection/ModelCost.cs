using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Implemented by modules whose forward has matrix products that are not modules of their own, such as q kᵀ of self-attention, so
/// that <see cref="ModelCost"/> counts them.
/// </summary>
public interface IFunctionalCost
{
    /// <summary>Multiply-accumulates of those products for an input, the batch included; child modules count themselves.</summary>
    /// <param name="input">The module's input; only its shape matters.</param>
    long MultiplyAccumulates(Tensor input);
}

/// <summary>What a network costs: parameters, and multiply-accumulates of convolutions and matrix products.</summary>
/// <param name="Parameters">Number of trainable and frozen parameters.</param>
/// <param name="MultiplyAccumulates">
/// Strict count: one for each multiplication of a weight (or of two activations in a matrix product) in convolutions, linear layers and
/// <see cref="IFunctionalCost"/> products. Biases, norms, activations, pooling and element-wise products count nothing.
/// </param>
public sealed record ModelCost(long Parameters, long MultiplyAccumulates)
{
    /// <summary>Counts by running the network once in evaluation mode on zeros; the mode of each of its modules is restored.</summary>
    /// <param name="model">A network from tensor to tensor.</param>
    /// <param name="inputShape">Shape of the input, the batch included: <c>[1, 3, 224, 224]</c>.</param>
    /// <exception cref="ArgumentException">The shape is empty or holds a number below 1.</exception>
    public static ModelCost Measure(nn.Module<Tensor, Tensor> model, params long[] inputShape)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(inputShape);
        if (inputShape.Length == 0 || inputShape.Any(size => size < 1))
        {
            throw new ArgumentException(
                $"inputShape is [{string.Join(", ", inputShape)}]; give every size of the input, the batch first, each at least 1.", nameof(inputShape));
        }

        long total = 0;
        List<Action> removals = [];
        nn.Module[] modules = [.. model.named_modules().Select(child => child.module).Prepend(model).Distinct()];
        bool[] training = [.. modules.Select(module => module.training)];
        Parameter? first = model.parameters().FirstOrDefault();
        try
        {
            foreach (nn.Module module in modules)
            {
                if (HookOfSeveralInputs(module, count => total += count) is { } remove)
                {
                    removals.Add(remove);
                    continue;
                }

                Func<Tensor, Tensor, long>? count = Counter(module);
                if (count is null || module is not nn.Module<Tensor, Tensor> hooked) continue;
                var hook = hooked.register_forward_hook((_, input, output) =>
                {
                    total += count(input, output);
                    return output;
                });
                removals.Add(hook.remove);
            }

            model.eval();
            using (no_grad())
            using (NewDisposeScope())
            {
                model.call(zeros(inputShape, dtype: first?.dtype ?? ScalarType.Float32, device: first?.device));
            }
        }
        finally
        {
            foreach (Action removal in removals) removal();
            // Parents stand before their children, so what a parent sets for its children is put right after.
            for (int i = 0; i < modules.Length; i++) modules[i].train(training[i]);
        }

        return new ModelCost(model.parameters().Sum(parameter => parameter.numel()), total);
    }

    private static Action? HookOfSeveralInputs(nn.Module module, Action<long> add)
    {
        switch (module)
        {
            case MultiHeadAttention sequences:
                return sequences.register_forward_hook((_, query, key, value, _, _, output) =>
                {
                    add(sequences.MultiplyAccumulates(query, key, value));
                    return output;
                }).remove;
            case CrossAttention cross:
                return cross.register_forward_hook((_, input, context, _, output) =>
                {
                    add(cross.MultiplyAccumulates(input, context));
                    return output;
                }).remove;
            default:
                return null;
        }
    }

    private static Func<Tensor, Tensor, long>? Counter(nn.Module module) => module switch
    {
        Conv2d conv => (_, output) => output.numel() * (conv.weight!.numel() / conv.weight.size(0)),
        Conv1d conv => (_, output) => output.numel() * (conv.weight!.numel() / conv.weight.size(0)),
        Conv3d conv => (_, output) => output.numel() * (conv.weight!.numel() / conv.weight.size(0)),
        ConvTranspose1d conv => (input, _) => input.numel() * (conv.weight!.numel() / conv.weight.size(0)),
        ConvTranspose2d conv => (input, _) => input.numel() * (conv.weight!.numel() / conv.weight.size(0)),
        ConvTranspose3d conv => (input, _) => input.numel() * (conv.weight!.numel() / conv.weight.size(0)),
        Linear linear => (_, output) => output.numel() * linear.weight!.size(1),
        IFunctionalCost functional => (input, _) => functional.MultiplyAccumulates(input),
        _ => null,
    };
}
