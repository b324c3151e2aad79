using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The numbers of one map.</summary>
internal static class GateReadingFactory
{
    /// <summary>Runs in the caller's dispose scope, without gradients.</summary>
    public static GateReading Of(long step, string name, AttentionMapKind kind, Tensor map, AttentionMaps maps)
    {
        GateReading reading = new() { Step = step, Module = name, Map = kind };
        if (map.numel() == 0) return reading;
        return kind == AttentionMapKind.Pairwise ? OfPairs(reading, map, maps) : OfGate(reading, map);
    }

    private static GateReading OfPairs(GateReading reading, Tensor weights, AttentionMaps maps)
    {
        long wrong = NotFinite(weights);
        if (wrong > 0) return reading with { NotFinite = wrong };
        PairwiseStatistics statistics = new();
        statistics.Add(weights, maps.QueryGrid == maps.KeyGrid ? maps.KeyGrid : null);
        return reading with
        {
            Entropy = statistics.Entropy.Average(),
            Peak = statistics.Peak.Average(),
            Distance = statistics.Distance?.Average(),
        };
    }

    private static GateReading OfGate(GateReading reading, Tensor map)
    {
        GateStatistics statistics = new();
        statistics.Add(map);
        reading = reading with { NotFinite = statistics.NotFinite };
        if (statistics.NotFinite == map.numel()) return reading;
        Tensor finite = map.nan_to_num(0, 0, 0);
        reading = reading with
        {
            Mean = statistics.Mean,
            StandardDeviation = Math.Sqrt(statistics.Variance),
            StandardDeviationOverSamples = Math.Sqrt(statistics.VarianceOverSamples),
            Minimum = Number(finite.min()),
            Maximum = Number(finite.max()),
            Entropy = statistics.Entropy,
        };
        if (reading.Map == AttentionMapKind.Branch)
        {
            // (N, M, C): the mean weight of each branch.
            return reading with { Peak = Number(finite.to_type(ScalarType.Float64).mean([0, 2]).max()) };
        }

        return reading with
        {
            ClosedShare = statistics.ClosedShare,
            OpenShare = statistics.OpenShare,
            Sparsity = statistics.Sparsity,
            DeadShare = reading.Map switch
            {
                AttentionMapKind.Channel => (double)statistics.Dead.Count / statistics.Units,
                AttentionMapKind.Element => DeadChannels(finite),
                _ => null,
            },
        };
    }

    /// <summary>Share of channels that no sample opens anywhere.</summary>
    private static double DeadChannels(Tensor gate)
    {
        using Scalar low = GateStatistics.Low.ToScalar();
        return Number(gate.amax([0, 2, 3]).lt(low).to_type(ScalarType.Float64).mean());
    }

    private static long NotFinite(Tensor map) => map.numel() - map.isfinite().Total().item<long>();

    private static double Number(Tensor value) => value.to_type(ScalarType.Float64).item<double>();
}
