namespace TorchSharp.Attention;

/// <summary>What a gate reads of each channel of a map.</summary>
[Flags]
internal enum ChannelStatistics
{
    Nothing = 0,
    Mean = 1,
    Maximum = 2,
    SquaredDeviations = 4,
    Squares = 8,
    Magnitudes = 16,
}
