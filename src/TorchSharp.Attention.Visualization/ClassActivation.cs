// Grad-CAM. Selvaraju et al., 2016, arXiv:1610.02391. Grad-CAM++. Chattopadhay et al., 2017, arXiv:1710.11063. Score-CAM. Wang et al., 2019,
// arXiv:1910.01279.
using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>How the channels of a layer are weighed into a class activation map.</summary>
public enum ClassActivationMethod
{
    /// <summary>Grad-CAM: each channel by the mean over positions of ∂score/∂activation.</summary>
    GradCam,

    /// <summary>Grad-CAM++: positive gradients weighed by position, which finds several objects of a class better.</summary>
    GradCamPlusPlus,

    /// <summary>Score-CAM: each channel by the score of the image seen through it; no gradients, one forward pass a channel.</summary>
    ScoreCam,
}

/// <summary>Class activation maps of a batch.</summary>
/// <param name="Maps">(N, h, w) in the layer's resolution, not negative, not scaled; owned by this object.</param>
/// <param name="Classes">The class that each sample's map explains.</param>
/// <param name="Scores">The network's logit of that class.</param>
public sealed record ClassActivationMaps(Tensor Maps, IReadOnlyList<long> Classes, IReadOnlyList<double> Scores) : IDisposable
{
    /// <summary>Disposes the maps.</summary>
    public void Dispose() => Maps.Dispose();
}

/// <summary>
/// Where a layer finds what speaks for a class: max(Σ_k w_k · A_k, 0), A the layer's output, (N, K, h, w), w by one of three methods. Works on every
/// network from images to logits, (N, classes), whose layer is reached by <c>call</c>.
/// </summary>
/// <remarks>
/// The network runs in evaluation mode; the mode of each module is restored, and no parameter gets a gradient. Grad-CAM: w_k = mean over positions of
/// g = ∂s/∂A_k. Grad-CAM++: w_k = Σ α · max(g, 0), α = g² / (2 g² + g³ · Σ A_k), the sum over the positions of the channel (the paper's equation 19 for the score exp(s)). Score-CAM: w = softmax over channels of the
/// logit that the image gets when it is multiplied by A_k, enlarged and scaled to 0 … 1; the paper subtracts the logit of an empty image first, which
/// the softmax cancels, and a channel that is the same everywhere has no part.
/// </remarks>
public static class ClassActivation
{
    /// <summary>Computes the maps of a batch.</summary>
    /// <param name="model">A network from (N, C, H, W) to (N, classes).</param>
    /// <param name="input">The images, as the network takes them.</param>
    /// <param name="layer">Name of a module in the network, as <c>named_modules</c> has it, with a map (N, K, h, w) as output: <c>layer4</c>.</param>
    /// <param name="method">How channels are weighed. Default Grad-CAM.</param>
    /// <param name="classes">A class for each sample; null for the network's own choice.</param>
    /// <param name="channelsAtOnce">Score-CAM: images in one forward pass. Default 32.</param>
    /// <returns>The maps, to be disposed by the caller.</returns>
    /// <exception cref="ArgumentException">There is no such layer, it is not reached, its output is no map, or a class does not exist.</exception>
    public static ClassActivationMaps Compute(
        nn.Module<Tensor, Tensor> model, Tensor input, string layer, ClassActivationMethod method = ClassActivationMethod.GradCam,
        IReadOnlyList<long>? classes = null, int channelsAtOnce = 32)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(layer);
        if (!Enum.IsDefined(method)) throw new ArgumentOutOfRangeException(nameof(method), method, $"method is {method}; ClassActivationMethod has no such value.");
        if (channelsAtOnce < 1) throw new ArgumentOutOfRangeException(nameof(channelsAtOnce), channelsAtOnce, $"channelsAtOnce is {channelsAtOnce}; it must be at least 1.");
        if (input.dim() != 4 || input.size(0) < 1) throw new ArgumentException($"input has shape ({string.Join(", ", input.shape)}); it must be a batch of images, (N, C, H, W).", nameof(input));
        nn.Module<Tensor, Tensor> watched = Find(model, layer);

        using EvaluationMode mode = new(model);
        using DisposeScope scope = NewDisposeScope();
        using HeldTensors held = new(model);
        bool gradients = method != ClassActivationMethod.ScoreCam;
        using IDisposable grad = gradients ? enable_grad() : no_grad();
        (Tensor logits, Tensor activations) = Run(model, watched, layer, input.detach(), gradients, scope);
        long[] chosen = Choose(logits, classes);
        Tensor index = tensor(chosen, device: logits.device).unsqueeze(1);
        Tensor scores = logits.gather(1, index).squeeze(1);
        Tensor weights = gradients ? OfGradient(scores, activations, method) : OfScores(model, input.detach(), activations.detach(), index, channelsAtOnce);
        using IDisposable quiet = no_grad();
        Tensor maps = weights.unsqueeze(2).unsqueeze(3).mul(activations.detach()).sum(1).relu();
        double[] values = [.. scores.detach().to_type(ScalarType.Float64).cpu().data<double>()];
        return new ClassActivationMaps(maps.DetachFromDisposeScope(), chosen, values);
    }

    private static nn.Module<Tensor, Tensor> Find(nn.Module model, string layer)
    {
        (string name, nn.Module module)[] all = [.. model.named_modules()];
        nn.Module? found = all.FirstOrDefault(pair => pair.name == layer).module;
        return found switch
        {
            nn.Module<Tensor, Tensor> fits => fits,
            null => throw new ArgumentException(
                $"There is no layer '{layer}' in {model.GetName()}. It has {string.Join(", ", all.Select(pair => pair.name).Where(name => name.Count(c => c == '.') < 2).Take(40))}.", nameof(layer)),
            _ => throw new ArgumentException($"The layer '{layer}' is a {found.GetName()}, which does not make one tensor of one tensor.", nameof(layer)),
        };
    }

    /// <summary>The logits, and the layer's output as a leaf that they depend on, so that no gradient goes further down than needed.</summary>
    private static (Tensor Logits, Tensor Activations) Run(nn.Module<Tensor, Tensor> model, nn.Module<Tensor, Tensor> layer, string name, Tensor input, bool gradients, DisposeScope scope)
    {
        Tensor? activations = null;
        var hook = layer.register_forward_hook((_, _, output) =>
        {
            // The hook runs in the scope of the layer's parent, which ends before the leaf is needed. Attach, because MoveToOtherDisposeScope loses a
            // tensor that is in that scope already.
            Tensor leaf = output.detach().clone();
            scope.Attach(leaf);
            activations = gradients ? leaf.requires_grad_() : leaf;

            // What follows may write over what it gets: a ReLU in place does.
            return leaf.clone();
        });
        Tensor logits;
        try
        {
            logits = model.call(input);
        }
        finally
        {
            hook.remove();
        }

        if (activations is null)
        {
            throw new ArgumentException($"The network does not reach the layer '{name}', or runs it by forward() instead of call(), which hides it from hooks.", nameof(layer));
        }

        if (activations.dim() != 4) throw new ArgumentException($"The layer '{name}' makes ({string.Join(", ", activations.shape)}); it must make maps, (N, K, h, w).", nameof(layer));
        if (logits.dim() != 2 || logits.size(0) != input.size(0) || activations.size(0) != input.size(0))
        {
            throw new ArgumentException($"The network makes ({string.Join(", ", logits.shape)}); class activation needs logits, ({input.size(0)}, classes).", nameof(model));
        }

        return (logits, activations);
    }

    private static long[] Choose(Tensor logits, IReadOnlyList<long>? classes)
    {
        if (classes is null) return logits.argmax(1).cpu().data<long>().ToArray();
        if (classes.Count != logits.size(0)) throw new ArgumentException($"classes has {classes.Count} entries for {logits.size(0)} images.", nameof(classes));
        foreach (long one in classes)
        {
            if (one < 0 || one >= logits.size(1)) throw new ArgumentException($"classes holds {one}; the network has classes 0 to {logits.size(1) - 1}.", nameof(classes));
        }

        return [.. classes];
    }

    /// <summary>(N, K).</summary>
    private static Tensor OfGradient(Tensor scores, Tensor activations, ClassActivationMethod method)
    {
        using Scalar zero = 0.0.ToScalar(), two = 2.0.ToScalar(), one = 1.0.ToScalar();

        // The second term keeps the layer in the graph where the score does not depend on it: without, libtorch would end the process.
        Tensor total = scores.sum().add(activations.flatten().narrow(0, 0, 1).sum().mul(zero), one);
        Tensor gradient = autograd.grad([total], [activations])[0];
        if (method == ClassActivationMethod.GradCam) return gradient.mean([2, 3]);

        Tensor square = gradient.square();
        Tensor below = square.mul(two).add(activations.detach().sum([2, 3], keepdim: true).mul(square.mul(gradient)), one);
        Tensor alpha = where(below.eq(zero), zeros_like(square), square.div(below.masked_fill(below.eq(zero), one)));
        return alpha.mul(gradient.relu()).sum([2, 3]);
    }

    /// <summary>(N, K).</summary>
    private static Tensor OfScores(nn.Module<Tensor, Tensor> model, Tensor input, Tensor activations, Tensor classes, int atOnce)
    {
        using Scalar shut = double.NegativeInfinity.ToScalar(), zero = 0.0.ToScalar(), one = 1.0.ToScalar();
        List<Tensor> rows = [];
        for (long n = 0; n < input.size(0); n++)
        {
            Tensor image = input.narrow(0, n, 1);
            List<Tensor> scores = [];
            for (long first = 0; first < activations.size(1); first += atOnce)
            {
                long count = Math.Min(atOnce, activations.size(1) - first);
                using DisposeScope scope = NewDisposeScope();
                using HeldTensors held = new(model);
                Tensor channels = activations.narrow(0, n, 1).narrow(1, first, count).transpose(0, 1);
                Tensor large = nn.functional.interpolate(channels, size: [input.size(2), input.size(3)], mode: InterpolationMode.Bilinear, align_corners: false);
                Tensor least = large.amin([2, 3], keepdim: true), range = large.amax([2, 3], keepdim: true).sub(least);
                Tensor flat = range.eq(zero);
                Tensor mask = large.sub(least).div(range.masked_fill(flat, one));
                Tensor logits = model.call(image.mul(mask)).gather(1, classes.narrow(0, n, 1).expand(count, 1)).squeeze(1);
                scores.Add(logits.masked_fill(flat.flatten(), shut).MoveToOuterDisposeScope());
            }

            Tensor all = cat(scores, 0);
            rows.Add(where(all.eq(shut).all(), zeros_like(all), all.softmax(0)));
        }

        return stack(rows, 0);
    }

    /// <summary>Evaluation mode, and afterwards each module's own again.</summary>
    internal sealed class EvaluationMode : IDisposable
    {
        private readonly (nn.Module Module, bool Training)[] _modes;

        public EvaluationMode(nn.Module model)
        {
            _modes = [.. model.named_modules().Select(pair => pair.module).Prepend(model).Distinct().Select(module => (module, module.training))];
            model.eval();
        }

        public void Dispose()
        {
            // Parents stand before their children, so what a parent sets for its children is put right after.
            foreach ((nn.Module module, bool training) in _modes) module.train(training);
        }
    }
}
