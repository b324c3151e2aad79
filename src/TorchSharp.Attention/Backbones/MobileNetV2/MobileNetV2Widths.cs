namespace TorchSharp.Attention;

/// <summary>
/// The channels of a <see cref="MobileNetV2"/> layer by layer, if they differ from those of its table, as after pruning
/// (<see cref="GatePruning"/>). An immutable record. The expansions, strides and shortcuts are still those of the table and
/// <see cref="MobileNetV2Options.WidthMultiplier"/>.
/// </summary>
public sealed record MobileNetV2Widths
{
    /// <summary>Channels of the stem.</summary>
    public required int Stem { get; init; }

    /// <summary>Expanded channels of each of the 17 blocks. A block without expansion has as many as its input.</summary>
    public required ValueList<int> Expanded { get; init; }

    /// <summary>Output channels of each of the seven stages.</summary>
    public required ValueList<int> Stages { get; init; }

    /// <summary>Channels of the last 1×1 convolution, before the classifier.</summary>
    public required int Last { get; init; }
}
