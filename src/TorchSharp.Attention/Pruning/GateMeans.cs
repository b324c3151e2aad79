using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Means of channel gates over a data set.</summary>
internal static class GateMeans
{
    /// <summary>Runs the network over the batches, without gradients and in evaluation mode, which is put back.</summary>
    public static (IReadOnlyDictionary<string, GateStatistics> Gates, ValueList<long> InputShape) Over(
        FeatureNetwork network, ChannelMap map, IEnumerable<Tensor> batches)
    {
        (string Name, int Channels)[] candidates =
            [.. map.Axes.Where(axis => axis.Obstacles.Count == 0).SelectMany(
                axis => axis.Attentions.Select(name => (name, axis.Width)))];
        if (candidates.Length == 0) throw NoGates(network, map);
        Dictionary<string, GateStatistics> gates = [];
        ValueList<long>? shape = null;
        using (new TrainingModes(network))
        {
            // Not a dry run: the batches may be drawn while this runs, and their random numbers count.
            TrainingModes.Set(network, training: false);
            using AttentionRecorder recorder = AttentionRecorder.Attach(
                network,
                new AttentionRecorderOptions { Modules = string.Join(',', candidates.Select(candidate => candidate.Name)) });
            foreach (Tensor images in batches)
            {
                ArgumentNullException.ThrowIfNull(images, nameof(batches));
                using (NewDisposeScope())
                using (no_grad()) network.call(images);
                if (images.size(0) == 0) continue;
                shape ??= ValueList.Create<long>([1, .. images.shape[1..]]);
                foreach ((string name, int channels) in candidates) Add(recorder[name], name, channels);
            }
        }

        if (shape is null)
        {
            throw new ArgumentException("batches holds no image; give some hundred images of the data set.", nameof(batches));
        }

        if (gates.Count == 0) throw NoGates(network, map);
        return (gates, shape);

        void Add(AttentionMaps maps, string name, int channels)
        {
            if (maps.ChannelGate is not { } gate || gate.size(1) != channels) return;
            if (!gates.TryGetValue(name, out GateStatistics? statistics)) gates.Add(name, statistics = new GateStatistics());
            statistics.Add(gate);
            if (statistics.NotFinite == 0) return;
            throw new InvalidOperationException(
                $"The gate of {name} has values that are not finite; check the network's weights and the images.");
        }
    }

    private static ArgumentException NoGates(FeatureNetwork network, ChannelMap map)
    {
        string obstacles = string.Join("; ", map.Axes.SelectMany(axis => axis.Obstacles).Distinct());
        return new ArgumentException(
            $"This {network.GetName()} has no channel gate on channels that can go. " +
            "Build it with one, such as AttentionPlan.Of(new SqueezeExcitationOptions()), and train it, " +
            "or rank by weights with " +
            $"{nameof(GatePruning)}.{nameof(GatePruning.RankByNorm)}.{(obstacles.Length > 0 ? $" {obstacles}." : "")}",
            nameof(network));
    }
}

/// <summary>How large filters are.</summary>
internal static class FilterNorms
{
    /// <summary>Sum of absolute weights of each output channel, over their mean.</summary>
    /// <exception cref="InvalidOperationException">A weight is not finite.</exception>
    public static double[] Of(Tensor weight, string convolution)
    {
        using DisposeScope scope = NewDisposeScope();
        double[] norms = weight.detach().cpu().to_type(ScalarType.Float64).flatten(1).abs().sum(1).data<double>().ToArray();
        if (!Array.TrueForAll(norms, double.IsFinite))
        {
            throw new InvalidOperationException(
                $"The weight of {convolution} has values that are not finite, so its filters cannot be ranked; " +
                "check the network's weights.");
        }

        double mean = norms.Average();
        return mean > 0 ? [.. norms.Select(norm => norm / mean)] : norms;
    }
}
