namespace TorchSharp.Attention;

/// <summary>A level of a U-Net above the bottleneck.</summary>
/// <param name="Reduction">How many times smaller than the image its map is.</param>
/// <param name="Width">Channels of its decoder.</param>
/// <param name="SkipChannels">Channels of its skip connection; 0 where there is none.</param>
/// <param name="Feature">Index of its map among the encoder's; null where there is none.</param>
/// <param name="Stride">How many times smaller the next level's map is.</param>
internal sealed record UNetLevel(int Reduction, int Width, int SkipChannels, int? Feature, int Stride = 2)
{
    /// <summary>
    /// Whether the level has a map whose size its own takes: the encoder's, or the image at the
    /// finest. Other levels double the deeper map.
    /// </summary>
    public bool IsFitted => Feature is not null || Reduction == 1;
}
