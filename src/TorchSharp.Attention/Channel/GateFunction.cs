namespace TorchSharp.Attention;

/// <summary>The function that squashes a gate's logits.</summary>
public enum GateFunction
{
    /// <summary>1 / (1 + e^−x).</summary>
    Sigmoid,

    /// <summary>min(max(x + 3, 0), 6) / 6: no exponential, for phones (Howard et al., 2019, arXiv:1905.02244).</summary>
    HardSigmoid,
}
