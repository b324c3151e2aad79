namespace TorchSharp.Attention.Kernels;

/// <summary>What happens between two barriers.</summary>
internal enum GatePhase : byte
{
    MergeChannels,
    Step,
    PoolPositions,
    MergePositions,
    Convolve,
    Apply,
}
