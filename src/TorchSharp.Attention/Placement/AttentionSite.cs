namespace TorchSharp.Attention;

/// <summary>One place of a network where an attention can stand.</summary>
/// <param name="Position">The kind of place.</param>
/// <param name="Stage">Stage or level, from 1, as in <c>layer1</c>.</param>
/// <param name="Block">Block within the stage, from 0, as in <c>layer1.0</c>; 0 where the stage as a whole is meant.</param>
/// <param name="BlocksInStage">Number of blocks in the stage.</param>
/// <param name="Channels">Channels of the map at this place.</param>
public sealed record AttentionSite(AttentionPosition Position, int Stage, int Block, int BlocksInStage, int Channels)
{
    /// <summary>Channels of the map that can steer a guided attention here, or null where there is none.</summary>
    public int? GuideChannels { get; init; }

    /// <summary>Channels of the output where the attention replaces a convolution; null where it refines a map.</summary>
    public int? OutputChannels { get; init; }

    /// <summary>Stride of the convolution that is replaced here; 1 elsewhere.</summary>
    public int Stride { get; init; } = 1;

    /// <summary>
    /// Groups of the convolution that is replaced here; as many as channels where it is depthwise. 1 elsewhere.
    /// </summary>
    public int Groups { get; init; } = 1;

    /// <summary>Activation after the convolution that is replaced here and its norm. Default ReLU.</summary>
    public GateActivation Activation { get; init; } = GateActivation.ReLU;

    /// <summary>The convolution that is replaced here; null where the attention refines a map.</summary>
    public ConvolutionSpec? Convolution => OutputChannels is int output
        ? new ConvolutionSpec(Channels, output, Stride) { Groups = Groups, Activation = Activation }
        : null;

    /// <summary>True for the last block of its stage.</summary>
    public bool IsLastBlock => Block == BlocksInStage - 1;

    /// <summary>For messages: <c>stage 3, block 0, BeforeAdd (256 channels)</c>.</summary>
    public override string ToString() => $"stage {Stage}, block {Block}, {Position} ({Channels} channels)";
}
