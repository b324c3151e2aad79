namespace TorchSharp.Attention;

/// <summary>
/// A gate that the kernels can compute. A gate implements one or more of the interfaces that derive from this one:
/// <see cref="IChannelGate"/>, <see cref="ISpatialGate"/>, <see cref="IGatePair"/>, <see cref="ICombinedGate"/>. All
/// other gates run by libtorch's operations.
/// </summary>
internal interface IFusableGate
{
    /// <summary>The module that implements the interface.</summary>
    GateModule Module => (GateModule)this;
}
