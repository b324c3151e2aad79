namespace TorchSharp.Attention;

/// <summary>What a gate reads of each row and of each column of each channel.</summary>
internal enum StripReads
{
    Nothing,
    Means,
    MeansAndMaxima,
}
