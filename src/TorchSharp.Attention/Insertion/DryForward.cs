using System.Reflection;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Gives libtorch's random numbers back as they were.</summary>
internal sealed class RandomStateScope : IDisposable
{
    private readonly Tensor _state = get_rng_state().DetachFromDisposeScope();
    private bool _committed;

    /// <summary>Lets the numbers drawn meanwhile count.</summary>
    public void Commit() => _committed = true;

    public void Dispose()
    {
        if (!_committed) set_rng_state(_state);
        _state.Dispose();
    }
}

/// <summary>Gives a network's buffers back as they were: a forward may write them in evaluation, too, such as a counter of steps.</summary>
internal sealed class BufferStateScope : IDisposable
{
    private readonly List<(Tensor Buffer, Tensor Copy)> _buffers = [];

    public BufferStateScope(nn.Module model)
    {
        using IDisposable quiet = no_grad();
        foreach ((string _, Tensor buffer) in model.named_buffers())
        {
            if (buffer is { IsInvalid: false }) _buffers.Add((buffer, buffer.clone().DetachFromDisposeScope()));
        }
    }

    public void Dispose()
    {
        using IDisposable quiet = no_grad();
        foreach ((Tensor buffer, Tensor copy) in _buffers)
        {
            // Only where something changed: writing would end a backward pass that is still to come.
            if (!buffer.IsInvalid && !Same(buffer, copy)) buffer.copy_(copy);
            copy.Dispose();
        }
    }

    private static bool Same(Tensor one, Tensor other)
    {
        using DisposeScope scope = NewDisposeScope();
        return one.eq(other).all().item<bool>();
    }
}

/// <summary>How a network is run to see what happens in it.</summary>
/// <param name="Training">In training mode; otherwise in evaluation mode.</param>
/// <param name="Gradients">With gradients.</param>
/// <param name="ExampleNeedsGradient">Whether a gradient is asked for the example.</param>
internal readonly record struct DryMode(bool Training = false, bool Gradients = false, bool ExampleNeedsGradient = false);

/// <summary>Runs a network once to see what happens in it, and leaves no trace: modes, buffers and random numbers are put back.</summary>
internal static class DryForward
{
    /// <summary>A network's <c>call</c> of so many tensors; null where it has none.</summary>
    public static MethodInfo? Call(nn.Module model, int inputs) => model.GetType().GetMethod("call", [.. Enumerable.Repeat(typeof(Tensor), inputs)]);

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
            $"{ModuleNode.NameOf(model)} has no call with {example.Length} tensor{(example.Length == 1 ? "" : "s")}; give one example for each of its inputs, " +
            "or none where widths can be read from weights.", nameof(example));
        using TrainingModes modes = new(model);
        using RandomStateScope kept = new();
        using BufferStateScope buffers = new(model);
        using DisposeScope scope = NewDisposeScope();
        using ReachableTensors held = new(model);
        TrainingModes.Set(model, mode.Training);
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
                $"{ModuleNode.NameOf(model)} does not run on the example of shape {shapes}: {Check.Text(e).Split('\n')[0]} Give an example that it takes in evaluation mode.",
                nameof(example), e);
        }

        look?.Invoke(inputs, [.. ModuleHooks.Tensors(output).Where(tensor => !tensor.IsInvalid)]);
    }
}
