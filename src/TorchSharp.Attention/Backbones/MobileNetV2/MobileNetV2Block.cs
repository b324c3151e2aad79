namespace TorchSharp.Attention;

/// <summary>One inverted residual block of a MobileNetV2 in numbers.</summary>
internal sealed record MobileNetV2Block(
    int Stage, int Index, int InStage, int Input, int Hidden, int Output, int Stride, bool Expands, bool HasShortcut)
{
    // The paper's table 2: expansion, channels, blocks and stride of each stage.
    private static readonly (int Expansion, int Channels, int Blocks, int Stride)[] Table =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

    /// <summary>Number of stages.</summary>
    public static int Stages => Table.Length;

    /// <summary>Blocks of a stage, which count from 1.</summary>
    public static int InStageOf(int stage) => Table[stage - 1].Blocks;

    /// <summary>Every block, in order.</summary>
    public static IEnumerable<MobileNetV2Block> All(MobileNetV2Options options)
        => options.Widths is null ? Planned(options) : Planned(options).Select((block, i) => block.Narrowed(options.Widths, i));

    /// <summary>The channels of every layer.</summary>
    public static MobileNetV2Widths WidthsOf(MobileNetV2Options options) => options.Widths ?? new MobileNetV2Widths
    {
        Stem = Width(32, options),
        Expanded = ValueList.Create<int>([.. Planned(options).Select(block => block.Hidden)]),
        Stages = ValueList.Create<int>([.. Table.Select(row => Width(row.Channels, options))]),
        Last = Round(1280 * Math.Max(1.0, options.WidthMultiplier), options),
    };

    /// <summary>Checks the widths of options.</summary>
    public static void Validate(MobileNetV2Options options)
    {
        MobileNetV2Widths widths = options.Widths!;
        Check.Positive(widths.Stem, nameof(widths.Stem));
        Check.Positive(widths.Last, nameof(widths.Last));
        Check.Widths(widths.Expanded, Table.Sum(row => row.Blocks), "blocks", nameof(widths.Expanded));
        Check.Widths(widths.Stages, Stages, "stages", nameof(widths.Stages));
        foreach ((MobileNetV2Block block, int i) in All(options).Select((block, i) => (block, i)))
        {
            if (!block.Expands && block.Hidden != block.Input)
            {
                throw new ArgumentException(
                    $"Expanded[{i}] is {block.Hidden} and the block's input has {block.Input} channels; it has no expansion. " +
                    "Make them equal.", nameof(widths.Expanded));
            }

            if (block.HasShortcut && block.Input != block.Output)
            {
                throw new ArgumentException(
                    $"Stages[{block.Stage - 1}] is {block.Output} and the block's input has {block.Input} channels, but it " +
                    "adds the two. Make them equal.", nameof(widths.Stages));
            }
        }
    }

    private static IEnumerable<MobileNetV2Block> Planned(MobileNetV2Options options)
    {
        int width = Width(32, options);
        for (int stage = 1; stage <= Table.Length; stage++)
        {
            (int expansion, int channels, int blocks, int stride) = Table[stage - 1];
            int output = Width(channels, options);
            for (int i = 0; i < blocks; i++)
            {
                bool strided = i == 0 && stride == 2 && !(options.SmallImages && stage == 2);
                yield return new MobileNetV2Block(
                    stage, i, blocks, width, width * expansion, output, strided ? 2 : 1, expansion != 1,
                    HasShortcut: !strided && width == output);
                width = output;
            }
        }
    }

    /// <summary>Returns this block with other channels. Its shortcut and its expansion do not change.</summary>
    private MobileNetV2Block Narrowed(MobileNetV2Widths widths, int index) => this with
    {
        Input = Index > 0 ? widths.Stages[Stage - 1] : Stage > 1 ? widths.Stages[Stage - 2] : widths.Stem,
        Hidden = widths.Expanded[index],
        Output = widths.Stages[Stage - 1],
    };

    private static int Width(int channels, MobileNetV2Options options) => Round(channels * options.WidthMultiplier, options);

    private static int Round(double channels, MobileNetV2Options options)
        => ChannelReduction.MakeDivisible(channels, options.RoundingDivisor);
}
