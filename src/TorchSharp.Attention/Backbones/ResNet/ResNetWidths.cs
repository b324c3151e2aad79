namespace TorchSharp.Attention;

/// <summary>
/// The channels of a <see cref="ResNet"/> layer by layer, if they differ from those of its planes, as after pruning
/// (<see cref="GatePruning"/>). An immutable record. The strides and projections are still those of
/// <see cref="ResNetOptions.StemWidth"/> and <see cref="ResNetOptions.StagePlanes"/>.
/// </summary>
public sealed record ResNetWidths
{
    /// <summary>Channels of the stem.</summary>
    public required int Stem { get; init; }

    /// <summary>Output channels of each stage. A first stage without a projection has the stem's.</summary>
    public required ValueList<int> Stages { get; init; }

    /// <summary>Output channels of the first convolution of each block, in the network's order.</summary>
    public required ValueList<int> Conv1 { get; init; }

    /// <summary>
    /// Output channels of the second convolution of each bottleneck, in the network's order; null for basic blocks,
    /// whose second convolution ends the block.
    /// </summary>
    public ValueList<int>? Conv2 { get; init; }

    /// <summary>The channels that follow from planes.</summary>
    internal static ResNetWidths Of(ResNetOptions options)
    {
        ValueList<int> planes = options.PlanesOfStages();
        ValueList<int> blocks = ValueList.Create<int>(
            [.. options.Layers.SelectMany((count, stage) => Enumerable.Repeat(planes[stage], count))]);
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
        else if (Conv2 is not null)
        {
            throw new ArgumentException(
                $"Conv2 is {Conv2}, but basic blocks have no inner second convolution. Leave it null.", nameof(Conv2));
        }

        if (!ResNetBlockShape.Projects(options, 1, 0) && Stages[0] != Stem)
        {
            throw new ArgumentException(
                $"Stages[0] is {Stages[0]} and Stem is {Stem}; the first stage has no projection, so its blocks add to the " +
                "stem's map. Make them equal.", nameof(Stages));
        }
    }
}
