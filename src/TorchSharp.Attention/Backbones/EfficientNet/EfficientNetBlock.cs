namespace TorchSharp.Attention;

/// <summary>One block of an EfficientNet in numbers.</summary>
/// <param name="Fused">Whether one convolution stands for the expansion and the depthwise convolution.</param>
/// <param name="Stage">Stage, from 1.</param>
/// <param name="Index">Block within the stage, from 0.</param>
/// <param name="InStage">Blocks of the stage.</param>
/// <param name="Input">Channels of the input.</param>
/// <param name="Hidden">Channels after the expansion.</param>
/// <param name="Squeezed">Width of the squeeze-and-excitation.</param>
/// <param name="Output">Channels of the output.</param>
/// <param name="Kernel">Kernel size of the spatial convolution.</param>
/// <param name="Stride">Stride of the spatial convolution.</param>
/// <param name="Expands">Whether the block has an expansion.</param>
/// <param name="HasShortcut">Whether the input is added to the output.</param>
internal sealed record EfficientNetBlock(
    bool Fused, int Stage, int Index, int InStage, int Input, int Hidden, int Squeezed, int Output, int Kernel, int Stride,
    bool Expands, bool HasShortcut)
{
    private const int Divisor = 8, SqueezeReduction = 4;

    /// <summary>Every block, in order, with the widths of the options.</summary>
    public static IEnumerable<EfficientNetBlock> All(EfficientNetOptions options)
        => options.Widths is not { } widths ? Planned(options) : Planned(options).Select((block, i) => block with
        {
            Input = block.Index > 0
                ? widths.Stages[block.Stage - 1]
                : block.Stage > 1 ? widths.Stages[block.Stage - 2] : widths.Stem,
            Hidden = widths.Hidden[i],
            Squeezed = widths.Squeezed[i],
            Output = widths.Stages[block.Stage - 1],
        });

    /// <summary>Every block, in order, as the stages and multipliers say.</summary>
    public static IEnumerable<EfficientNetBlock> Planned(EfficientNetOptions options)
    {
        int input = Width(options.Stem, options.WidthMultiplier);
        for (int stage = 1; stage <= options.Stages.Count; stage++)
        {
            EfficientNetStage row = options.Stages[stage - 1];
            int output = Width(row.Channels, options.WidthMultiplier),
                blocks = (int)Math.Ceiling(row.Blocks * options.DepthMultiplier);
            for (int i = 0; i < blocks; i++)
            {
                // The nominal stride decides on the shortcut, so that small images do not add one.
                int stride = i == 0 ? options.StrideOf(stage) : 1, hidden = Width(input, row.Expansion);
                yield return new EfficientNetBlock(
                    row.Fused, stage, i, blocks, input, hidden, Math.Max(1, input / SqueezeReduction), output, row.Kernel, stride,
                    hidden != input,
                    (i > 0 || row.Stride == 1) && input == output);
                input = output;
            }
        }
    }

    /// <summary>A product of channels, rounded to a multiple of 8 as torchvision does.</summary>
    public static int Width(int channels, double factor) => ChannelReduction.MakeDivisible(channels * factor, Divisor);
}
