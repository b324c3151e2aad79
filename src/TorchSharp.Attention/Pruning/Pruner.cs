using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Builds the smaller network and fills it with the weights that stay.</summary>
internal static class Pruner
{
    /// <summary>The groups of channels of a network that can be pruned.</summary>
    /// <exception cref="ArgumentException">The network is of another kind.</exception>
    /// <exception cref="InvalidOperationException">The network is fused.</exception>
    public static ChannelMap MapOf(FeatureNetwork network)
    {
        ArgumentNullException.ThrowIfNull(network);
        if (network.IsFused)
        {
            throw new InvalidOperationException(
                $"This {network.GetName()} was fused for inference. Prune the network that it was made from, and fuse the " +
                "smaller one.");
        }

        if (network is not Backbone backbone)
        {
            throw new ArgumentException(
                $"{network.GetName()} cannot be pruned; {BackboneCatalog.Prunable()} can. " +
                $"Prune its encoder as a classifier first, and hand its Options to the {network.GetName()}.",
                nameof(network));
        }

        return backbone.ToChannelMap() ?? throw new ArgumentException(
            $"{network.GetName()} cannot be pruned; {BackboneCatalog.Prunable()} can. " +
            $"In it, {backbone.BaseOptions.PruningObstacle}. Choose a network with fewer channels instead.",
            nameof(network));
    }

    /// <summary>The smaller network.</summary>
    public static TNetwork Copy<TNetwork>(TNetwork network, PruningPlan plan)
        where TNetwork : FeatureNetwork
    {
        (ScalarType type, Device device) = NetworkCopy.Place(network, "pruning");
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        TNetwork copy = NetworkCopy.Build(() => (TNetwork)(FeatureNetwork)plan.Result.Create());
        try
        {
            copy.to(type);
            copy.to(device);
            CheckModules(copy, network);
            Fill(copy, network, plan);
            Correct(copy, plan);
            Dictionary<string, nn.Module> twins =
                network.named_modules().ToDictionary(entry => entry.name, entry => entry.module);
            copy.train(network.training);
            foreach ((string name, nn.Module module) in copy.named_modules()) module.train(twins[name].training);
            IdentityStart.Keep(copy);
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    private static void CheckModules(FeatureNetwork copy, FeatureNetwork network)
    {
        string[] own = [.. copy.named_modules().Select(entry => entry.name)], there = [
            .. network.named_modules().Select(entry => entry.name)];
        if (there.Except(own).Concat(own.Except(there)).FirstOrDefault() is not { } odd) return;
        throw new InvalidOperationException(
            $"This {network.GetName()} is not what its options build: '{odd}' is in one and not in the other. " +
            "Modules that were inserted would be lost; take them out, " +
            "or name them in the options' Attention and train that network.");
    }

    private static void Fill(FeatureNetwork copy, FeatureNetwork network, PruningPlan plan)
    {
        ILookup<string, (int Dimension, ValueList<int> Kept)> cuts = plan.Map.Axes.SelectMany(
            (axis, i) => axis.Dimensions.Select(entry => (entry, plan.Groups[i].Kept)))
            .ToLookup(cut => cut.entry.Name, cut => (cut.entry.Dimension, cut.Kept));
        Dictionary<string, Tensor> target = Values(copy);
        foreach ((string name, Tensor source) in Values(network))
        {
            Tensor value = source;
            foreach ((int dimension, ValueList<int> kept) in cuts[name])
            {
                if (kept.Count == value.size(dimension)) continue;
                value = value.index_select(dimension, tensor([.. kept.Select(index => (long)index)], device: value.device));
            }

            Tensor own = target[name];
            if (!own.shape.AsSpan().SequenceEqual(value.shape))
            {
                throw new InvalidOperationException(
                    $"'{name}' is {Check.Shape(value)} after the removal, and the smaller network has {Check.Shape(own)}. " +
                    "An attention of your own names every dimension along its channels in " +
                    $"{nameof(AttentionModule.ChannelLayout)}, and every width that follows from them in " +
                    $"{nameof(AttentionOptions)}.{nameof(AttentionOptions.WithWidthsOf)}.");
            }

            own.copy_(value);
            if (own is Parameter parameter) parameter.requires_grad = source.requires_grad;
        }
    }

    /// <summary>Attentions that lost channels correct what depends on their number.</summary>
    private static void Correct(FeatureNetwork copy, PruningPlan plan)
    {
        Dictionary<string, nn.Module> modules = copy.named_modules().ToDictionary(entry => entry.name, entry => entry.module);
        for (int i = 0; i < plan.Groups.Count; i++)
        {
            PrunedGroup group = plan.Groups[i];
            if (group.Kept.Count == group.Channels) continue;
            foreach (string path in plan.Map.Axes[i].Attentions)
            {
                ((AttentionModule)modules[path]).OnChannelsRemoved(group.Channels);
            }
        }
    }

    private static Dictionary<string, Tensor> Values(FeatureNetwork network) =>
        network.named_parameters().Select(entry => (entry.name, Value: (Tensor)entry.parameter)).Concat(
            network.named_buffers().Select(entry => (entry.name, Value: entry.buffer)))
            .ToDictionary(entry => entry.name, entry => entry.Value);
}
