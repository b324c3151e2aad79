namespace TorchSharp.Attention.Kernels;

/// <summary>Where a sample's merged sums and maxima go.</summary>
internal interface IPlaces
{
    bool HasMaxima { get; }

    long Sums(in RegionShare share, int sample);

    long Maxima(in RegionShare share, int sample);
}

/// <summary>Among the pooled channels, with or without maxima.</summary>
internal readonly struct ChannelPlaces(bool maxima) : IPlaces
{
    public bool HasMaxima { get; } = maxima;

    public long Sums(in RegionShare share, int sample) => share.Means(sample);

    public long Maxima(in RegionShare share, int sample) => share.Maxima(sample);
}

/// <summary>Among the pooled positions.</summary>
internal readonly struct PositionPlaces : IPlaces
{
    public bool HasMaxima => true;

    public long Sums(in RegionShare share, int sample) => share.Map(sample);

    public long Maxima(in RegionShare share, int sample) => share.MaximaOfMap(sample);
}
