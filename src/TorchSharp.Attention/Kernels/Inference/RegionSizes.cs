namespace TorchSharp.Attention.Kernels;

/// <summary>The sizes that a <see cref="RegionPlan"/> follows from: the map, and what the gate computes of it.</summary>
internal readonly record struct RegionSizes
{
    /// <summary>Samples of the map.</summary>
    public int Batch { get; init; }

    public int Channels { get; init; }

    public int Positions { get; init; }

    /// <summary>Whether the channels of a position lie side by side: then a row is a position, otherwise a channel.</summary>
    public bool IsChannelsLast { get; init; }

    /// <summary>Outputs of the widest layer between pooled channels and their gate.</summary>
    public int Widest { get; init; }

    /// <summary>Whether the gate reads channels.</summary>
    public bool Channel { get; init; }

    /// <summary>Whether the gate reads positions.</summary>
    public bool Spatial { get; init; }

    public int Rows => IsChannelsLast ? Positions : Channels;

    public int Columns => IsChannelsLast ? Channels : Positions;

    /// <summary>Whether sums go down columns, so that several threads hold parts of one sum.</summary>
    public bool HasParts => IsChannelsLast ? Channel : Spatial;
}
