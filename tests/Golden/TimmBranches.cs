namespace TorchSharp.Attention.Golden;

/// <summary>The arguments of timm's selective kernel and split attention as options. Names and defaults are timm's.</summary>
internal static class TimmBranches
{
    public static Blueprint SelectiveKernel(GoldenCase golden)
    {
        ReferenceArguments arguments = golden.Arguments;
        (int channels, int? output, int stride) = Shape(golden);
        SelectiveKernelOptions options = new()
        {
            KernelSizes = arguments.IntegerOrIntegers("kernel_size") switch
            {
                null => [3, 5],
                [int alone] => [alone, alone],
                ValueList<int> several => several,
            },
            Dilation = arguments.Integer("dilation", 1),
            Groups = Math.Min(arguments.Integer("groups", 1), output ?? channels),
            DilatedKernels = arguments.Flag("keep_3x3", true),
            SplitInput = arguments.Flag("split_input", true),
        };
        int divisor = arguments.Integer("rd_divisor", 8);
        options = ReducedWidth(arguments.Number("rd_ratio", 1.0 / 16), divisor, divisor, output ?? channels) switch
        {
            (int reduction, null) => options with { Reduction = reduction, RoundingDivisor = divisor, MinimumReducedChannels = divisor },
            (_, int width) => options with { ReducedChannels = width },
        };
        if (arguments.Integer("rd_channels") is int explicitly and not 0) options = options with { ReducedChannels = explicitly };
        TimmAttentions.Without(arguments, "aa_layer", "drop_layer");
        return new Blueprint(() => options.Create(channels, output, stride), KeyMap.Identity);
    }

    public static Blueprint SplitAttention(GoldenCase golden)
    {
        ReferenceArguments arguments = golden.Arguments;
        (int channels, int? output, int stride) = Shape(golden);
        int kernel = arguments.Integer("kernel_size", 3), dilation = arguments.Integer("dilation", 1), radix = arguments.Integer("radix", 2);
        SplitAttentionOptions options = new()
        {
            KernelSize = kernel,
            Dilation = dilation,
            Groups = arguments.Integer("groups", 1),
            Bias = arguments.Flag("bias", false),
            Radix = radix,
            Norm = arguments.Choice("norm_layer", "none", ("none", false), ("batchnorm2d", true)),
        };

        // timm's own default leaves out the dilation and so shrinks the map; its networks pass the padding that keeps it.
        if (arguments.Integer("padding", kernel / 2) != dilation * (kernel / 2))
        {
            throw new InvalidDataException($"the argument 'padding' does not keep the map's size; supported: {dilation * (kernel / 2)}");
        }

        int divisor = arguments.Integer("rd_divisor", 8);
        options = ReducedWidth(arguments.Number("rd_ratio", 0.25), divisor, 32, channels * radix) switch
        {
            (int reduction, null) => options with { Reduction = reduction, RoundingDivisor = divisor, MinimumReducedChannels = 32 },
            (_, int width) => options with { ReducedChannels = width },
        };
        if (arguments.Integer("rd_channels") is int explicitly) options = options with { ReducedChannels = explicitly * radix };
        TimmAttentions.Without(arguments, "drop_layer");
        return new Blueprint(() => options.Create(channels, output, stride), KeyMap.Identity);
    }

    private static (int Channels, int? Output, int Stride) Shape(GoldenCase golden)
    {
        // Other activations have no counterpart here.
        golden.Arguments.Choice("act_layer", "relu", ("relu", true));
        return (golden.Channels(), golden.Arguments.Integer("out_channels"), golden.Arguments.Integer("stride", 1));
    }

    /// <summary>Where rd_ratio is one over an integer, our own rule is asked for the same width; otherwise the width is explicit.</summary>
    private static (int Reduction, int? Width) ReducedWidth(double ratio, int divisor, int minimum, int channels)
    {
        if (ratio <= 0 || divisor < 1) throw new InvalidDataException($"rd_ratio is {ratio} and rd_divisor {divisor}; both must be above 0");
        double reduction = Math.Round(1 / ratio);
        if (Math.Abs((1 / ratio) - reduction) < 1e-9) return ((int)reduction, null);
        double wanted = channels * ratio;
        int rounded = Math.Max(minimum, (int)(wanted + (divisor / 2.0)) / divisor * divisor);
        return (1, rounded < 0.9 * wanted ? rounded + divisor : rounded);
    }
}
