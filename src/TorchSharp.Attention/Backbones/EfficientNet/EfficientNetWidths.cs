namespace TorchSharp.Attention;

/// <summary>
/// The channels of an <see cref="EfficientNet"/> layer by layer, if they differ from those of its stages, as after pruning
/// (<see cref="GatePruning"/>). An immutable record. The expansions, strides and shortcuts are still those of
/// <see cref="EfficientNetOptions"/>.
/// </summary>
public sealed record EfficientNetWidths
{
    /// <summary>Channels of the first convolution.</summary>
    public required int Stem { get; init; }

    /// <summary>Hidden channels of each block. A block without expansion has as many as its input.</summary>
    public required ValueList<int> Hidden { get; init; }

    /// <summary>Width of the squeeze-and-excitation of each block. Blocks without one have an entry too.</summary>
    public required ValueList<int> Squeezed { get; init; }

    /// <summary>Output channels of each stage.</summary>
    public required ValueList<int> Stages { get; init; }

    /// <summary>Channels of the last 1×1 convolution, before the classifier.</summary>
    public required int Last { get; init; }

    /// <summary>The channels of options: their own, or those that follow from the stages.</summary>
    internal static EfficientNetWidths Of(EfficientNetOptions options)
    {
        if (options.Widths is { } widths) return widths;
        EfficientNetBlock[] blocks = [.. EfficientNetBlock.Planned(options)];
        return new EfficientNetWidths
        {
            Stem = EfficientNetBlock.Width(options.Stem, options.WidthMultiplier),
            Hidden = ValueList.Create<int>([.. blocks.Select(block => block.Hidden)]),
            Squeezed = ValueList.Create<int>([.. blocks.Select(block => block.Squeezed)]),
            Stages = ValueList.Create<int>([.. blocks.Where(block => block.Index == 0).Select(block => block.Output)]),
            Last = options.Last ?? 4 * blocks[^1].Output,
        };
    }

    internal void Validate(EfficientNetOptions options)
    {
        EfficientNetBlock[] planned = [.. EfficientNetBlock.Planned(options)];
        Check.Positive(Stem);
        Check.Positive(Last);
        Check.Widths(Hidden, planned.Length, "blocks");
        Check.Widths(Squeezed, planned.Length, "blocks");
        Check.Widths(Stages, options.Stages.Count, "stages");
        foreach ((EfficientNetBlock block, int i) in EfficientNetBlock.All(options).Select((block, i) => (block, i)))
        {
            if (!block.Expands && block.Hidden != block.Input)
            {
                throw new ArgumentException(
                    $"Hidden[{i}] is {block.Hidden} and the block's input has {block.Input} channels; it has no expansion. " +
                    "Make them equal.", nameof(Hidden));
            }

            if (block.HasShortcut && block.Input != block.Output)
            {
                throw new ArgumentException(
                    $"Stages[{block.Stage - 1}] is {block.Output} and the block's input has {block.Input} channels, but it " +
                    "adds the two. Make them equal.", nameof(Stages));
            }
        }
    }
}
