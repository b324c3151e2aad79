namespace TorchSharp.Attention;

/// <summary>
/// Channels of a <see cref="ResNet"/> layer by layer, where they are not those of its planes: what pruning leaves
/// (<see cref="GatePruning"/>). A value. Strides and projections stay as <see cref="ResNetOptions.StemWidth"/> and
/// <see cref="ResNetOptions.StagePlanes"/> make them.
/// </summary>
public sealed record ResNetWidths
{
    /// <summary>Channels of the stem.</summary>
    public required int Stem { get; init; }

    /// <summary>Output channels of each stage. A first stage without a projection has the stem's.</summary>
    public required ValueList<int> Stages { get; init; }

    /// <summary>Output channels of the first convolution of each block, in the network's order.</summary>
    public required ValueList<int> Conv1 { get; init; }

    /// <summary>Output channels of the second convolution of each bottleneck, in the network's order; null for basic blocks, whose second convolution ends the block.</summary>
    public ValueList<int>? Conv2 { get; init; }

    /// <summary>The channels that follow from planes.</summary>
    internal static ResNetWidths Of(ResNetOptions options)
    {
        ValueList<int> planes = options.PlanesOfStages();
        ValueList<int> blocks = ValueList.Create<int>([.. options.Layers.SelectMany((count, stage) => Enumerable.Repeat(planes[stage], count))]);
        return new ResNetWidths
        {
            Stem = options.StemWidth,
            Stages = ValueList.Create<int>([.. planes.Select(p => p * ResidualBlock.Expansion(options.Block))]),
            Conv1 = blocks,
            Conv2 = options.Block == ResNetBlock.Bottleneck ? blocks : null,
        };
    }

    internal void Validate(ResNetOptions options)
    {
        Check.Positive(Stem);
        Check.Widths(Stages, options.Layers.Count, "stages");
        Check.Widths(Conv1, options.Layers.Sum(), "blocks");
        if (options.Block == ResNetBlock.Bottleneck) Check.Widths(Conv2, options.Layers.Sum(), "blocks");
        else if (Conv2 is not null) throw new ArgumentException($"Conv2 is {Conv2}, but basic blocks have no inner second convolution. Leave it null.", nameof(Conv2));
        if (!ResNetBlockShape.Projects(options, 1, 0) && Stages[0] != Stem)
        {
            throw new ArgumentException(
                $"Stages[0] is {Stages[0]} and Stem is {Stem}; the first stage has no projection, so its blocks add to the stem's map. Make them equal.", nameof(Stages));
        }
    }
}

/// <summary>One block of a ResNet in numbers.</summary>
internal sealed record ResNetBlockShape(
    ResNetBlock Kind, int Stage, int Index, int InStage, int Input, int Inner1, int Inner2, int Output, int Stride, bool HasProjection)
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
                    options.Block, stage, i, inStage, input, widths.Conv1[block], widths.Conv2?[block] ?? output, output, StrideOf(stage, i), Projects(options, stage, i));
                input = output;
            }
        }
    }

    /// <summary>
    /// Whether the shortcut has a projection: where the planned channels or the size change. Pruned channels have no say, so that no projection
    /// comes or goes when two numbers happen to meet.
    /// </summary>
    public static bool Projects(ResNetOptions options, int stage, int block)
        => StrideOf(stage, block) != 1 || (stage == 1 && block == 0 && options.StemWidth != options.PlanesOfStages()[0] * ResidualBlock.Expansion(options.Block));

    private static int StrideOf(int stage, int block) => block == 0 && stage > 1 ? 2 : 1;
}
