namespace TorchSharp.Attention;

/// <summary>A dimension of a parameter or buffer that runs along the channels of the map.</summary>
/// <param name="Name">Its key in the module's state dictionary: <c>fc1.weight</c>.</param>
/// <param name="Dimension">The dimension, from 0.</param>
public sealed record ChannelDimension(string Name, int Dimension);
