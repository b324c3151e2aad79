using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// The copy of a network without its batch norms: each norm is folded into the convolution before it, w′ = w · γ / √(σ² + ε) and
/// b′ = (b − μ) · γ / √(σ² + ε) + β for each output channel. Everything else is copied to the last bit. Attention that was
/// inserted is carried along; a norm that such an attention stands in front of stays a norm.
/// </summary>
internal sealed class InferenceCopy
{
    private readonly ScalarType _type;
    private readonly Device _device;
    private readonly string _network;
    private readonly HashSet<nn.Module> _inserted = new(ReferenceEqualityComparer.Instance);

    // What stands for each module of the source in the copy, in the source's order: for a folded norm its convolution.
    private readonly List<(nn.Module Source, nn.Module Copy, bool InSequence)> _pairs = [];
    private readonly Dictionary<nn.Module, AttentionModule> _attentions = new(ReferenceEqualityComparer.Instance);

    private InferenceCopy(FeatureNetwork source, ScalarType type, Device device)
    {
        (_network, _type, _device) = (source.GetName(), type, device);
        foreach (nn.Module module in source.modules().Prepend(source))
        {
            (IReadOnlyList<AttentionModule> before, IReadOnlyList<AttentionModule> after) = HookedModule.Around(module);
            _inserted.UnionWith(before);
            _inserted.UnionWith(after);
        }
    }

    /// <summary>
    /// Builds the copy. The source's weights, statistics, mode and hooks stay as they are, and so do the random numbers that
    /// follow.
    /// </summary>
    /// <param name="source">The network.</param>
    /// <param name="create">Builds a network of the same shape whose convolutions have biases in place of batch norms.</param>
    /// <exception cref="InvalidOperationException">
    /// The network is such a copy itself, its values are of several types or on several devices, or it has a module that neither
    /// its options nor an insertion put there.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The network was disposed.</exception>
    public static TNetwork Of<TNetwork>(TNetwork source, Func<TNetwork> create)
        where TNetwork : FeatureNetwork
    {
        if (source.IsFused)
        {
            throw new InvalidOperationException(
                $"This {source.GetName()} is fused already: {nameof(FeatureNetwork.IsFused)} is true. " +
                "Fuse the network that it was made from.");
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
            InferenceCopy filling = new(source, type, device);
            filling.Fill(copy, source, inSequence: false);
            filling.Insert();
            foreach (Parameter parameter in copy.parameters()) parameter.requires_grad = false;
            copy.eval();
            IdentityStart.Keep(copy);
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    private void Fill(nn.Module copy, nn.Module source, bool inSequence)
    {
        _pairs.Add((source, copy, inSequence));
        CopyValues(copy, source);
        Dictionary<string, nn.Module> children = copy.named_children().ToDictionary(child => child.name, child => child.module);
        (nn.Module Copy, nn.Module Source) previous = (copy, source);
        bool sequence = source is Sequential;
        foreach ((string name, nn.Module child) in source.named_children())
        {
            if (children.TryGetValue(name, out nn.Module? same) && same.GetType() == child.GetType())
            {
                Fill(same, child, sequence);
                previous = (same, child);
            }
            else if (child is BatchNorm2d norm && previous.Source is Conv2d or ConvTranspose2d)
            {
                if (HookedModule.Around(previous.Source).After.Count + HookedModule.Around(norm).Before.Count > 0)
                {
                    Fill(Keep(copy, name, norm, previous), norm, sequence);
                }
                else
                {
                    Fold(norm, previous.Source, previous.Copy);
                    _pairs.Add((norm, previous.Copy, sequence));
                }
            }
            else if (_inserted.Contains(child))
            {
                AttentionModule twin = Build((AttentionModule)child);
                copy.register_module(name, twin);
                Fill(twin, child, sequence);
                _attentions.Add(child, twin);
            }
            else if (child is AttentionContainer && copy is Sequential shelves)
            {
                Fill(AttentionContainer.Add(shelves), child, sequence);
            }
            else
            {
                throw Unknown($"'{name}' ({child.GetType().Name})");
            }
        }
    }

    /// <summary>Attentions take their places once all modules are there.</summary>
    private void Insert()
    {
        foreach ((nn.Module source, nn.Module copy, bool inSequence) in _pairs)
        {
            (IReadOnlyList<AttentionModule> before, IReadOnlyList<AttentionModule> after) = HookedModule.Around(source);
            foreach (AttentionModule attention in before) Add(attention, InsertionSide.Before);
            foreach (AttentionModule attention in after) Add(attention, InsertionSide.After);

            void Add(AttentionModule attention, InsertionSide side)
            {
                if (!_attentions.TryGetValue(attention, out AttentionModule? twin))
                {
                    throw Unknown($"{attention.GetName()}, which was inserted into a network around it,");
                }

                HookedModule.Add(copy, inSequence, side, twin, isKept: false);
            }
        }
    }

    private AttentionModule Build(AttentionModule attention)
    {
        AttentionModule twin = NetworkCopy.Build(() => attention.Options.Create(attention.Channels));
        twin.to(_type);
        twin.to(_device);
        return twin;
    }

    /// <summary>A norm behind an attention: it cannot be folded into the convolution in front of both.</summary>
    private BatchNorm2d Keep(nn.Module parent, string name, BatchNorm2d norm, (nn.Module Copy, nn.Module Source) convolution)
    {
        Dictionary<string, Tensor> values = Values(convolution.Copy);
        if (!Values(convolution.Source).ContainsKey("bias") && values.TryGetValue("bias", out Tensor? bias)) nn.init.zeros_(bias);
        BatchNorm2d kept = nn.BatchNorm2d(norm.running_mean!.size(0), eps: norm.eps, momentum: norm.momentum ?? 0);
        kept.to(_type);
        kept.to(_device);
        switch (parent)
        {
            case Sequential sequence:
                sequence.append(name, kept);
                break;
            case ModuleList<nn.Module<Tensor, Tensor>> list:
                list.Add(kept);
                if (!list.named_children().Any(child => child.name == name)) list.register_module(name, kept);
                break;
            default:
                ((IKeepsNorms)parent).Keep(name, kept);
                break;
        }

        return kept;
    }

    private void CopyValues(nn.Module copy, nn.Module source)
    {
        Dictionary<string, Tensor> own = Values(copy);
        foreach ((string name, Tensor value) in Values(source))
        {
            if (!own.TryGetValue(name, out Tensor? target) || !target.shape.AsSpan().SequenceEqual(value.shape))
            {
                throw Unknown($"'{name}' of a {source.GetType().Name}");
            }

            target.copy_(value);
        }
    }

    private InvalidOperationException Unknown(string what) => new(
        $"This {_network} is not what its options build: {what} would be missing in a fused copy. " +
        $"What {nameof(InsertionExtensions.InsertAttention)} and the options' Attention " +
        "put into the network is carried along; take other modules out, or fuse first and add them to the copy.");

    /// <summary>What belongs to a module itself and not to its children.</summary>
    private static Dictionary<string, Tensor> Values(nn.Module module)
    {
        Dictionary<string, Tensor> values = [];
        foreach ((string name, Parameter parameter) in module.named_parameters(recurse: false)) values.Add(name, parameter);
        foreach ((string name, Tensor buffer) in module.named_buffers(recurse: false)) values.Add(name, buffer);
        return values;
    }

    /// <summary>
    /// Folds a norm and the convolution that stands before it into the copy's convolution. Computed in float64, rounded once.
    /// </summary>
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
