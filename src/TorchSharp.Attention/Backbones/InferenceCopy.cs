using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// The copy of a network without its batch norms: each norm is folded into the convolution before it, w′ = w · γ / √(σ² + ε) and
/// b′ = (b − μ) · γ / √(σ² + ε) + β for each output channel. Everything else is copied to the last bit.
/// </summary>
internal static class InferenceCopy
{
    /// <summary>Builds the copy. The source's weights, statistics, mode and hooks stay as they are, and so do the random numbers that follow.</summary>
    /// <param name="source">The network.</param>
    /// <param name="create">Builds a network of the same shape whose convolutions have biases in place of batch norms.</param>
    /// <exception cref="InvalidOperationException">The network is such a copy itself, or its values are of several types or on several devices.</exception>
    public static TNetwork Of<TNetwork>(TNetwork source, Func<TNetwork> create)
        where TNetwork : FeatureNetwork
    {
        if (source.IsFused)
        {
            throw new InvalidOperationException(
                $"This {source.GetName()} is fused already: {nameof(FeatureNetwork.IsFused)} is true. Fuse the network that it was made from.");
        }

        (ScalarType type, Device device) = NetworkCopy.Place(source, "fusing");
        using IDisposable quiet = no_grad();

        // The scope also ends what the constructors of layers leave behind: a convolution with a bias leaves one tensor.
        using DisposeScope scope = NewDisposeScope();
        TNetwork copy = NetworkCopy.Build(create);
        try
        {
            copy.to(type);
            copy.to(device);
            Fill(copy, source);
            foreach (Parameter parameter in copy.parameters()) parameter.requires_grad = false;
            copy.eval();
            AttentionStart.Keep(copy);
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    private static void Fill(nn.Module copy, nn.Module source)
    {
        Dictionary<string, Tensor> own = Values(copy);
        foreach ((string name, Tensor value) in Values(source)) own[name].copy_(value);

        Dictionary<string, nn.Module> children = copy.named_children().ToDictionary(child => child.name, child => child.module);
        (nn.Module Copy, nn.Module Source) previous = (copy, source);
        foreach ((string name, nn.Module child) in source.named_children())
        {
            if (children.TryGetValue(name, out nn.Module? same)) Fill(same, child);
            else Fold((BatchNorm2d)child, previous.Source, previous.Copy);
            if (same is not null) previous = (same, child);
        }
    }

    /// <summary>What belongs to a module itself and not to its children.</summary>
    private static Dictionary<string, Tensor> Values(nn.Module module)
    {
        Dictionary<string, Tensor> values = [];
        foreach ((string name, Parameter parameter) in module.named_parameters(recurse: false)) values.Add(name, parameter);
        foreach ((string name, Tensor buffer) in module.named_buffers(recurse: false)) values.Add(name, buffer);
        return values;
    }

    /// <summary>Folds a norm and the convolution that stands before it into the copy's convolution. Computed in float64, rounded once.</summary>
    private static void Fold(BatchNorm2d norm, nn.Module convolution, nn.Module folded)
    {
        Dictionary<string, Tensor> given = Values(convolution), result = Values(folded);
        using Scalar epsilon = norm.eps.ToScalar();
        Tensor scale = Exact(norm.weight!).div(Exact(norm.running_var!).Plus(epsilon).sqrt());
        int outputs = convolution is ConvTranspose2d ? 1 : 0;
        long[] shape = [1, 1, 1, 1];
        shape[outputs] = -1;
        Tensor shift = Exact(norm.running_mean!).neg();
        if (given.TryGetValue("bias", out Tensor? bias)) shift = shift.Plus(Exact(bias));
        result["weight"].copy_(Exact(given["weight"]).mul(scale.view(shape)));
        result["bias"].copy_(shift.mul(scale).Plus(Exact(norm.bias!)));
    }

    private static Tensor Exact(Tensor tensor) => tensor.cpu().to_type(ScalarType.Float64);
}
