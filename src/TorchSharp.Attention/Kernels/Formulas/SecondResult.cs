namespace TorchSharp.Attention.Kernels;

internal enum SecondResult
{
    None,
    Sum,
    Maximum,
}
