namespace TorchSharp.Attention;

/// <summary>One block of a ResNet in numbers.</summary>
internal sealed record ResNetBlockShape(
    ResNetBlock Kind, int Stage, int Index, int InStage, int Input, int Inner1, int Inner2, int Output, int Stride,
    bool HasProjection)
{
    /// <summary>Every block, in order.</summary>
    public static IEnumerable<ResNetBlockShape> All(ResNetOptions options)
    {
        ResNetWidths widths = options.Widths ?? ResNetWidths.Of(options);
        int input = widths.Stem, block = 0;
        for (int stage = 1; stage <= options.Layers.Count; stage++)
        {
            int output = widths.Stages[stage - 1], inStage = options.Layers[stage - 1];
            for (int i = 0; i < inStage; i++, block++)
            {
                yield return new ResNetBlockShape(
                    options.Block, stage, i, inStage, input, widths.Conv1[block], widths.Conv2?[block] ?? output, output,
                    StrideOf(stage, i), Projects(options, stage, i));
                input = output;
            }
        }
    }

    /// <summary>
    /// Whether the shortcut has a projection: where the planned channels or the size change. Pruned channels have no say, so that
    /// no projection comes or goes when two numbers happen to meet.
    /// </summary>
    public static bool Projects(ResNetOptions options, int stage, int block)
        => StrideOf(stage, block) != 1
            || (stage == 1 && block == 0
                && options.StemWidth != options.PlanesOfStages()[0] * ResidualBlock.Expansion(options.Block));

    private static int StrideOf(int stage, int block) => block == 0 && stage > 1 ? 2 : 1;
}
