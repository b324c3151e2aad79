using System.Reflection;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Runs a network once to see what happens in it, and leaves no trace: see <see cref="DryRunScope"/>.</summary>
internal static class DryForward
{
    /// <summary>A network's <c>call</c> of so many tensors; null where it has none.</summary>
    public static MethodInfo? Call(nn.Module model, int inputs)
        => model.GetType().GetMethod("call", [.. Enumerable.Repeat(typeof(Tensor), inputs)]);

    /// <summary>Runs a network on a copy of the example.</summary>
    /// <param name="model">The network.</param>
    /// <param name="example">One tensor for each input.</param>
    /// <param name="mode">How it is run.</param>
    /// <param name="look">Is handed the copy of the example and the tensors among the outputs, while all of them live.</param>
    /// <exception cref="ArgumentException">The network does not take the example; its own exception is inside.</exception>
    public static void Run(nn.Module model, Tensor[] example, DryMode mode = default, Action<Tensor[], Tensor[]>? look = null)
    {
        string shapes = string.Join(", ", example.Select(Check.Shape));
        MethodInfo call = Call(model, example.Length) ?? throw new ArgumentException(
            $"{ModuleNode.NameOf(model)} has no call with {example.Length} tensor{(example.Length == 1 ? "" : "s")}; " +
            "give one example for each of its inputs, " +
            "or none where widths can be read from weights.", nameof(example));
        using DryRunScope dry = new(model, mode.Training);
        using DryRunScope.Pass pass = dry.StartPass();
        using IDisposable gradients = mode.Gradients ? enable_grad() : no_grad();
        Tensor[] inputs = [.. example.Select(tensor => tensor.detach().clone())];
        if (mode.ExampleNeedsGradient)
        {
            foreach (Tensor input in inputs.Where(input => input.is_floating_point())) input.requires_grad = true;
        }

        object? output;
        try
        {
            output = call.Invoke(model, BindingFlags.DoNotWrapExceptions, null, inputs, null);
        }
        catch (Exception e)
        {
            throw new ArgumentException(
                $"{ModuleNode.NameOf(model)} does not run on the example of shape {shapes}: " +
                $"{Check.Text(e).Split('\n')[0]} Give an example that it takes in evaluation mode.",
                nameof(example), e);
        }

        look?.Invoke(inputs, [.. ModuleHooks.Tensors(output).Where(tensor => !tensor.IsInvalid)]);
    }
}
