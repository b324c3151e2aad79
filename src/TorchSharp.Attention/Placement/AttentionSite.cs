namespace TorchSharp.Attention;

/// <summary>One place of a network that can take an attention.</summary>
/// <param name="Position">The kind of place.</param>
/// <param name="Stage">Stage or level, from 1, as in <c>layer1</c>.</param>
/// <param name="Block">Block within the stage, from 0, as in <c>layer1.0</c>; 0 where the stage as a whole is meant.</param>
/// <param name="BlocksInStage">Number of blocks in the stage.</param>
/// <param name="Channels">Channels of the map at this place.</param>
public sealed record AttentionSite(AttentionPosition Position, int Stage, int Block, int BlocksInStage, int Channels)
{
    /// <summary>Channels of the guide for a guided attention at this site. Null if the site has no guide.</summary>
    public int? GuideChannels { get; init; }

    /// <summary>
    /// Output channels of the convolution that is replaced at this site. Null if the attention refines a map instead.
    /// </summary>
    public int? OutputChannels { get; init; }

    /// <summary>Stride of the convolution that is replaced at this site; 1 if none is replaced.</summary>
    public int Stride { get; init; } = 1;

    /// <summary>
    /// Groups of the convolution that is replaced at this site, one per channel if it is depthwise; 1 if none is replaced.
    /// </summary>
    public int Groups { get; init; } = 1;

    /// <summary>Activation after the convolution that is replaced at this site and after its norm. Default ReLU.</summary>
    public GateActivation Activation { get; init; } = GateActivation.ReLU;

    /// <summary>The convolution that is replaced at this site. Null if the attention refines a map instead.</summary>
    public ConvolutionSpec? Convolution => OutputChannels is int output
        ? new ConvolutionSpec(Channels, output, Stride) { Groups = Groups, Activation = Activation }
        : null;

    /// <summary>Whether this is the last block of its stage.</summary>
    public bool IsLastBlock => Block == BlocksInStage - 1;

    /// <summary>Formats the site for messages: <c>stage 3, block 0, BeforeAdd (256 channels)</c>.</summary>
    public override string ToString() => $"stage {Stage}, block {Block}, {Position} ({Channels} channels)";
}
