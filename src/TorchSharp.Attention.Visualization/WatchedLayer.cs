using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>
/// The layer of a network that class activation explains: its output in one forward pass, as a leaf that the scores depend on.
/// </summary>
internal sealed class WatchedLayer(nn.Module<Tensor, Tensor> layer, string name, ClassActivationOptions options)
{
    private static readonly Scalar LittleMore = 1.01.ToScalar();

    private Tensor? _activations;

    public string Name => name;

    /// <summary>The layer's output as the layer makes it.</summary>
    public Tensor Activations => _activations!;

    /// <summary>(N, K, h, w).</summary>
    public Tensor Maps => AsMaps(Activations);

    /// <summary>The network's output. Gradients go no further down than the layer.</summary>
    public Tensor Run(nn.Module<Tensor, Tensor> model, Tensor images, bool gradients, DisposeScope scope)
    {
        (Tensor output, int calls) = Replacing(model, images, options.Call ?? 0, made =>
        {
            if (gradients && (is_inference_mode_enabled() || !is_grad_enabled()))
            {
                throw new ArgumentException(
                    $"The network runs the layer '{name}' under no_grad() or inference_mode(), so no gradient reaches it. " +
                    "Name a layer outside of that part, " +
                    "or use ClassActivationMethod.ScoreCam, which needs no gradient.", nameof(layer));
            }

            // The hook runs in the scope of the layer's parent, which ends before the leaf is needed. Attach, because
            // MoveToOtherDisposeScope loses a tensor that is in that scope already.
            Tensor leaf = made.detach().clone();
            scope.Attach(leaf);
            _activations = gradients ? leaf.requires_grad_() : leaf;

            // What follows may write over what it gets: a ReLU in place does.
            return leaf.clone();
        });
        Check(calls, images.size(0));
        return output;
    }

    /// <summary>The network's output where the layer's output is one hundredth larger.</summary>
    public Tensor RunChanged(nn.Module<Tensor, Tensor> model, Tensor images)
        => Replacing(model, images, options.Call ?? 0, made => made.mul(LittleMore)).Output;

    /// <summary>Maps of what has the shape of the layer's output.</summary>
    public Tensor AsMaps(Tensor values)
    {
        if (options.TokenGrid is not { } grid) return values;
        long tokens = (long)grid.Height * grid.Width;
        return values.narrow(
            1, values.size(1) - tokens, tokens).transpose(1, 2).reshape(values.size(0), values.size(2), grid.Height, grid.Width);
    }

    private (Tensor Output, int Calls) Replacing(
        nn.Module<Tensor, Tensor> model, Tensor images, int call, Func<Tensor, Tensor> replace)
    {
        int calls = 0;
        var hook = layer.register_forward_hook((_, _, output) => calls++ == call ? replace(output) : output);
        try
        {
            return (model.call(images), calls);
        }
        finally
        {
            hook.remove();
        }
    }

    private void Check(int calls, long samples)
    {
        if (calls == 0)
        {
            throw new ArgumentException(
                $"The network does not reach the layer '{name}', or runs it by forward() instead of call(), which hides it " +
                "from hooks.", nameof(layer));
        }

        if (options.Call is null && calls > 1)
        {
            throw new ArgumentException(
                $"The network runs the layer '{name}' {calls} times in one pass. Say which call to explain: " +
                $"new ClassActivationOptions {{ Call = 0 }}, up to {calls - 1}.", nameof(layer));
        }

        if (options.Call >= calls)
        {
            throw new ArgumentException(
                $"Call is {options.Call}; the network runs the layer '{name}' {calls} time{(calls == 1 ? "" : "s")}, counted " +
                "from 0.", nameof(layer));
        }

        string shape = string.Join(", ", Activations.shape);
        if (options.TokenGrid is { } grid)
        {
            bool fits = Activations.dim() == 3 && Activations.size(0) == samples
                && Activations.size(1) >= (long)grid.Height * grid.Width;
            if (!fits)
            {
                throw new ArgumentException(
                    $"The layer '{name}' makes ({shape}); with TokenGrid {grid} it must make tokens, ({samples}, at least " +
                    $"{(long)grid.Height * grid.Width}, channels).", nameof(layer));
            }
        }
        else if (Activations.dim() != 4 || Activations.size(0) != samples)
        {
            throw new ArgumentException(
                $"The layer '{name}' makes ({shape}); it must make maps, ({samples}, K, h, w). " +
                "For tokens set ClassActivationOptions.TokenGrid.", nameof(layer));
        }
    }
}
