using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How each kind of module of the library yields its maps, from the inputs that a hook sees.</summary>
internal static class MapReading
{
    /// <summary>
    /// Listens to a module's calls. What reads the maps runs after the module, without gradients, and changes neither
    /// running statistics nor random numbers.
    /// </summary>
    /// <param name="module">The module.</param>
    /// <param name="samples">How many samples of a batch are read, the first ones; null for all.</param>
    /// <param name="receive">
    /// Called after each forward pass with a function that computes the maps. The callee may ignore it.
    /// </param>
    /// <returns>What ends the listening; null where the module is no attention.</returns>
    public static Action? Listen(nn.Module module, int? samples, Action<Func<AttentionMaps>> receive)
    {
        switch (module)
        {
            case GateModule gate:
                return gate.register_forward_hook((_, input, output) => Pass(output, () => OfGate(gate, First(input)))).remove;
            case ContextModule context:
                return context.register_forward_hook(
                    (_, input, output) => Pass(output, () => OfContext(context, First(input)))).remove;
            case DynamicAttention dynamic:
                return dynamic.register_forward_hook(
                    (_, input, output) => Pass(
                        output, () => Of(dynamic, input, AttentionMapKind.Branch, dynamic.Weights(input).unsqueeze(2)))).remove;
            case BranchModule branch:
                return branch.register_forward_hook(
                    (_, input, output) => Pass(
                        output, () => Of(branch, input, AttentionMapKind.Branch, branch.Weights(input).flatten(2)))).remove;
            case GuidedAttentionModule guided:
                return guided.register_forward_hook(
                    (_, input, guide, output) => Pass(output, () => OfFactor(guided, input, guided.Gate(input, guide)))).remove;
            case MultiHeadAttention sequences:
                return sequences.register_forward_hook((_, query, key, _, padding, mask, output) => Pass(
                    output,
                    () => Of(sequences, query, AttentionMapKind.Pairwise, sequences.Weights(query, key, padding, mask)))).remove;
            case CrossAttention cross:
                return cross.register_forward_hook((_, input, context, padding, output) => Pass(
                    output,
                    () => Of(
                        cross, input, AttentionMapKind.Pairwise, cross.Weights(input, context, padding), Grid(input),
                        context.dim() == 4 ? Grid(context) : null))).remove;
            default:
                return null;
        }

        Tensor First(Tensor input)
            => samples is int most && most < input.size(0) && !UsesBatchStatistics(module) ? input.narrow(0, 0, most) : input;

        Tensor Pass(Tensor output, Func<AttentionMaps> read)
        {
            receive(() =>
            {
                using IDisposable quiet = no_grad();
                using DisposeScope scope = NewDisposeScope();
                using FrozenNormStatistics still = new(module);
                return read();
            });
            return output;
        }
    }

    private static bool UsesBatchStatistics(nn.Module module)
        => module.modules().Any(child => child is NormBase { training: true });

    private static AttentionMaps OfGate(GateModule gate, Tensor input)
    {
        if (Halves(gate) is not { } halves) return OfFactor(gate, input, gate.Gate(input));
        Tensor first = halves.First.Gate(input);
        Tensor second = halves.Second.Gate(halves.Parallel ? input : input.mul(first));
        (Tensor channel, Tensor spatial) = halves.SpatialFirst ? (second, first) : (first, second);
        return new AttentionMaps(gate, input.size(0), new()
        {
            [AttentionMapKind.Channel] = channel.expand(input.size(0), -1, -1, -1).flatten(1),
            [AttentionMapKind.Spatial] = spatial.expand(input.size(0), -1, -1, -1).squeeze(1),
        });
    }

    /// <summary>The two gates that act one after the other, or side by side, in a module that is their product.</summary>
    private static (GateModule First, GateModule Second, bool SpatialFirst, bool Parallel)? Halves(GateModule gate)
    {
        if (gate is Cbam { Options: CbamOptions { Order: not CbamOrder.ChannelFirst } options } cbam)
        {
            bool spatialFirst = options.Order == CbamOrder.SpatialFirst;
            return spatialFirst
                ? (cbam.SpatialHalf, cbam.ChannelHalf, true, false)
                : (cbam.ChannelHalf, cbam.SpatialHalf, false, true);
        }

        return GateParts.Of(gate) is { Channel: { } channel, Spatial: { } spatial }
            ? (channel.Module, spatial.Module, false, false)
            : null;
    }

    /// <summary>A factor that broadcasts to the input, by what it tells apart.</summary>
    private static AttentionMaps OfFactor(nn.Module module, Tensor input, Tensor factor)
    {
        long n = input.size(0);
        SortedDictionary<AttentionMapKind, Tensor> maps = [];
        if (factor.size(1) == 1 && (input.size(1) > 1 || factor.size(2) > 1 || factor.size(3) > 1))
        {
            maps[AttentionMapKind.Spatial] = factor.expand(n, 1, input.size(2), input.size(3)).squeeze(1);
        }
        else if (factor.size(2) == 1 && factor.size(3) == 1)
        {
            maps[AttentionMapKind.Channel] = factor.expand(n, -1, 1, 1).flatten(1);
        }
        else
        {
            Tensor whole = factor.expand(input.shape);
            maps[AttentionMapKind.Element] = whole.contiguous();
            maps[AttentionMapKind.Channel] = whole.mean([2, 3]);
            maps[AttentionMapKind.Spatial] = whole.mean([1]);
        }

        return new AttentionMaps(module, n, maps);
    }

    private static AttentionMaps OfContext(ContextModule context, Tensor input)
    {
        Tensor weights = context.Weights(input);
        (int Height, int Width) grid = Grid(input);
        long positions = (long)grid.Height * grid.Width;
        bool ofPositions = context is not ChannelSelfAttention;
        return Of(
            context, input, AttentionMapKind.Pairwise, weights, ofPositions && weights.size(2) == positions ? grid : null,
            ofPositions && weights.size(3) == positions ? grid : null);
    }

    private static AttentionMaps Of(
        nn.Module module, Tensor input, AttentionMapKind kind, Tensor map, (int Height, int Width)? queries = null,
        (int Height, int Width)? keys = null)
        => new(module, input.size(0), new() { [kind] = map }, queries, keys);

    private static (int Height, int Width) Grid(Tensor map) => ((int)map.size(2), (int)map.size(3));

    /// <summary>
    /// Batch norms that go on using a training batch's own statistics, as the forward pass did, but note nothing. A
    /// momentum of zero adds nothing to the running values and writes no version that a backward pass would object
    /// to, unlike a copy put back afterwards.
    /// </summary>
    private sealed class FrozenNormStatistics : IDisposable
    {
        private readonly List<(NormBase Norm, double? Momentum, Tensor? Batches)> _norms = [];

        public FrozenNormStatistics(nn.Module module)
        {
            foreach (nn.Module child in module.modules())
            {
                if (child is not NormBase { training: true, track_running_stats: true } norm) continue;
                _norms.Add((norm, norm.momentum, norm.num_batches_tracked?.clone()));
                norm.momentum = 0;
            }
        }

        public void Dispose()
        {
            foreach ((NormBase norm, double? momentum, Tensor? batches) in _norms)
            {
                norm.momentum = momentum;
                if (batches is not null) norm.num_batches_tracked!.copy_(batches);
            }
        }
    }
}
