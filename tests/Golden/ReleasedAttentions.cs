using System.Globalization;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Golden;

/// <summary>The arguments and names of the papers' released code (and MONAI's attention gate) as ours.</summary>
internal static partial class ReleasedAttentions
{
    /// <summary>CBAM's channel half alone: its keys have no <c>channel.</c> before them.</summary>
    public static KeyMap CbamChannelKeys { get; } = KeyMaps.OfficialCbam.Then(KeyMap.Prefix("channel.", ""));

    public static CbamOptions Cbam(ReferenceArguments arguments)
    {
        bool norm = arguments.Flag("spatial_bn", true);
        return CbamOptions.Official with
        {
            Reduction = arguments.Integer("reduction", 16),
            KernelSize = arguments.Integer("kernel_size", 7),
            Bias = arguments.Flag("bias", true),
            SpatialNorm = norm,
        };
    }

    public static ChannelAttentionOptions CbamChannel(ReferenceArguments arguments) => ChannelAttentionOptions.Official with
    {
        Reduction = arguments.Integer("reduction", 16),
        Bias = arguments.Flag("bias", true),
    };

    public static BamOptions Bam(GoldenCase golden) => BamOptions.Official with
    {
        Reduction = golden.Arguments.Integer("reduction", 16),
        Dilation = golden.Arguments.Integer("dilation", 4),
        DilatedConvolutions = golden.CheckLayers("dilated_convs", golden.Arguments.Integer("dilated_convs", 2)),
        Merge = golden.Arguments.Choice("merge", "multiply", ("multiply", BamMerge.Multiply), ("add", BamMerge.Add)),
    };

    /// <summary>BAM's own code; the width that its reduction leaves shows in the weights.</summary>
    public static BamOptions OfficialBam(GoldenCase golden) => BamOptions.Official with
    {
        ReducedChannels = golden.StateSize("channel_att.gate_c.gate_c_fc_0.weight", 0),
    };

    /// <summary>CBAM's own code: a source "r=4" says the reduction, the kernel shows in the weight.</summary>
    public static CbamOptions OfficialCbam(GoldenCase golden) => CbamOptions.Official with
    {
        Reduction = Setting(golden, "r") ?? 16,
        KernelSize = golden.StateSize("SpatialGate.spatial.conv.weight", 2),
    };

    /// <summary>SimAM's own code: a source "lambda=1e-4" says λ.</summary>
    public static SimAmOptions OfficialSimAm(GoldenCase golden) => new()
    {
        Lambda = Lambda().Match(golden.Source) is { Success: true } match
            ? double.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture)
            : throw new InvalidDataException($"the source '{golden.Source}' does not say lambda=…"),
    };

    /// <summary>Coordinate attention's own code: a source "r=32 mip=8" says the reduction and the least width.</summary>
    public static CoordinateAttentionOptions OfficialCoordinate(GoldenCase golden) => CoordinateAttentionOptions.Paper with
    {
        Reduction = Setting(golden, "r") ?? 32,
        MinReducedChannels = Setting(golden, "mip") ?? 8,
    };

    /// <summary>scSE, the released code's and segmentation_models.pytorch's: a source "r=4" says the reduction.</summary>
    public static ConcurrentSqueezeExcitationOptions Scse(GoldenCase golden, ScseMerge merge) => new()
    {
        Reduction = Setting(golden, "r") ?? throw new InvalidDataException($"the source '{golden.Source}' does not say r=…"),
        Merge = merge,
    };

    public static TripletAttentionOptions Triplet(ReferenceArguments arguments) =>
        TripletAttentionOptions.Paper with { KernelSize = arguments.Integer("kernel_size", 7) };

    public static ShuffleAttentionOptions Shuffle(GoldenCase golden) => new()
    {
        Groups = Setting(golden, "G") ?? throw new InvalidDataException($"the source '{golden.Source}' does not say G=…"),
    };

    /// <summary>VAN's: the kernels show in the weights, and the dilation, which does not, is the network's.</summary>
    public static LargeKernelAttentionOptions LargeKernel(GoldenCase golden) => LargeKernelAttentionOptions.Paper with
    {
        KernelSize = golden.StateSize("conv0.weight", 2),
        DilatedKernelSize = golden.StateSize("conv_spatial.weight", 2),
    };

    public static SimAmOptions SimAm(ReferenceArguments arguments) => new() { Lambda = arguments.Number("lambda", 1e-4) };

    /// <summary>MONAI's AttentionBlock: f_g channels of the gating signal (x), f_l of the skip that is gated (x1), f_int in between.</summary>
    public static Blueprint Gate(GoldenCase golden)
    {
        ReferenceArguments arguments = golden.Arguments;
        int guide = Required("f_g"), channels = Required("f_l"), width = Required("f_int");
        if (arguments.Integer("spatial_dims", 2) != 2) throw new InvalidDataException("the argument 'spatial_dims' is not 2");
        if (arguments.Number("dropout", 0) != 0)
        {
            throw new InvalidDataException("the argument 'dropout' is not 0: its draws cannot be repeated");
        }

        AttentionGateOptions options = new() { ReducedChannels = width };
        return new Blueprint(() => options.Create(channels, guide), KeyMaps.MonaiAttentionGate);

        int Required(string name) => arguments.Integer(name)
            ?? throw new InvalidDataException($"the argument '{name}' is missing");
    }

    /// <summary>ECANet's own module: the kernel shows in the weight; a source that says "k=3" must agree.</summary>
    public static EfficientChannelAttentionOptions OfficialEca(GoldenCase golden) =>
        new() { KernelSize = Setting(golden, "k") ?? golden.StateSize("conv.weight", 2) };

    /// <summary>SENet without biases: the reduction out of a source that says "r=4", or the reduced width out of the weight.</summary>
    public static SqueezeExcitationOptions OfficialSe(GoldenCase golden) => Setting(golden, "r") is int reduction
        ? new() { Reduction = reduction, Bias = false }
        : new() { ReducedChannels = golden.StateSize("fc.0.weight", 0), Bias = false };

    /// <summary>DANet's position attention: the width of queries and keys shows in the weight.</summary>
    public static PositionAttentionOptions Position(GoldenCase golden) => new() { ReducedChannels = golden.StateSize("query_conv.weight", 0) };

    /// <summary>One pass of criss-cross attention: the width of queries and keys shows in the weight.</summary>
    public static CrissCrossAttentionOptions CrissCross(GoldenCase golden) => new() { ReducedChannels = golden.StateSize("query_conv.weight", 0) };

    /// <summary>PyTorch's multi-head attention, batch first, on one sequence, or from x to x1.</summary>
    public static Blueprint MultiHead(GoldenCase golden)
    {
        ReferenceArguments arguments = golden.Arguments;
        int width = arguments.Integer("embed_dim") ?? throw new InvalidDataException("the argument 'embed_dim' is missing");
        if (arguments.Number("dropout", 0) != 0)
        {
            throw new InvalidDataException("the argument 'dropout' is not 0: its draws cannot be repeated");
        }

        MultiHeadAttentionOptions options = new()
        {
            Heads = arguments.Integer("num_heads") ?? throw new InvalidDataException("the argument 'num_heads' is missing"),
            Bias = arguments.Flag("bias", true),
            KeyWidth = arguments.Integer("kdim"),
            ValueWidth = arguments.Integer("vdim"),
        };
        return new Blueprint(() => new MultiHeadAttention(width, options), KeyMap.Identity, Forward: (module, x, x1) =>
            ((MultiHeadAttention)module).call(x, x1 ?? x, x1 ?? x));
    }

    internal static int? Setting(GoldenCase golden, string name)
    {
        foreach (Match match in Settings().Matches(golden.Source))
        {
            if (match.Groups["name"].Value == name) return int.Parse(match.Groups["value"].Value, CultureInfo.InvariantCulture);
        }

        return null;
    }

    [GeneratedRegex(@"\b(?<name>[A-Za-z]+)=(?<value>\d{1,6})\b", RegexOptions.CultureInvariant)]
    private static partial Regex Settings();

    [GeneratedRegex(@"\blambda=([0-9.]+(?:e-?[0-9]+)?)\b", RegexOptions.CultureInvariant)]
    private static partial Regex Lambda();
}
