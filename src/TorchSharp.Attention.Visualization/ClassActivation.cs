// Grad-CAM. Selvaraju et al., 2016, arXiv:1610.02391. Grad-CAM++. Chattopadhay et al., 2017, arXiv:1710.11063.
// Score-CAM. Wang et al., 2019, arXiv:1910.01279.
using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>How the channels of a layer are weighted to make a class activation map.</summary>
public enum ClassActivationMethod
{
    /// <summary>Grad-CAM: the weight of a channel is the mean over positions of ∂score/∂activation.</summary>
    GradCam,

    /// <summary>
    /// Grad-CAM++: positive gradients are weighted by position, which finds several objects of one class better.
    /// </summary>
    GradCamPlusPlus,

    /// <summary>
    /// Score-CAM: the weight of a channel is the score of the image that is masked with it. It needs no gradients, but one
    /// forward pass per channel.
    /// </summary>
    ScoreCam,
}

/// <summary>
/// Class activation maps, which show where a layer finds evidence for a class: max(Σ_k w_k · A_k, 0). A is the layer's output,
/// and w comes from one of three methods. Works on every network from images to logits (N, classes) whose layer is reached by
/// <c>call</c>. With a target function it works on networks with other outputs too.
/// </summary>
/// <remarks>
/// The network runs in evaluation mode; the mode of each module is restored, and no parameter gets a gradient. The caller may
/// be in <c>no_grad</c> or in <c>inference_mode</c>. Grad-CAM: w_k = mean over positions of g = ∂s/∂A_k. Grad-CAM++: w_k = Σ
/// α · max(g, 0), α = g² / (2 g² + g³ · Σ A_k), the sum over the positions of the channel (the paper's equation 19 for the
/// score exp(s)). Score-CAM: w = softmax over channels of the score that the image gets when it is multiplied by A_k,
/// enlarged and scaled to 0 … 1; the paper subtracts the score of an empty image first, which the softmax cancels, and a
/// channel that is the same everywhere has no part.
/// </remarks>
public static class ClassActivation
{
    /// <summary>Computes the maps of a batch for a network with logits.</summary>
    /// <param name="model">A network from (N, C, H, W) to (N, classes).</param>
    /// <param name="input">The images, as the network takes them.</param>
    /// <param name="layer">
    /// Name of a module in the network, as <c>named_modules</c> has it, with a map (N, K, h, w) as output: <c>layer4</c>.
    /// </param>
    /// <param name="method">How channels are weighed. Default Grad-CAM.</param>
    /// <param name="classes">A class for each sample; null for the network's own choice.</param>
    /// <param name="channelsAtOnce">Score-CAM: images in one forward pass. Default 32.</param>
    /// <returns>The maps, to be disposed by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// There is no such layer, the network does not run it or runs it more than once, its output is no map, no gradient
    /// reaches it, or a class does not exist.
    /// </exception>
    public static ClassActivationMaps Compute(
        nn.Module<Tensor, Tensor> model, Tensor input, string layer, ClassActivationMethod method = ClassActivationMethod.GradCam,
        IReadOnlyList<long>? classes = null, int channelsAtOnce = 32)
        => Compute(
            model, input, layer,
            new ClassActivationOptions { Method = method, Classes = classes, ChannelsAtOnce = channelsAtOnce });

    /// <summary>Computes the maps of a batch for a network with any output: a segmentation, tokens, one logit.</summary>
    /// <param name="model">A network from (N, C, H, W) to (N, classes), or to what the options' target function takes.</param>
    /// <param name="input">The images, as the network takes them.</param>
    /// <param name="layer">
    /// Name of a module in the network, as <c>named_modules</c> has it, with a map (N, K, h, w) as output, or tokens (N, L, K)
    /// with <see cref="ClassActivationOptions.TokenGrid"/>.
    /// </param>
    /// <param name="options">What to explain, and how.</param>
    /// <returns>The maps, to be disposed by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// There is no such layer, the network does not run it, or runs it more than once and
    /// <see cref="ClassActivationOptions.Call"/> does not say which call, its output is no map, no gradient reaches it, a class
    /// does not exist, or an option is out of range.
    /// </exception>
    public static ClassActivationMaps Compute(
        nn.Module<Tensor, Tensor> model, Tensor input, string layer, ClassActivationOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(layer);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        if (input.dim() != 4 || input.size(0) < 1)
        {
            throw new ArgumentException(
                $"input has shape ({string.Join(", ", input.shape)}); it must be a batch of images, (N, C, H, W).",
                nameof(input));
        }

        WatchedLayer watched = new(Find(model, layer), layer, options);

        using DryRunScope dry = new(model);
        using DisposeScope scope = NewDisposeScope();
        using ReachableTensors held = new(model);

        // enable_grad alone does not lift inference mode, and libtorch ends the process where a gradient is asked for in it.
        bool gradients = options.Method != ClassActivationMethod.ScoreCam;
        using IDisposable? normal = is_inference_mode_enabled() ? inference_mode(false) : null;
        using IDisposable grad = gradients ? enable_grad() : no_grad();
        Tensor images = input.detach().clone();
        Tensor output = watched.Run(model, images, gradients, scope);
        long[] chosen = options.Target is null ? Choose(output, images.size(0), options.Classes) : [];
        Func<Tensor, int, Tensor> target = options.Target ?? ((logits, sample) => logits.select(1, chosen[sample]));
        Tensor scores = Scores(output, images.size(0), target);
        Tensor maps = watched.Maps.detach();
        Tensor weights = gradients
            ? OfGradient(model, images, scores, watched, target, options.Method)
            : OfScores(model, images, maps, target, options.ChannelsAtOnce);
        using IDisposable quiet = no_grad();
        Tensor weighted = weights.unsqueeze(2).unsqueeze(3).mul(maps).sum(1).relu();
        double[] values = [.. scores.detach().to_type(ScalarType.Float64).cpu().data<double>()];
        return new ClassActivationMaps(weighted.DetachFromDisposeScope(), chosen, values);
    }

    private static nn.Module<Tensor, Tensor> Find(nn.Module model, string layer)
    {
        (string name, nn.Module module)[] all = [.. model.named_modules()];
        nn.Module? found = all.FirstOrDefault(pair => pair.name == layer).module;
        return found switch
        {
            nn.Module<Tensor, Tensor> fits => fits,
            null => throw new ArgumentException(
                $"There is no layer '{layer}' in {model.GetName()}. " +
                "It has " +
                $"{string.Join(", ", all.Select(pair => pair.name).Where(name => name.Count(c => c == '.') < 2).Take(40))}.",
                nameof(layer)),
            _ =>
                throw new ArgumentException(
                    $"The layer '{layer}' is a {found.GetName()}, which does not make one tensor of one tensor.", nameof(layer)),
        };
    }

    private static long[] Choose(Tensor logits, long samples, IReadOnlyList<long>? classes)
    {
        if (logits.dim() != 2 || logits.size(0) != samples)
        {
            throw new ArgumentException(
                $"The network makes ({string.Join(", ", logits.shape)}); class activation needs logits, ({samples}, classes), " +
                "or a target function: " +
                "new ClassActivationOptions { Target = ClassActivationTargets.Pixels(1) }.", nameof(logits));
        }

        if (classes is null) return logits.argmax(1).cpu().data<long>().ToArray();
        if (classes.Count != samples)
        {
            throw new ArgumentException($"classes has {classes.Count} entries for {samples} images.", nameof(classes));
        }

        foreach (long one in classes)
        {
            if (one < 0 || one >= logits.size(1))
            {
                throw new ArgumentException(
                    $"classes holds {one}; the network has classes 0 to {logits.size(1) - 1}.", nameof(classes));
            }
        }

        return [.. classes];
    }

    /// <summary>(N): each sample's score.</summary>
    private static Tensor Scores(Tensor output, long samples, Func<Tensor, int, Tensor> target)
    {
        if (output.dim() < 1 || output.size(0) != samples)
        {
            throw new ArgumentException(
                $"The network makes ({string.Join(", ", output.shape)}) of {samples} images; the first size must be {samples}.",
                nameof(output));
        }

        return cat(
            [.. Enumerable.Range(0, (int)samples).Select(sample => Score(output.narrow(0, sample, 1), sample, target))], 0);
    }

    /// <summary>(B): the scores of B outputs that belong to one sample.</summary>
    private static Tensor Score(Tensor output, int sample, Func<Tensor, int, Tensor> target)
    {
        Tensor score = target(output, sample)
            ?? throw new ArgumentException(
                "The target function returned null; it must return one score per output, (B).", nameof(target));
        bool fits = score.dim() == 1 && score.size(0) == output.size(0) && score.is_floating_point();
        return fits ? score : throw new ArgumentException(
            $"The target function made ({string.Join(", ", score.shape)}) in {score.dtype} of " +
            $"({string.Join(", ", output.shape)}); it must return one floating-point score per output, ({output.size(0)}).",
            nameof(target));
    }

    /// <summary>(N, K).</summary>
    private static Tensor OfGradient(
        nn.Module<Tensor, Tensor> model, Tensor images, Tensor scores, WatchedLayer watched, Func<Tensor, int, Tensor> target,
        ClassActivationMethod method)
    {
        using Scalar zero = 0.0.ToScalar(), two = 2.0.ToScalar(), one = 1.0.ToScalar();

        // The second term keeps the layer in the graph where the score does not depend on it:
        // without, libtorch would end the process.
        Tensor total = scores.Total().Plus(watched.Activations.flatten().narrow(0, 0, 1).Total().mul(zero));
        Tensor raw = autograd.grad([total], [watched.Activations])[0];
        if (!raw.count_nonzero().ToBoolean()) CheckReached(model, images, scores, watched, target);
        Tensor gradient = watched.AsMaps(raw);
        if (method == ClassActivationMethod.GradCam) return gradient.mean([2, 3]);

        Tensor square = gradient.Squared();
        Tensor below = square.mul(two).add(watched.Maps.detach().sum([2, 3], keepdim: true).mul(square.mul(gradient)), one);
        Tensor alpha = where(below.eq(zero), zeros_like(square), square.div(below.masked_fill(below.eq(zero), one)));
        return alpha.mul(gradient.relu()).sum([2, 3]);
    }

    /// <summary>
    /// A gradient of zeros is right where a changed layer changes no score. Where it does,
    /// something between cuts the gradient off.
    /// </summary>
    private static void CheckReached(
        nn.Module<Tensor, Tensor> model, Tensor images, Tensor scores, WatchedLayer watched, Func<Tensor, int, Tensor> target)
    {
        using IDisposable quiet = no_grad();
        Tensor changed = Scores(watched.RunChanged(model, images), images.size(0), target);
        if (changed.eq(scores).logical_or(changed.isnan()).all().ToBoolean()) return;
        throw new ArgumentException(
            $"The scores depend on the layer '{watched.Name}', but no gradient reaches it: " +
            "what follows it runs under no_grad(), detaches its input or is not differentiable. " +
            "Name a layer behind that, or use ClassActivationMethod.ScoreCam, which needs no gradient.", "layer");
    }

    /// <summary>(N, K).</summary>
    private static Tensor OfScores(
        nn.Module<Tensor, Tensor> model, Tensor input, Tensor activations, Func<Tensor, int, Tensor> target, int atOnce)
    {
        using Scalar shut = double.NegativeInfinity.ToScalar(), zero = 0.0.ToScalar(), one = 1.0.ToScalar();
        List<Tensor> rows = [];
        for (int n = 0; n < input.size(0); n++)
        {
            Tensor image = input.narrow(0, n, 1);
            List<Tensor> scores = [];
            for (long first = 0; first < activations.size(1); first += atOnce)
            {
                long count = Math.Min(atOnce, activations.size(1) - first);
                using DisposeScope scope = NewDisposeScope();
                using ReachableTensors held = new(model);
                Tensor channels = activations.narrow(0, n, 1).narrow(1, first, count).transpose(0, 1);
                Tensor large = nn.functional.interpolate(
                    channels, size: [input.size(2), input.size(3)], mode: InterpolationMode.Bilinear, align_corners: false);
                Tensor least = large.amin([2, 3], keepdim: true), range = large.amax([2, 3], keepdim: true).sub(least);
                Tensor flat = range.eq(zero);
                Tensor mask = large.sub(least).div(range.masked_fill(flat, one));
                Tensor score = Score(model.call(image.mul(mask)), n, target);
                scores.Add(score.masked_fill(flat.flatten(), shut).MoveToOuterDisposeScope());
            }

            Tensor all = cat(scores, 0);
            rows.Add(where(all.eq(shut).all(), zeros_like(all), all.softmax(0)));
        }

        return stack(rows, 0);
    }
}
