namespace TorchSharp.Attention.Kernels;

/// <summary>What follows a layer, element by element.</summary>
internal enum ElementFunction
{
    None,
    Sigmoid,
    HardSigmoid,
    ReLU,
    ReLU6,
    SiLU,
    HardSwish,
}
