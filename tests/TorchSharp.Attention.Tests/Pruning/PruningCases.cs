using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Small networks of random weights, and the same network with channels at zero.</summary>
internal static class PruningCases
{
    /// <summary>Attentions whose promise holds exactly on maps after a ReLU.</summary>
    public static readonly IReadOnlyDictionary<string, AttentionOptions> Exact = new Dictionary<string, AttentionOptions>
    {
        ["se"] = new SqueezeExcitationOptions { Reduction = 4 },
        ["se, norm and maximum"] = new SqueezeExcitationOptions { Reduction = 4, Norm = true, MaxPool = true, Bias = false, Initialization = AttentionInitialization.Identity },
        ["ese"] = EffectiveSqueezeExcitationOptions.Paper,
        ["channel"] = new ChannelAttentionOptions { Reduction = 4, Bias = true },
        ["cbam"] = new CbamOptions { Reduction = 4, KernelSize = 3 },
        ["cbam, official, spatial first"] = CbamOptions.Official with { Reduction = 4, KernelSize = 3, Order = CbamOrder.SpatialFirst },
        ["spatial"] = new SpatialAttentionOptions { KernelSize = 3 },
        ["scse"] = new ConcurrentSqueezeExcitationOptions(),
        ["scse, larger"] = ConcurrentSqueezeExcitationOptions.Official,
        ["gct, l1"] = new GatedChannelTransformationOptions { Norm = GctNorm.L1 },
        ["srm"] = StyleRecalibrationOptions.Official,
        ["simam"] = SimAmOptions.Paper,
        ["bam"] = new BamOptions { Reduction = 4 },
        ["bam, official"] = BamOptions.Official with { Reduction = 4 },
        ["coord"] = new CoordinateAttentionOptions(),
        ["scoord"] = new SimpleCoordinateAttentionOptions(),
    };

    /// <summary>Attentions of <see cref="Exact"/> whose promise holds on maps of any sign.</summary>
    public static bool AnySign(string name) => !name.StartsWith("cbam", StringComparison.Ordinal) && name != "spatial";

    public static ResNetOptions Basic => new() { Layers = [2, 1], StagePlanes = [12, 16], StemWidth = 12, Stem = ResNetStem.Small, Classes = 3 };

    public static ResNetOptions Bottleneck => Basic with { Block = ResNetBlock.Bottleneck, StagePlanes = [8, 12], StemWidth = 10 };

    public static MobileNetV2Options Mobile => Cases.TinyMobileNet with { Dropout = 0 };

    public static EfficientNetOptions Efficient => Cases.TinyEfficientNet with { Dropout = 0 };

    /// <summary>In float64, every value and statistic its own, scalars that start at zero among them.</summary>
    public static TNetwork Random<TNetwork>(TNetwork network)
        where TNetwork : FeatureNetwork
    {
        InferenceCopyTests.Trained(network, ScalarType.Float64);
        using IDisposable quiet = no_grad();
        foreach ((string name, Parameter parameter) in network.named_parameters())
        {
            if (name.EndsWith(".alpha", StringComparison.Ordinal) || name.EndsWith(".gamma", StringComparison.Ordinal)) parameter.uniform_(0.3, 0.9);
        }

        network.eval();
        return network;
    }

    public static Tensor Images(int count = 2, int size = 12) => randn(count, 3, size, size, dtype: ScalarType.Float64);

    /// <summary>Sets the removed channels to zero on every map of their group: scale and shift of the norms after the group's convolutions.</summary>
    public static void Silence(FeatureNetwork network, ChannelRanking ranking, PruningPlan plan)
    {
        using IDisposable quiet = no_grad();
        Dictionary<string, Parameter> parameters = network.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter);
        foreach (PrunedGroup group in plan.Groups)
        {
            foreach (string norm in ranking[group.Name].Convolutions.Select(NormOf))
            {
                foreach (int channel in group.Removed)
                {
                    parameters[$"{norm}.weight"][channel] = 0;
                    parameters[$"{norm}.bias"][channel] = 0;
                }
            }
        }
    }

    /// <summary>A plan that takes away some channels, not at the ends alone, of each group that a filter names.</summary>
    public static PruningPlan Take(FeatureNetwork network, ChannelRanking ranking, Func<ChannelGroup, bool> groups)
        => GatePruning.PlanRemoval(
            network, ranking.Groups.Where(groups).ToDictionary(group => group.Name, group => (IReadOnlyList<int>)[0, 2, group.Channels / 2, group.Channels - 1]), 1, 3, 12, 12);

    private static string NormOf(string convolution)
    {
        int end = convolution.LastIndexOf('.') + 1;
        string last = convolution[end..];
        return convolution[..end] + (last.StartsWith("conv", StringComparison.Ordinal) ? "bn" + last[4..] : $"{int.Parse(last, System.Globalization.CultureInfo.InvariantCulture) + 1}");
    }
}
